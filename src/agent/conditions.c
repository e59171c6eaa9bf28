#include "agent/conditions.h"

#include "agent/client.h"
#include "agent/slot.h"
#include "agent/snooze.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

/* Is a lock held on this file? Its owner may keep it from us, but the kernel lists every lock by
 * device and inode (proc_locks(5)). */
static bool lock_listed(const char *path)
{
    _cleanup_free_ char *wanted = NULL;
    char line[256];
    bool found = false;
    struct stat st;
    FILE *locks;

    if (stat(path, &st) < 0)
        return false;
    wanted = xasprintf(" %02x:%02x:%llu ", major(st.st_dev), minor(st.st_dev),
                       (unsigned long long)st.st_ino);
    locks = fopen("/proc/locks", "re");
    while (locks && !found && fgets(line, sizeof(line), locks))
        found = strstr(line, wanted) != NULL;
    if (locks)
        (void)fclose(locks);
    return found;
}

/* dpkg and apt hold a POSIX lock on this file during a transaction. */
static bool packages_busy(const struct paths *paths)
{
    _cleanup_free_ char *path = paths_below(paths, "/var/lib/dpkg/lock-frontend");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0) {
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        lock.l_type = F_RDLCK;
    }
    if (fd < 0)
        return errno == EACCES && lock_listed(path);
    return fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static bool reboot_pending(const struct paths *paths)
{
    _cleanup_free_ char *run = paths_below(paths, "/run/reboot-required");
    _cleanup_free_ char *var = paths_below(paths, "/var/run/reboot-required");

    return access(run, F_OK) == 0 || access(var, F_OK) == 0;
}

static bool outside_windows(const struct config_product *config)
{
    time_t now = time(NULL);
    struct tm local;

    if (!config->windows[0] || !localtime_r(&now, &local))
        return false;
    for (char *const *window = config->windows; *window; window++) {
        bool inside = false;

        if (window_contains(*window, &local, &inside, NULL) == 0 && inside)
            return false;
    }
    return true;
}

const char *condition_now(struct product *product, bool emergency)
{
    struct agent *agent = product->agent;

    if (boottime() < agent->config.settle_after_boot)
        return "settling";
    if (snooze_until(&agent->paths, agent->config.snooze_max, clock_ms(CLOCK_REALTIME), emergency) >
        0)
        return "snoozed";
    if (outside_windows(product->config))
        return "window";
    if (packages_busy(&agent->paths))
        return "package-transaction";
    if (reboot_pending(&agent->paths))
        return "reboot-pending";
    return "";
}

static bool listed(char *const *list, const char *name)
{
    for (; list && *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

/* What the other products' running releases provide. */
static void add_of_products(struct product *product, json_t *provided)
{
    struct agent *agent = product->agent;

    for (size_t i = 0; i < agent->product_count; i++) {
        struct product *other = &agent->products[i];
        struct manifest manifest;
        char current[65];

        if (other == product || slot_link(other->dir, "current", current, NULL) < 0 || !*current ||
            slot_manifest(other->dir, current, &manifest, NULL) < 0)
            continue;
        for (size_t j = 0; j < manifest.provides_count; j++)
            (void)json_object_set_new(provided, manifest.provides[j].name,
                                      json_string(manifest.provides[j].value));
        manifest_free(&manifest);
    }
}

static int check_contract(struct product *product, const struct manifest *manifest,
                          struct error *error)
{
    const struct config_product *config = product->config;
    _cleanup_json_ json_t *provided = json_object();
    _cleanup_free_ struct pair_text *pairs = NULL;
    const char *name;
    json_t *value;
    size_t count = 0;

    add_of_products(product, provided);
    for (size_t i = 0; i < config->provides_count; i++)
        (void)json_object_set_new(provided, config->provides[i].name,
                                  json_string(config->provides[i].value));
    if (config->provides_exec) {
        int r = json_of_command(config->provides_exec, provided, error);

        if (r < 0)
            return r;
    }
    pairs = xcalloc(json_object_size(provided) + 1, sizeof(*pairs));
    json_object_foreach(provided, name, value) pairs[count++] =
        (struct pair_text){(char *)(uintptr_t)name, (char *)(uintptr_t)json_string_value(value)};
    return contract_check(manifest, pairs, count, error);
}

static bool excluded(struct product *product, const struct manifest *manifest, struct error *error)
{
    _cleanup_json_ json_t *attributes = client_attributes(&product->agent->config);

    for (size_t i = 0; i < manifest->exclude_count; i++) {
        const char *value =
            json_string_value(json_object_get(attributes, manifest->exclude[i].name));

        if (value && strcmp(value, manifest->exclude[i].value) == 0) {
            (void)error_set(error, -EPERM, "the release excludes %s %s", manifest->exclude[i].name,
                            value);
            return true;
        }
    }
    return false;
}

/* State paths that dpkg's lists name, for `paths_owned_by_packages: refuse`. */
static bool owned_by_packages(const struct product *product, const struct manifest *manifest)
{
    static const char *const folders[] = {"/usr/", "/bin/", "/sbin/", "/lib/", "/lib64/"};

    if (!product->config->refuse_package_paths)
        return false;
    for (char *const *path = manifest->state_paths; path && *path; path++)
        for (size_t i = 0; i < ARRAY_SIZE(folders); i++)
            if (strncmp(*path, folders[i], strlen(folders[i])) == 0 &&
                strncmp(*path, "/usr/local/", 11) != 0)
                return true;
    return false;
}

const char *condition_fit(struct product *product, const struct manifest *manifest,
                          struct error *error)
{
    struct check_vars vars;
    char current[65];
    int r;

    for (char *const *permission = manifest->permissions; permission && *permission; permission++) {
        if (listed(product->agent->config.refuse_permissions, *permission)) {
            (void)error_set(error, -EPERM, "this device refuses the permission %s", *permission);
            return "refused-permission";
        }
    }
    if (excluded(product, manifest, error))
        return "excluded";
    if (manifest->on_revert == STATE_IRREVERSIBLE) {
        (void)error_set(error, -EPERM, "its state cannot be taken back, and nobody approved that");
        return "irreversible";
    }
    if (manifest->on_revert == STATE_SNAPSHOT) {
        (void)error_set(error, -ENOTSUP, "this agent takes no snapshots of state");
        return "agent-too-old";
    }
    if (owned_by_packages(product, manifest)) {
        (void)error_set(error, -EPERM, "its state lies where the package manager's files lie");
        return "package-path";
    }
    if (slot_link(product->dir, "current", current, NULL) < 0 ||
        (!*current && !manifest->deactivate)) {
        (void)error_set(error, -ENOENT,
                        "nothing to go back to: give the product `adopt`, or the release a "
                        "`deactivate` command");
        return "no-way-back";
    }
    if (check_contract(product, manifest, error) < 0)
        return "contract";
    product_vars(product, manifest->release, &vars);
    r = check_vars_fit(manifest, &vars, error);
    check_vars_free(&vars);
    return r < 0 ? "contract" : "";
}
