#include "agent/bundle.h"

#include "agent/command-common.h"
#include "agent/journal.h"
#include "agent/redact.h"
#include "agent/slot.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "base/yaml.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define FILE_MAX ((size_t)1024 * 1024)
#define LOG_MAX ((size_t)256 * 1024)
#define DOCTOR_PATIENCE 120.0
#define FOLDER "maeslant-support/"

struct bundle {
    const struct bundle_options *options;
    struct paths paths;
    struct config config; /* empty when it does not parse */
    struct redactor redactor;
    struct archive *archive;
    struct buf troubles; /* parts that could not be had */
    int64_t now;         /* Unix seconds */
};

static void trouble(struct bundle *bundle, const char *part, const char *why)
{
    buf_addf(&bundle->troubles, "%s: %s\n", part, why);
}

/* Every text goes through here, and so through the redactor. */
static void add(struct bundle *bundle, const char *name, const char *text, size_t len)
{
    _cleanup_free_ char *path = xasprintf(FOLDER "%s", name);
    _cleanup_buf_ struct buf clean = BUF_INIT;
    struct archive_entry *entry = archive_entry_new();

    redact_text(&bundle->redactor, text, len, &clean);
    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0600);
    archive_entry_set_mtime(entry, bundle->now, 0);
    archive_entry_set_size(entry, (la_int64_t)clean.len);
    if (archive_write_header(bundle->archive, entry) != ARCHIVE_OK ||
        (clean.len > 0 && archive_write_data(bundle->archive, clean.data, clean.len) < 0))
        trouble(bundle, name, archive_error_string(bundle->archive));
    archive_entry_free(entry);
}

static void add_file(struct bundle *bundle, const char *name, const char *path)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct error error = ERROR_INIT;
    int r = file_read(AT_FDCWD, path, FILE_MAX, &text, &error);

    if (r == 0)
        add(bundle, name, text.len ? text.data : "", text.len);
    else if (r != -ENOENT)
        trouble(bundle, name, error.text);
}

static void add_command(struct bundle *bundle, const char *name, char *const *argv, double timeout,
                        size_t most)
{
    struct process_limits limits = {.timeout = timeout, .output = most, .keep_last = true};
    struct process_result result = {0};
    struct error error = ERROR_INIT;
    char how[128];
    int r = process_run(argv, NULL, NULL, NULL, &limits, -1, &result, &error);

    if (r < 0) {
        trouble(bundle, name, error.text);
        return;
    }
    if (result.timed_out || result.exit_status != 0) {
        process_describe(&result, how, sizeof(how));
        trouble(bundle, name, how);
    }
    add(bundle, name, result.output.len ? result.output.data : "", result.output.len);
    process_result_free(&result);
}

/* What the files hold that the configuration names as secrets, so that they are found elsewhere. */
static void learn_secrets(struct bundle *bundle)
{
    const char *const named[] = {bundle->config.proxy_auth_file, bundle->config.token_file};
    _cleanup_free_ char *key = path_join(bundle->paths.state, "device.key");
    _cleanup_buf_ struct buf text = BUF_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(named); i++) {
        _cleanup_free_ char *path = named[i] ? paths_below(&bundle->paths, named[i]) : NULL;

        buf_clear(&text);
        if (path && file_read(AT_FDCWD, path, 4096, &text, NULL) == 0 && text.len > 0)
            redactor_add(&bundle->redactor, text.data);
    }
    buf_clear(&text);
    if (file_read(AT_FDCWD, key, 4096, &text, NULL) == 0 && text.len > 0) {
        const char *secret = strrchr(text.data, ' ');

        if (secret)
            redactor_add(&bundle->redactor, secret + 1);
    }
}

static void add_config(struct bundle *bundle)
{
    _cleanup_free_ char *path = path_join(bundle->paths.etc, "agent.yaml");
    _cleanup_buf_ struct buf text = BUF_INIT;
    _cleanup_json_ json_t *value = NULL;
    _cleanup_json_ json_t *clean = NULL;
    _cleanup_free_ char *shown = NULL;
    struct error error = ERROR_INIT;

    if (file_read(AT_FDCWD, path, FILE_MAX, &text, &error) < 0) {
        trouble(bundle, "agent.yaml", error.text);
        return;
    }
    if (yaml_parse(text.len ? text.data : "", text.len, &value, &error) < 0) {
        trouble(bundle, "agent.yaml", error.text);
        add(bundle, "agent.yaml", text.len ? text.data : "", text.len);
        return;
    }
    clean = redact_json(&bundle->redactor, value);
    shown = yaml_text(clean);
    add(bundle, "agent.yaml", shown, strlen(shown));
}

static void add_versions(struct bundle *bundle)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    _cleanup_free_ char *release = paths_below(&bundle->paths, "/etc/os-release");
    _cleanup_free_ char *real = realpath(release, NULL);
    struct utsname name;
    char boot[37] = "unknown", at[25];

    (void)boot_id(boot);
    clock_format(bundle->now * 1000, at);
    buf_addf(&text, "maeslant-agent %s\nmade %s\nboot %s\nas user %u\n", MAESLANT_VERSION, at, boot,
             geteuid());
    if (uname(&name) == 0)
        buf_addf(&text, "kernel %s %s %s %s\n", name.sysname, name.release, name.version,
                 name.machine);
    if (real)
        (void)file_read(AT_FDCWD, real, 8192, &text, NULL);
    add(bundle, "versions.txt", text.data, text.len);
}

static void add_folder_names(struct bundle *bundle, const char *path, const char *part,
                             struct buf *ret)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    if (!folder) {
        if (errno != ENOENT)
            trouble(bundle, part, strerrordesc_np(errno));
        return;
    }
    while ((entry = readdir(folder)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            buf_addf(ret, "  %s\n", entry->d_name);
    (void)closedir(folder);
}

static void add_product(struct bundle *bundle, const char *product)
{
    static const char *const files[] = {"journal", "journal.damaged", "watch"};
    static const char *const links[] = {"current", "previous"};
    _cleanup_free_ char *dir = path_join(bundle->paths.state, product);
    _cleanup_free_ char *slots = path_join(dir, "slots");
    _cleanup_free_ char *layout = xasprintf("%s/layout.txt", product);
    _cleanup_buf_ struct buf text = BUF_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        _cleanup_free_ char *name = xasprintf("%s/%s", product, files[i]);
        _cleanup_free_ char *path = path_join(dir, files[i]);

        add_file(bundle, name, path);
    }
    for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
        struct error error = ERROR_INIT;
        char release[65];

        if (slot_link(dir, links[i], release, &error) < 0)
            trouble(bundle, product, error.text);
        else
            buf_addf(&text, "%s %s\n", links[i], *release ? release : "-");
    }
    buf_add_str(&text, "slots\n");
    add_folder_names(bundle, slots, layout, &text);
    add(bundle, layout, text.data, text.len);
}

static void add_state(struct bundle *bundle)
{
    static const char *const files[] = {"rejected", "trial", "boots", "snooze"};
    _cleanup_free_ char *status = path_join(bundle->paths.run, "status.json");
    _cleanup_free_ char *outbox = path_join(bundle->paths.state, "outbox");
    _cleanup_buf_ struct buf waiting = BUF_INIT;

    add_file(bundle, "status.json", status);
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        _cleanup_free_ char *path = path_join(bundle->paths.state, files[i]);

        add_file(bundle, files[i], path);
    }
    add_folder_names(bundle, outbox, "outbox.txt", &waiting);
    add(bundle, "outbox.txt", waiting.len ? waiting.data : "", waiting.len);
}

static void add_doctor(struct bundle *bundle)
{
    char *const argv[] = {(char *)(uintptr_t) "/proc/self/exe",
                          (char *)(uintptr_t) "doctor",
                          (char *)(uintptr_t) "--root",
                          (char *)(uintptr_t)bundle->options->root,
                          bundle->options->offline ? (char *)(uintptr_t) "--offline" : NULL,
                          NULL};

    add_command(bundle, "doctor.txt", argv, DOCTOR_PATIENCE, LOG_MAX);
}

/* The end of a file, from the first whole line on: half a line might show half a secret. */
static void add_log_file(struct bundle *bundle, const char *path)
{
    _cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    _cleanup_free_ char *text = xmalloc(LOG_MAX);
    struct stat st;
    off_t from;
    ssize_t got;
    const char *start = text;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        trouble(bundle, "log.txt", fd < 0 ? strerrordesc_np(errno) : "it is no file");
        return;
    }
    from = st.st_size > (off_t)LOG_MAX ? st.st_size - (off_t)LOG_MAX : 0;
    got = pread(fd, text, LOG_MAX, from);
    if (got <= 0)
        return;
    if (from > 0) {
        start = memchr(text, '\n', (size_t)got);
        start = start ? start + 1 : text + got;
    }
    add(bundle, "log.txt", start, (size_t)(text + got - start));
}

static void add_log(struct bundle *bundle)
{
    static const char *const words[] = {"journalctl", "--unit=maeslant-agent", "--lines=2000",
                                        "--no-pager", "--output=short-iso",    NULL};
    char *argv[ARRAY_SIZE(words)];

    if (bundle->options->log) {
        add_log_file(bundle, bundle->options->log);
        return;
    }
    if (*bundle->paths.root) {
        trouble(bundle, "log.txt",
                "below a root of its own the log is where it was put: --log FILE");
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        argv[i] = (char *)(uintptr_t)words[i];
    add_command(bundle, "log.txt", argv, 20, LOG_MAX);
}

static la_ssize_t take_bytes(struct archive *archive, void *user, const void *data, size_t len)
{
    buf_add(user, data, len);
    return (la_ssize_t)len;
}

static int fill(struct bundle *bundle)
{
    learn_secrets(bundle);
    add_versions(bundle);
    add_config(bundle);
    add_state(bundle);
    for (size_t i = 0; i < bundle->config.product_count; i++)
        add_product(bundle, bundle->config.products[i].name);
    add_doctor(bundle);
    add_log(bundle);
    if (bundle->troubles.len > 0)
        add(bundle, "troubles.txt", bundle->troubles.data, bundle->troubles.len);
    return archive_write_close(bundle->archive) == ARCHIVE_OK ? 0 : -EIO;
}

int bundle_make(const struct bundle_options *options, struct buf *ret, struct error *error)
{
    struct bundle bundle = {.options = options, .now = clock_ms(CLOCK_REALTIME) / 1000};
    struct error config_error = ERROR_INIT;
    int r = paths_find(options->root, &bundle.paths, error);

    if (r < 0)
        return r;
    if (command_config(&bundle.paths, &bundle.config, &config_error) < 0)
        trouble(&bundle, "configuration", config_error.text);
    bundle.archive = archive_write_new();
    if (!bundle.archive)
        abort();
    /* No padding behind the last frame: it would not be zstd. */
    if (archive_write_set_bytes_in_last_block(bundle.archive, 1) != ARCHIVE_OK ||
        archive_write_add_filter_zstd(bundle.archive) != ARCHIVE_OK ||
        archive_write_set_format_pax_restricted(bundle.archive) != ARCHIVE_OK ||
        archive_write_open(bundle.archive, ret, NULL, take_bytes, NULL) != ARCHIVE_OK)
        r = -EIO;
    else
        r = fill(&bundle);
    if (r < 0)
        (void)error_set(error, r, "the bundle cannot be made: %s",
                        archive_error_string(bundle.archive));
    (void)archive_write_free(bundle.archive);
    redactor_free(&bundle.redactor);
    buf_free(&bundle.troubles);
    config_free(&bundle.config);
    paths_free(&bundle.paths);
    return r;
}
