/* Which files of a folder are new or changed since the last look, by modification time, size and
 * inode. Subfolders, links and special files are left alone. Must never hold the folder open. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define WATCH_MAX_FILES 10000 /* of one folder; files past it are not looked at, and said so */

struct watched {
    char *name;
    int64_t size, mtime_ns;
    uint64_t inode;
};

struct watch {
    char *path;
    struct watched *files; /* sorted by name */
    size_t count;
};

/* Calls `changed` with the path of each. -E2BIG, after all the calls, when there are too many. */
int watch_look(struct watch *watch, void (*changed)(const char *path, void *user), void *user,
               struct error *error);
/* Makes the next look find every file new. */
void watch_forget(struct watch *watch);
void watch_free(struct watch *watch);
#define _cleanup_watch_ __attribute__((cleanup(watch_free)))
