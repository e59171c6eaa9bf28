#include "agent/paths.h"

#include "base/buf.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_in_root(int root_fd, const char *path)
{
    struct open_how how = {
        .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    long fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));

    return fd < 0 ? -errno : (int)fd;
}

static char *real_path_of(int fd)
{
    char link[48];
    char *path = NULL;

    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    return file_readlink(AT_FDCWD, link, &path) < 0 ? NULL : path;
}

/* Opens `path` below the root level by level, making what is missing, and says where it is. */
static int make_below(int root_fd, const char *path, mode_t mode, char **ret, struct error *error)
{
    _cleanup_free_ char *prefix = xstrdup(path);
    _cleanup_fd_ int parent = fcntl(root_fd, F_DUPFD_CLOEXEC, 3);
    char *p = prefix;

    for (;;) {
        char *name = p;
        char end;
        int fd, r;

        p += strcspn(p, "/");
        end = *p;
        *p = '\0';
        fd = open_in_root(root_fd, prefix);
        if (fd == -ENOENT) {
            r = dir_make(parent, name, end ? 0755 : mode, error);
            if (r < 0)
                return r;
            fd = open_in_root(root_fd, prefix);
        }
        if (fd < 0)
            return error_set(error, fd, "%s below the root: cannot open the folder: %s", prefix,
                             strerrordesc_np(-fd));
        (void)close(parent);
        parent = fd;
        if (end == '\0')
            break;
        *p++ = end;
    }
    *ret = real_path_of(parent);
    return *ret ? 0 : error_set(error, -EIO, "%s: its real path cannot be read in /proc", path);
}

/* The root's folder and its real path, "" for /; `hint` ends the error's sentence. */
static int open_root(const char *root, const char *hint, struct paths *ret, struct error *error)
{
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    *ret = (struct paths){0};
    if (fd < 0)
        return error_set(error, -errno, "%s: cannot open the root: %s%s", root,
                         strerrordesc_np(errno), hint);
    ret->root = real_path_of(fd);
    if (!ret->root) {
        (void)close(fd);
        return error_set(error, -EIO, "%s: its real path cannot be read in /proc", root);
    }
    if (strcmp(ret->root, "/") == 0)
        ret->root[0] = '\0';
    return fd;
}

int paths_open(const char *root, struct paths *ret, struct error *error)
{
    _cleanup_fd_ int root_fd = open_root(root, "; make the folder first", ret, error);
    int r;

    if (root_fd < 0)
        return root_fd;
    r = make_below(root_fd, "etc/maeslant", 0755, &ret->etc, error);
    if (r == 0)
        r = make_below(root_fd, "var/lib/maeslant", 0700, &ret->state, error);
    if (r == 0)
        r = make_below(root_fd, "run/maeslant", 0755, &ret->run, error);
    if (r < 0)
        paths_free(ret);
    return r;
}

static char *find_below(int root_fd, const char *root, const char *path)
{
    _cleanup_fd_ int fd = open_in_root(root_fd, path);
    char *real = fd < 0 ? NULL : real_path_of(fd);

    return real ? real : xasprintf("%s/%s", root, path);
}

int paths_find(const char *root, struct paths *ret, struct error *error)
{
    _cleanup_fd_ int root_fd = open_root(root, "", ret, error);

    if (root_fd < 0)
        return root_fd;
    ret->etc = find_below(root_fd, ret->root, "etc/maeslant");
    ret->state = find_below(root_fd, ret->root, "var/lib/maeslant");
    ret->run = find_below(root_fd, ret->root, "run/maeslant");
    return 0;
}

void paths_free(struct paths *paths)
{
    free(paths->root);
    free(paths->etc);
    free(paths->state);
    free(paths->run);
    *paths = (struct paths){0};
}

char *paths_below(const struct paths *paths, const char *path)
{
    return path_join(paths->root, path);
}

int paths_resolve(const struct paths *paths, const char *path, char **ret, struct error *error)
{
    _cleanup_fd_ int root_fd =
        open(*paths->root ? paths->root : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *name = strrchr(path, '/');
    _cleanup_free_ char *folder =
        name && name > path ? xstrndup(path, (size_t)(name - path)) : xstrdup("/");
    _cleanup_free_ char *real = NULL;
    _cleanup_fd_ int fd = root_fd < 0 ? -errno : open_in_root(root_fd, folder);

    if (fd < 0)
        return error_set(error, fd, "%s: cannot open its folder below the root: %s", path,
                         strerrordesc_np(-fd));
    real = real_path_of(fd);
    if (!real || !name)
        return error_set(error, -EIO, "%s: its real path cannot be read in /proc", path);
    *ret = path_join(real, name + 1);
    return 0;
}

const char *paths_inside(const struct paths *paths, const char *path)
{
    size_t len = strlen(paths->root);

    return strncmp(path, paths->root, len) == 0 && path[len] == '/' ? path + len : NULL;
}
