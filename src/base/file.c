#include "base/file.h"

#include "base/file-fault.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static int (*fault_hook)(const char *call, const char *path);

void file_set_fault(int (*fault)(const char *call, const char *path))
{
    fault_hook = fault;
}

int file_fault(const char *call, const char *path)
{
    return fault_hook ? fault_hook(call, path) : 0;
}

int file_failed(struct error *error, int code, const char *call, const char *path)
{
    return error_set(error, code, "%s: cannot %s: %s", path, call, strerrordesc_np(-code));
}

char *path_join(const char *a, const char *b)
{
    size_t len = strlen(a);

    while (len > 0 && a[len - 1] == '/')
        len--;
    b += strspn(b, "/");
    return xasprintf("%.*s/%s", (int)len, a, b);
}

/* The folder that holds `path`: "." for a bare name, "/" at the top. */
static char *parent_of(const char *path)
{
    size_t len = strlen(path);

    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len > 0 && path[len - 1] != '/')
        len--;
    while (len > 1 && path[len - 1] == '/')
        len--;
    return len ? xstrndup(path, len) : xstrdup(".");
}

/* ".name.tmp-<random>" beside `path`. */
static char *temporary_for(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char random[17];

    random_hex(random, 8);
    return xasprintf("%.*s.%s.tmp-%s", (int)(name - path), path, name, random);
}

int file_read(int dirfd, const char *path, size_t limit, struct buf *ret, struct error *error)
{
    /* O_NONBLOCK: a FIFO planted under the name must not hold us. */
    _cleanup_fd_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    size_t before = ret->len;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return file_failed(error, -errno, "open", path);
    if (!S_ISREG(st.st_mode))
        return error_set(error, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
                         "%s: not a regular file: expected one to read", path);
    if (st.st_size > 0 && (uint64_t)st.st_size <= limit)
        buf_reserve(ret, (size_t)st.st_size);
    for (;;) {
        size_t room;
        ssize_t got;

        buf_reserve(ret, 1);
        room = ret->cap - ret->len - 1;
        got = read(fd, ret->data + ret->len, room);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            int r = -errno;

            ret->len = before;
            ret->data[before] = '\0';
            return file_failed(error, r, "read", path);
        }
        if (got == 0)
            break;
        ret->len += (size_t)got;
        ret->data[ret->len] = '\0';
        if (ret->len - before > limit) {
            ret->len = before;
            ret->data[before] = '\0';
            return error_set(error, -EFBIG, "%s: larger than the %zu bytes expected at most", path,
                             limit);
        }
        if (ret->cap - ret->len - 1 == 0)
            buf_reserve(ret, ret->len - before < 4096 ? 4096 : ret->len - before);
    }
    return 0;
}

static int write_whole(int fd, const char *path, const void *data, size_t len, mode_t mode,
                       const char **ret_call)
{
    const char *p = data;
    int r;

    *ret_call = "write";
    while (len > 0) {
        ssize_t done;

        r = file_fault("write", path);
        if (r < 0)
            return r;
        done = write(fd, p, len);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -errno;
        p += done;
        len -= (size_t)done;
    }
    *ret_call = "chmod"; /* the umask is nobody's promise */
    r = file_fault("chmod", path);
    if (r == 0 && fchmod(fd, mode) < 0)
        r = -errno;
    if (r < 0)
        return r;
    *ret_call = "fsync";
    r = file_fault("fsync", path);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    return r;
}

/* Moves a finished temporary file over `path` and makes that durable. */
static int put_in_place(int dirfd, const char *temporary, const char *path, struct error *error)
{
    _cleanup_free_ char *parent = parent_of(path);
    int r = file_fault("rename", path);

    if (r == 0 && renameat(dirfd, temporary, dirfd, path) < 0)
        r = -errno;
    if (r < 0) {
        (void)unlinkat(dirfd, temporary, 0);
        return file_failed(error, r, "rename the new file to", path);
    }
    return dir_sync(dirfd, parent, error);
}

int file_write(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
               struct error *error)
{
    _cleanup_free_ char *temporary = temporary_for(path);
    const char *call = "create";
    int fd, r;

    r = file_fault("open", path);
    if (r < 0)
        return file_failed(error, r, call, path);
    fd = openat(dirfd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return file_failed(error, -errno, call, path);
    r = write_whole(fd, path, data, len, mode, &call);
    /* Linux closes even on EINTR; what write and fsync let through, close may still report. */
    if (close(fd) < 0 && r == 0 && errno != EINTR) {
        call = "close";
        r = -errno;
    }
    if (r < 0) {
        (void)unlinkat(dirfd, temporary, 0);
        return file_failed(error, r, call, path);
    }
    return put_in_place(dirfd, temporary, path, error);
}

int file_symlink(int dirfd, const char *path, const char *target, struct error *error)
{
    _cleanup_free_ char *temporary = temporary_for(path);
    int r = file_fault("symlink", path);

    if (r == 0 && symlinkat(target, dirfd, temporary) < 0)
        r = -errno;
    if (r < 0)
        return file_failed(error, r, "make the link", path);
    return put_in_place(dirfd, temporary, path, error);
}

int file_readlink(int dirfd, const char *path, char **ret)
{
    size_t size = 256;

    for (;;) {
        _cleanup_free_ char *target = xmalloc(size);
        ssize_t len = readlinkat(dirfd, path, target, size);

        if (len < 0)
            return -errno;
        if ((size_t)len < size) {
            *ret = xstrndup(target, (size_t)len);
            return 0;
        }
        size *= 2;
    }
}

int file_rename(int dirfd, const char *from, const char *to, struct error *error)
{
    _cleanup_free_ char *from_parent = parent_of(from);
    _cleanup_free_ char *to_parent = parent_of(to);
    int r = file_fault("rename", to);

    if (r == 0 && renameat(dirfd, from, dirfd, to) < 0)
        r = -errno;
    if (r < 0)
        return error_set(error, r, "%s: cannot rename to %s: %s", from, to, strerrordesc_np(-r));
    /* The new name first: a cut in between leaves two names, never none. */
    r = dir_sync(dirfd, to_parent, error);
    if (r == 0 && strcmp(from_parent, to_parent) != 0)
        r = dir_sync(dirfd, from_parent, error);
    return r;
}

int file_unlink(int dirfd, const char *path, struct error *error)
{
    _cleanup_free_ char *parent = parent_of(path);
    int r = file_fault("unlink", path);

    if (r == 0 && unlinkat(dirfd, path, 0) < 0)
        r = -errno;
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return file_failed(error, r, "remove", path);
    return dir_sync(dirfd, parent, error);
}

int dir_sync(int dirfd, const char *path, struct error *error)
{
    _cleanup_fd_ int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r;

    if (fd < 0)
        return file_failed(error, -errno, "open the folder", path);
    r = file_fault("fsync", path);
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    return r < 0 ? file_failed(error, r, "fsync", path) : 0;
}

static int make_level(int dirfd, const char *path, mode_t mode, struct error *error)
{
    _cleanup_free_ char *parent = NULL;
    _cleanup_fd_ int fd = -1;
    struct stat st;
    int r = 0;

    if (fstatat(dirfd, path, &st, 0) == 0)
        return S_ISDIR(st.st_mode)
                   ? 0
                   : error_set(error, -ENOTDIR, "%s: not a folder: expected one", path);
    r = file_fault("mkdir", path);
    if (r == 0 && mkdirat(dirfd, path, mode) < 0)
        r = errno == EEXIST ? 0 : -errno; /* somebody else was faster */
    if (r < 0)
        return file_failed(error, r, "make the folder", path);
    fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fchmod(fd, mode) < 0)
        return file_failed(error, -errno, "set the mode of", path);
    parent = parent_of(path);
    return dir_sync(dirfd, parent, error);
}

int dir_make(int dirfd, const char *path, mode_t mode, struct error *error)
{
    _cleanup_free_ char *prefix = xstrdup(path);
    char *p = prefix;

    for (;;) {
        char end;
        int r;

        p += strspn(p, "/");
        p += strcspn(p, "/");
        end = *p;
        *p = '\0';
        if (*prefix != '\0') {
            r = make_level(dirfd, prefix, mode, error);
            if (r < 0)
                return r;
        }
        if (end == '\0')
            return 0;
        *p = end;
    }
}

int space_free(int dirfd, const char *path, uint64_t *ret, struct error *error)
{
    _cleanup_fd_ int fd = openat(dirfd, path, O_PATH | O_CLOEXEC);
    struct statvfs st;

    if (fd < 0 || fstatvfs(fd, &st) < 0)
        return file_failed(error, -errno, "measure the free space at", path);
    if (__builtin_mul_overflow((uint64_t)st.f_bavail, (uint64_t)st.f_frsize, ret))
        *ret = UINT64_MAX;
    return 0;
}
