#include "agent/link.h"

#include "agent/config.h"
#include "agent/hooks.h"
#include "agent/slot.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_TIMEOUT 3600.0

static bool is_folder(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_there(const char *path)
{
    struct stat st;

    return lstat(path, &st) == 0;
}

/* From the folder of `from` to `to`, both real paths: the link means the same inside the root. */
static char *relative(const char *from, const char *to)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    size_t same = 0;

    for (size_t i = 0; from[i] && from[i] == to[i]; i++)
        if (from[i] == '/')
            same = i + 1;
    for (const char *p = from + same; (p = strchr(p, '/')); p++)
        buf_add_str(&text, "../");
    buf_add_str(&text, to + same);
    return buf_take(&text);
}

static enum link_stands look_at(const char *path, const char *target)
{
    _cleanup_free_ char *leads = NULL;
    int r = file_readlink(AT_FDCWD, path, &leads);

    if (r == -ENOENT)
        return LINK_NOTHING;
    if (r == 0)
        return strcmp(leads, target) == 0 ? LINK_OURS : LINK_FOREIGN;
    return is_folder(path) ? LINK_CONTENT : LINK_FOREIGN;
}

int link_look(const struct paths *paths, const struct config_product *config, const char *dir,
              struct link *ret, struct error *error)
{
    _cleanup_free_ char *payload = path_join(dir, "current/payload");
    const char *inside;
    int r;

    *ret = (struct link){.paths = paths};
    if (!config->link)
        return 0;
    r = paths_resolve(paths, config->link, &ret->real, error);
    if (r < 0)
        return error_prefix(error, r, "link");
    ret->path = config->link;
    ret->target = relative(ret->real, payload);
    ret->aside = xasprintf("%.*s.%s.maeslant", (int)(strrchr(ret->real, '/') + 1 - ret->real),
                           ret->real, strrchr(ret->real, '/') + 1);
    ret->kept = path_join(dir, "diverted");
    ret->original = path_join(ret->kept, "original");
    ret->package = path_join(ret->kept, "package");
    ret->done = path_join(ret->kept, "made");
    inside = paths_inside(paths, ret->package);
    ret->inside = xstrdup(inside ? inside : ret->package);
    ret->stands = look_at(ret->real, ret->target);
    ret->made = is_there(ret->done);
    ret->has_original = is_folder(ret->original);
    return 0;
}

void link_free(struct link *link)
{
    free(link->real);
    free(link->target);
    free(link->aside);
    free(link->kept);
    free(link->original);
    free(link->package);
    free(link->done);
    free(link->inside);
    *link = (struct link){0};
}

int link_owned(const struct link *link, struct owned *ret, struct error *error)
{
    const char *content = link->stands == LINK_CONTENT ? link->real
                          : link->has_original         ? link->original
                                                       : link->aside;
    const char *real = paths_inside(link->paths, link->real);
    int r = owned_find(link->paths, link->path, content, ret, error);

    /* dpkg may know it by the name that it has behind a link. */
    if (r == 0 && ret->count == 0 && real && strcmp(real, link->path) != 0)
        r = owned_find(link->paths, real, content, ret, error);
    return r;
}

int link_folders(const struct link *link, const char *payload, struct owned *ret,
                 struct error *error)
{
    const char *real = paths_inside(link->paths, link->real);
    int r = owned_folders(link->paths, link->path, payload, ret, error);

    if (r == 0 && ret->count == 0 && real && strcmp(real, link->path) != 0)
        r = owned_folders(link->paths, real, payload, ret, error);
    return r;
}

void link_tidy(const struct link *link, const char *dir, const char *release)
{
    _cleanup_free_ char *slot = slot_path(dir, release);
    _cleanup_free_ char *payload = path_join(slot, "payload");
    struct owned folders = OWNED_INIT;
    bool *gone;

    if (!link->path || !link->made || !slot_exists(dir, release) ||
        slot_verify(dir, release, NULL) == 0 || link_folders(link, payload, &folders, NULL) < 0)
        return;
    gone = xcalloc(folders.count + 1, sizeof(*gone));
    for (size_t i = 0; i < folders.count; i++) {
        _cleanup_free_ char *path = path_join(payload, folders.files[i].below);

        gone[i] = rmdir(path) == 0;
    }
    if (slot_verify(dir, release, NULL) == 0) {
        log_notice("slot-tidied", "%s: empty folders of packages are gone from it", slot);
    } else {
        /* Something else is wrong with it: it is left as it was found. */
        for (size_t i = folders.count; i-- > 0;) {
            _cleanup_free_ char *path = path_join(payload, folders.files[i].below);

            if (gone[i] && mkdir(path, 0755) < 0)
                log_warning("slot-tidied", "%s: cannot be made again: %s", path,
                            strerrordesc_np(errno));
        }
    }
    free(gone);
    owned_free(&folders);
}

static int make_folder_of(const char *path, struct error *error)
{
    _cleanup_free_ char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));

    return dir_make(AT_FDCWD, folder, 0755, error);
}

/* dpkg writes beside the place that a file is diverted to: its folder has to be there. */
static int divert(struct link *link, const struct owned *owned, struct error *error)
{
    int r = 0;

    for (size_t i = 0; i < owned->count && r == 0; i++) {
        const struct owned_file *file = &owned->files[i];
        _cleanup_free_ char *place = path_join(link->package, file->below);
        _cleanup_free_ char *target = path_join(link->inside, file->below);

        r = make_folder_of(place, error);
        if (r == 0)
            r = owned_divert(link->paths, file->path, target, error);
        crash_point("", "link-diverted");
    }
    return r;
}

static int folder_sync_of(const char *path, struct error *error)
{
    _cleanup_free_ char *folder = xstrndup(path, (size_t)(strrchr(path, '/') - path));

    return dir_sync(AT_FDCWD, *folder ? folder : "/", error);
}

/* `real` and `aside` change places in one step: nobody ever finds nothing there. */
static int exchange(const struct link *link, struct error *error)
{
    if (renameat2(AT_FDCWD, link->aside, AT_FDCWD, link->real, RENAME_EXCHANGE) < 0)
        return error_set(error, -errno,
                         "%s: cannot be exchanged with a link in one step: %s; its file system has "
                         "to know RENAME_EXCHANGE, as ext4, xfs, btrfs and tmpfs do",
                         link->real, strerrordesc_np(errno));
    crash_point("", "link-exchanged");
    return folder_sync_of(link->real, error);
}

static int put_link(struct link *link, struct error *error)
{
    int r;

    if (is_folder(link->aside))
        return error_set(error, -EEXIST,
                         "%s stands in the way: expected nothing there; move it away if it is "
                         "nobody's",
                         link->aside);
    r = file_symlink(AT_FDCWD, link->aside, link->target, error);
    crash_point("", "link-beside");
    if (r == 0)
        r = exchange(link, error);
    if (r == 0)
        link->stands = LINK_OURS;
    return r;
}

/* Across file systems: owners, modes and times stay, and the name appears when all is there. */
static int copy_over(const char *from, const char *to, struct error *error)
{
    const struct process_limits limits = {.timeout = COPY_TIMEOUT, .output = 4096};
    _cleanup_free_ char *half = xasprintf("%s.half", to);
    _cleanup_free_ char *source = xstrdup(from);
    char *const argv[] = {
        (char[]){"cp"}, (char[]){"-a"}, (char[]){"-T"}, (char[]){"--"}, source, half, NULL};
    struct process_result result = {0};
    int r = tree_remove(AT_FDCWD, half, error);

    if (r == 0)
        r = process_run(argv, NULL, NULL, NULL, &limits, -1, &result, error);
    if (r == 0 && result.exit_status != 0)
        r = error_set(error, -EIO, "%s cannot be copied to %s: %.*s", from, half,
                      (int)strcspn(result.output.data ? result.output.data : "", "\n"),
                      result.output.data ? result.output.data : "");
    process_result_free(&result);
    if (r == 0)
        r = tree_sync(AT_FDCWD, half, error);
    if (r == 0)
        r = file_rename(AT_FDCWD, half, to, error);
    return r;
}

/* Also when a copy was cut after its last step: `to` is whole then. */
static int move_folder(const char *from, const char *to, struct error *error)
{
    int r = 0;

    if (!is_folder(from))
        return 0;
    if (!is_folder(to)) {
        r = file_rename(AT_FDCWD, from, to, error);
        if (r == -EXDEV)
            r = copy_over(from, to, error);
    }
    crash_point("", "link-moved");
    return r == 0 ? tree_remove(AT_FDCWD, from, error) : r;
}

/* dpkg looks for its files where they are diverted to. */
static int give_to_packages(struct link *link, const struct owned *owned, struct error *error)
{
    int r = 0;

    for (size_t i = 0; i < owned->count && r == 0; i++) {
        _cleanup_free_ char *from = path_join(link->original, owned->files[i].below);
        _cleanup_free_ char *to = path_join(link->package, owned->files[i].below);

        if (is_there(from) && !is_there(to)) /* else an upgrade came in between */
            r = file_rename(AT_FDCWD, from, to, error);
    }
    crash_point("", "link-given");
    return r;
}

static int make(struct link *link, struct error *error)
{
    struct owned owned = OWNED_INIT;
    int r = link_owned(link, &owned, error);

    if (r == 0)
        r = divert(link, &owned, error);
    if (r == 0 && link->stands == LINK_CONTENT)
        r = put_link(link, error);
    if (r == 0 && link->stands == LINK_NOTHING) {
        r = file_symlink(AT_FDCWD, link->real, link->target, error);
        link->stands = r == 0 ? LINK_OURS : link->stands;
    }
    if (r == 0)
        r = move_folder(link->aside, link->original, error);
    if (r == 0)
        r = give_to_packages(link, &owned, error);
    owned_free(&owned);
    if (r == 0)
        r = file_write(AT_FDCWD, link->done, link->path, strlen(link->path), 0600, error);
    crash_point("", "link-made");
    return r;
}

int link_make(struct link *link, struct error *error)
{
    _cleanup_fd_ int lock = -1;
    int r;

    if (!link->path || (link->stands == LINK_OURS && link->made))
        return 0;
    if (link->stands == LINK_FOREIGN)
        return error_set(error, -EEXIST,
                         "link: %s is a file or a link to elsewhere: expected the folder that the "
                         "product reads, or nothing",
                         link->real);
    if (link->stands == LINK_CONTENT && link->has_original)
        return error_set(error, -EEXIST,
                         "link: %s is a folder again, though its content was taken in before: move "
                         "it away, or maeslant-agent remove the product",
                         link->real);
    r = owned_lock(link->paths, &lock, error);
    if (r == 0)
        r = dir_make(AT_FDCWD, link->kept, 0700, error);
    if (r == 0)
        r = dir_make(AT_FDCWD, link->package, 0755, error);
    /* The product reads through these folders, whoever it runs as; what is secret in the state has
     * a mode of its own. */
    if (r == 0 && chmod(link->paths->state, 0711) < 0)
        r = error_set(error, -errno, "%s: cannot set its mode: %s", link->paths->state,
                      strerrordesc_np(errno));
    if (r == 0)
        r = make(link, error);
    if (r == 0)
        log_notice("linked", "%s leads to the current slot", link->path);
    return r;
}

/* What packages wrote while they were diverted is what they would have written here. */
static int take_from_packages(struct link *link, const struct owned *diverted, const char *folder,
                              struct error *error)
{
    int r = 0;

    for (size_t i = 0; i < diverted->count && r == 0; i++) {
        _cleanup_free_ char *from = path_join(link->package, diverted->files[i].below);
        _cleanup_free_ char *to = path_join(folder, diverted->files[i].below);

        if (!is_there(from))
            continue;
        r = make_folder_of(to, error);
        if (r == 0)
            r = file_rename(AT_FDCWD, from, to, error);
    }
    crash_point("", "restore-taken");
    return r;
}

static int put_back(struct link *link, const struct owned *diverted, struct error *error)
{
    int r = 0;

    if (!is_folder(link->aside) && !link->has_original && diverted->count == 0)
        return file_unlink(AT_FDCWD, link->real, error);
    if (!is_folder(link->aside)) {
        r = file_unlink(AT_FDCWD, link->aside, error);
        if (r == 0 && !link->has_original)
            r = dir_make(AT_FDCWD, link->original, 0755, error);
    }
    if (r == 0)
        r = take_from_packages(link, diverted,
                               is_folder(link->aside) ? link->aside : link->original, error);
    if (r == 0)
        r = move_folder(link->original, link->aside, error);
    return r == 0 ? exchange(link, error) : r;
}

int link_restore(struct link *link, struct error *error)
{
    struct owned diverted = OWNED_INIT;
    _cleanup_fd_ int lock = -1;
    int r;

    if (!link->path || !is_folder(link->kept))
        return 0;
    r = owned_lock(link->paths, &lock, error);
    /* What was cut on its way here arrives first: the way back knows only whole steps. */
    if (r == 0 && link->stands == LINK_OURS && !link->made) {
        r = make(link, error);
        link->has_original = is_folder(link->original);
    }
    if (r == 0)
        r = owned_diverted(link->paths, link->inside, &diverted, error);
    if (r == 0 && link->stands == LINK_NOTHING && (link->has_original || diverted.count > 0)) {
        r = file_symlink(AT_FDCWD, link->real, link->target, error);
        link->stands = LINK_OURS;
    }
    if (r == 0 && link->stands == LINK_OURS)
        r = put_back(link, &diverted, error);
    else if (r == 0 && link->stands == LINK_CONTENT)
        r = take_from_packages(link, &diverted, link->real, error);
    for (size_t i = 0; i < diverted.count && r == 0; i++)
        r = owned_undivert(link->paths, diverted.files[i].path, error);
    crash_point("", "restore-undiverted");
    owned_free(&diverted);
    if (r == 0 && !is_folder(link->aside))
        r = file_unlink(AT_FDCWD, link->aside, error);
    return r == 0 ? tree_remove(AT_FDCWD, link->kept, error) : r;
}
