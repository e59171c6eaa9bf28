#include "base/file-fault.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* One file descriptor a level: far below every limit, far above every real tree. */
#define TREE_MAX_DEPTH 200

static void cleanup_dir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

static int too_deep(const char *path, struct error *error)
{
    return error_set(error, -ELOOP, "%s: nested deeper than %d folders", path, TREE_MAX_DEPTH);
}

/* Takes `fd` over, also when it fails. */
static DIR *open_stream(int fd)
{
    DIR *dir = fdopendir(fd);

    if (!dir) {
        int saved = errno;

        (void)close(fd);
        errno = saved;
    }
    return dir;
}

/* The next entry but "." and "..", NULL at the end with errno 0. */
static struct dirent *next_entry(DIR *dir)
{
    for (;;) {
        struct dirent *entry;

        errno = 0;
        entry = readdir(dir);
        if (!entry || (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0))
            return entry;
    }
}

static int sync_fd(int fd, const char *path, struct error *error)
{
    int r = file_fault("fsync", path);

    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    return r < 0 ? file_failed(error, r, "fsync", path) : 0;
}

static int sync_level(int fd, const char *path, unsigned depth, struct error *error)
{
    __attribute__((cleanup(cleanup_dir))) DIR *dir = NULL;
    struct dirent *entry;
    int r;

    if (depth > TREE_MAX_DEPTH) {
        (void)close(fd);
        return too_deep(path, error);
    }
    dir = open_stream(fd);
    if (!dir)
        return file_failed(error, -errno, "read the folder", path);
    while ((entry = next_entry(dir))) {
        _cleanup_free_ char *inner = path_join(path, entry->d_name);
        struct stat st;
        int child;

        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return file_failed(error, -errno, "look at", inner);
        /* A link is durable with its folder; the rest holds no bytes. */
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
            continue;
        child = openat(fd, entry->d_name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (child < 0)
            return file_failed(error, -errno, "open", inner);
        if (S_ISDIR(st.st_mode)) {
            r = sync_level(child, inner, depth + 1, error);
        } else {
            r = sync_fd(child, inner, error);
            (void)close(child);
        }
        if (r < 0)
            return r;
    }
    if (errno != 0)
        return file_failed(error, -errno, "read the folder", path);
    return sync_fd(fd, path, error);
}

int tree_sync(int dirfd, const char *path, struct error *error)
{
    int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0)
        return file_failed(error, -errno, "open the folder", path);
    return sync_level(fd, path, 0, error);
}

/* unlinkat; a folder of the tree itself (`ours`) that lacks write permission gets it. */
static int remove_entry(int dirfd, const char *name, const char *path, bool ours, int flags)
{
    int r = file_fault(flags & AT_REMOVEDIR ? "rmdir" : "unlink", path);

    if (r < 0 || unlinkat(dirfd, name, flags) == 0)
        return r;
    if (errno != EACCES || !ours || fchmod(dirfd, 0700) < 0)
        return -errno;
    return unlinkat(dirfd, name, flags) < 0 ? -errno : 0;
}

static int open_to_empty(int dirfd, const char *name)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW;
    int fd = openat(dirfd, name, flags);
    struct stat st;

    /* fchmodat follows links, so look first; nobody but us writes here. */
    if (fd < 0 && errno == EACCES && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(st.st_mode) && fchmodat(dirfd, name, 0700, 0) == 0)
        fd = openat(dirfd, name, flags);
    return fd < 0 ? -errno : fd;
}

static int remove_level(int dirfd, const char *name, const char *path, unsigned depth,
                        struct error *error)
{
    __attribute__((cleanup(cleanup_dir))) DIR *dir = NULL;
    struct dirent *entry;
    int fd, r;

    if (depth > TREE_MAX_DEPTH)
        return too_deep(path, error);
    fd = open_to_empty(dirfd, name);
    if (fd == -ENOTDIR || fd == -ELOOP) { /* a file or a link */
        r = remove_entry(dirfd, name, path, depth > 0, 0);
        return r < 0 ? file_failed(error, r, "remove", path) : 0;
    }
    if (fd < 0)
        return fd == -ENOENT ? fd : file_failed(error, fd, "open the folder", path);
    dir = open_stream(fd);
    if (!dir)
        return file_failed(error, -errno, "read the folder", path);
    while ((entry = next_entry(dir))) {
        _cleanup_free_ char *inner = path_join(path, entry->d_name);

        r = remove_level(fd, entry->d_name, inner, depth + 1, error);
        if (r < 0 && r != -ENOENT)
            return r;
    }
    if (errno != 0)
        return file_failed(error, -errno, "read the folder", path);
    r = remove_entry(dirfd, name, path, depth > 0, AT_REMOVEDIR);
    return r < 0 ? file_failed(error, r, "remove the folder", path) : 0;
}

int tree_remove(int dirfd, const char *path, struct error *error)
{
    _cleanup_free_ char *bare = xstrdup(path);
    _cleanup_free_ char *parent = NULL;
    size_t len = strlen(bare);
    char *slash;
    int r;

    while (len > 1 && bare[len - 1] == '/')
        bare[--len] = '\0';
    r = remove_level(dirfd, bare, bare, 0, error);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    parent = xstrdup(bare);
    slash = strrchr(parent, '/');
    if (slash)
        slash[slash == parent ? 1 : 0] = '\0';
    return dir_sync(dirfd, slash ? parent : ".", error);
}
