#include "agent/copy.h"

#include "base/buf.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_DEPTH 32

static int copy_file(int from_dir, const char *name, const char *target, struct error *error)
{
    _cleanup_fd_ int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    _cleanup_fd_ int to = -1;
    char block[65536];
    struct stat st;

    if (from < 0 || fstat(from, &st) < 0)
        return error_set(error, -errno, "%s: cannot read it: %s", name, strerrordesc_np(errno));
    if (!S_ISREG(st.st_mode))
        return error_set(error, -EINVAL, "%s: not a regular file: expected files and folders only",
                         name);
    to = open(target, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (to < 0)
        return error_set(error, -errno, "%s: cannot make it: %s", target, strerrordesc_np(errno));
    for (;;) {
        ssize_t got = read(from, block, sizeof(block));
        char *p = block;

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_set(error, -errno, "%s: cannot read it: %s", name, strerrordesc_np(errno));
        if (got == 0)
            break;
        while (got > 0) {
            ssize_t done = write(to, p, (size_t)got);

            if (done < 0 && errno == EINTR)
                continue;
            if (done < 0)
                return error_set(error, -errno, "%s: cannot write it: %s", target,
                                 strerrordesc_np(errno));
            p += done;
            got -= done;
        }
    }
    if (fchmod(to, st.st_mode & 0111 ? 0755 : 0644) < 0)
        return error_set(error, -errno, "%s: cannot set its mode: %s", target,
                         strerrordesc_np(errno));
    return 0;
}

static int copy_folder(int fd, const char *target, unsigned depth, struct error *error)
{
    DIR *folder;
    struct dirent *entry;
    int r = 0;

    if (depth == 0)
        return error_set(error, -ELOOP, "%s: nested deeper than %d folders", target, COPY_DEPTH);
    if (mkdir(target, 0755) < 0)
        return error_set(error, -errno, "%s: cannot make the folder: %s", target,
                         strerrordesc_np(errno));
    folder = fdopendir(dup(fd));
    if (!folder)
        return error_set(error, -errno, "%s: cannot list its source: %s", target,
                         strerrordesc_np(errno));
    while (r == 0 && (entry = readdir(folder))) {
        _cleanup_free_ char *path = path_join(target, entry->d_name);
        _cleanup_fd_ int inner = -1;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        inner = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        r = inner >= 0 ? copy_folder(inner, path, depth - 1, error)
                       : copy_file(fd, entry->d_name, path, error);
    }
    (void)closedir(folder);
    return r;
}

int copy_tree(const char *source, const char *target, struct error *error)
{
    _cleanup_fd_ int fd = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return error_set(error, -errno, "%s: cannot open the installed content: %s", source,
                         strerrordesc_np(errno));
    return copy_folder(fd, target, COPY_DEPTH, error);
}
