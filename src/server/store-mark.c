#include "server/store-mark.h"

#include "base/log.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char mark[] = "a store was made here\n";

static bool is_marked(int lock_fd)
{
    struct stat info;

    return fstat(lock_fd, &info) == 0 && info.st_size > 0;
}

int store_mark_check(int lock_fd, const char *path, struct error *error)
{
    struct stat info;
    bool there = stat(path, &info) == 0;

    if (!is_marked(lock_fd) || (there && info.st_size > 0))
        return 0;
    return error_set(error, -EUCLEAN,
                     "%s is %s, though this control plane has had a store: it would have forgotten "
                     "every device and every halt. Put back a backup. To start afresh, knowing "
                     "that, remove store.lock beside it",
                     path, there ? "empty" : "gone");
}

void store_mark_set(int lock_fd)
{
    ssize_t len = sizeof mark - 1;

    if (is_marked(lock_fd))
        return;
    if (pwrite(lock_fd, mark, (size_t)len, 0) != len || fdatasync(lock_fd) < 0)
        log_warning("store-mark", "store.lock can't be marked: %s", strerror(errno));
}
