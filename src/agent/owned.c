#include "agent/owned.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ADMIN "/var/lib/dpkg"
#define LIST_MAX ((size_t)64 * 1024 * 1024)
#define DIVERT_TIMEOUT 60.0

void owned_free(struct owned *owned)
{
    for (size_t i = 0; i < owned->count; i++) {
        free(owned->files[i].path);
        free(owned->files[i].below);
        free(owned->files[i].package);
        free(owned->files[i].diverted);
    }
    free(owned->files);
    *owned = (struct owned)OWNED_INIT;
}

static struct owned_file *add(struct owned *owned)
{
    owned->files = xrealloc(owned->files, owned->count + 1, sizeof(*owned->files));
    owned->files[owned->count] = (struct owned_file){0};
    return &owned->files[owned->count++];
}

/* On a merged /usr the same file is /lib/x and /usr/lib/x: both spellings begin at the same tail.
 */
static const char *spelling(const char *path)
{
    static const char *const merged[] = {"/usr/bin", "/usr/sbin", "/usr/lib"};

    for (size_t i = 0; i < ARRAY_SIZE(merged); i++)
        if (strncmp(path, merged[i], strlen(merged[i])) == 0)
            return path + strlen("/usr");
    return path;
}

/* What `path` is below `folder`, NULL when it is not. */
static const char *below(const char *folder, const char *path)
{
    const char *a = spelling(folder), *b = spelling(path);
    size_t len = strlen(a);

    while (len > 0 && a[len - 1] == '/')
        len--;
    return strncmp(a, b, len) == 0 && b[len] == '/' && b[len + 1] ? b + len + 1 : NULL;
}

/* Calls `visit` with every line, without its end. */
static void each_line(char *text, void (*visit)(char *line, void *user), void *user)
{
    char *save = NULL;

    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        visit(line, user);
}

struct search {
    const char *path, *content, *package;
    struct owned *found;
    bool folders;
};

static void visit_entry(char *line, void *user)
{
    struct search *search = user;
    const char *rest = below(search->path, line);
    _cleanup_free_ char *here = rest ? path_join(search->content, rest) : NULL;
    struct owned_file *file;
    struct stat st;

    if (!rest || (lstat(here, &st) == 0 && S_ISDIR(st.st_mode)) != search->folders)
        return;
    file = add(search->found);
    file->path = xstrdup(line);
    file->below = xstrdup(rest);
    file->package = xstrndup(search->package, strcspn(search->package, ":"));
}

/* A folder of a package that is not on the disk: another entry lies below it. */
static void drop_folders(struct owned *owned)
{
    size_t kept = 0;

    for (size_t i = 0; i < owned->count; i++) {
        struct owned_file file = owned->files[i];
        bool folder = false;

        for (size_t j = 0; j < owned->count && !folder; j++)
            folder = j != i && owned->files[j].path && below(file.path, owned->files[j].path);
        if (folder) {
            free(file.path);
            free(file.below);
            free(file.package);
            owned->files[i] = (struct owned_file){0};
        }
    }
    for (size_t i = 0; i < owned->count; i++)
        if (owned->files[i].path)
            owned->files[kept++] = owned->files[i];
    owned->count = kept;
}

struct diversions {
    const struct paths *paths;
    char *lines[3]; /* the file, where it goes, whose: three lines each */
    size_t at;
    const char *into;   /* only these, into `found`; or */
    struct owned *mark; /* fills `diverted` of these */
    struct owned *found;
};

static void visit_diversion(char *line, void *user)
{
    struct diversions *list = user;
    const char *rest;

    list->lines[list->at++] = line;
    if (list->at < 3)
        return;
    list->at = 0;
    for (size_t i = 0; list->mark && i < list->mark->count; i++)
        if (strcmp(spelling(list->mark->files[i].path), spelling(list->lines[0])) == 0 &&
            !list->mark->files[i].diverted)
            list->mark->files[i].diverted = xstrdup(list->lines[1]);
    rest = list->into ? below(list->into, list->lines[1]) : NULL;
    if (rest) {
        struct owned_file *file = add(list->found);

        file->path = xstrdup(list->lines[0]);
        file->below = xstrdup(rest);
        file->diverted = xstrdup(list->lines[1]);
    }
}

static int read_diversions(struct diversions *list, struct error *error)
{
    _cleanup_free_ char *path = paths_below(list->paths, ADMIN "/diversions");
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = access(path, F_OK) < 0 ? -errno : file_read(AT_FDCWD, path, LIST_MAX, &text, error);

    if (r == -ENOENT)
        return 0;
    if (r == 0 && text.data)
        each_line(text.data, visit_diversion, list);
    return r;
}

/* Every list, one a package. */
static int each_list(const struct paths *paths, struct search *search, struct error *error)
{
    _cleanup_free_ char *info = paths_below(paths, ADMIN "/info");
    DIR *folder = opendir(info);
    struct dirent *entry;
    int r = 0;

    if (!folder)
        return errno == ENOENT ? 0
                               : error_set(error, -errno, "%s: cannot list it: %s", info,
                                           strerrordesc_np(errno));
    while (r == 0 && (entry = readdir(folder))) {
        size_t len = strlen(entry->d_name);
        _cleanup_buf_ struct buf text = BUF_INIT;
        _cleanup_free_ char *list = NULL;
        _cleanup_free_ char *package = NULL;

        if (len < 6 || strcmp(entry->d_name + len - 5, ".list") != 0)
            continue;
        list = path_join(info, entry->d_name);
        package = xstrndup(entry->d_name, len - 5);
        r = file_read(AT_FDCWD, list, LIST_MAX, &text, error);
        search->package = package;
        if (r == 0 && text.data)
            each_line(text.data, visit_entry, search);
    }
    (void)closedir(folder);
    return r;
}

int owned_find(const struct paths *paths, const char *path, const char *content, struct owned *ret,
               struct error *error)
{
    struct search search = {.path = path, .content = content, .found = ret};
    struct diversions diversions = {.paths = paths, .mark = ret};
    int r;

    *ret = (struct owned)OWNED_INIT;
    r = each_list(paths, &search, error);
    drop_folders(ret);
    if (r == 0 && ret->count > 0)
        r = read_diversions(&diversions, error);
    if (r < 0)
        owned_free(ret);
    return r;
}

static int deeper(const void *a, const void *b)
{
    size_t one = strlen(((const struct owned_file *)a)->below);
    size_t two = strlen(((const struct owned_file *)b)->below);

    return one < two ? 1 : one > two ? -1 : 0;
}

int owned_folders(const struct paths *paths, const char *path, const char *content,
                  struct owned *ret, struct error *error)
{
    struct search search = {.path = path, .content = content, .found = ret, .folders = true};
    int r;

    *ret = (struct owned)OWNED_INIT;
    r = each_list(paths, &search, error);
    if (r < 0)
        owned_free(ret);
    else if (ret->count > 0)
        qsort(ret->files, ret->count, sizeof(*ret->files), deeper);
    return r;
}

bool owned_changed(const struct paths *paths, struct timespec *seen)
{
    _cleanup_free_ char *status = paths_below(paths, ADMIN "/status");
    struct stat st;

    if (stat(status, &st) < 0 ||
        (st.st_mtim.tv_sec == seen->tv_sec && st.st_mtim.tv_nsec == seen->tv_nsec))
        return false;
    *seen = st.st_mtim;
    return true;
}

int owned_diverted(const struct paths *paths, const char *into, struct owned *ret,
                   struct error *error)
{
    struct diversions diversions = {.paths = paths, .into = into, .found = ret};
    int r;

    *ret = (struct owned)OWNED_INIT;
    r = read_diversions(&diversions, error);
    if (r < 0)
        owned_free(ret);
    return r;
}

static int run_divert(const struct paths *paths, char *const *arguments, const char *file,
                      struct error *error)
{
    const struct process_limits limits = {.timeout = DIVERT_TIMEOUT, .output = 4096};
    _cleanup_free_ char *root = *paths->root ? xasprintf("--root=%s", paths->root) : NULL;
    _cleanup_free_ char *admin =
        *paths->root ? xasprintf("--admindir=%s" ADMIN, paths->root) : NULL;
    struct process_result result = {0};
    char how[128],
        *argv[16] = {(char[]){"dpkg-divert"}, (char[]){"--local"}, (char[]){"--no-rename"}};
    size_t count = 3;
    int r;

    if (root) {
        argv[count++] = root;
        argv[count++] = admin;
    }
    while (*arguments && count < ARRAY_SIZE(argv) - 1)
        argv[count++] = *arguments++;
    r = process_run(argv, NULL, NULL, NULL, &limits, -1, &result, error);
    if (r == 0 && result.exit_status != 0) {
        process_describe(&result, how, sizeof(how));
        r = error_set(error, -EIO, "dpkg-divert %s: %s: %.*s", file, how,
                      (int)strcspn(result.output.data ? result.output.data : "", "\n"),
                      result.output.data ? result.output.data : "");
    }
    process_result_free(&result);
    return r;
}

int owned_divert(const struct paths *paths, const char *file, const char *target,
                 struct error *error)
{
    _cleanup_free_ char *from = xstrdup(file);
    _cleanup_free_ char *to = xstrdup(target);
    char *const arguments[] = {(char[]){"--divert"}, to, (char[]){"--add"}, from, NULL};

    return run_divert(paths, arguments, file, error);
}

int owned_undivert(const struct paths *paths, const char *file, struct error *error)
{
    _cleanup_free_ char *from = xstrdup(file);
    char *const arguments[] = {(char[]){"--remove"}, from, NULL};

    return run_divert(paths, arguments, file, error);
}

int owned_lock(const struct paths *paths, int *ret_fd, struct error *error)
{
    _cleanup_free_ char *path = paths_below(paths, ADMIN "/lock-frontend");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);

    *ret_fd = -1;
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return error_set(error, -errno, "%s: cannot open it: %s", path, strerrordesc_np(errno));
    /* Of the open file: a POSIX lock would go as soon as another thread closes the same file. */
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        int code = errno == EACCES || errno == EAGAIN ? EBUSY : errno;

        (void)close(fd);
        return error_set(error, -code, "%s: packages are being installed; tried again later", path);
    }
    *ret_fd = fd;
    return 0;
}
