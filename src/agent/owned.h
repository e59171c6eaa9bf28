/* What the package manager owns: dpkg's lists and diversions below one root. Must never change
 * anything but through dpkg-divert. */
#pragma once

#include "agent/paths.h"

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct owned_file {
    char *path;     /* as dpkg spells it, "/usr/share/…" */
    char *below;    /* the same below the asked folder, "rules/a.conf" */
    char *package;  /* NULL in a list of diversions */
    char *diverted; /* where dpkg puts it instead; NULL: it is not diverted */
};
struct owned {
    struct owned_file *files;
    size_t count;
};
#define OWNED_INIT                                                                                 \
    {                                                                                              \
        0                                                                                          \
    }

/* Files of packages below the folder `path` ("/usr/share/…", in the root). `content` is a folder
 * that holds what stood there: an entry that is a folder in it is no file. A root without dpkg owns
 * nothing. */
int owned_find(const struct paths *paths, const char *path, const char *content, struct owned *ret,
               struct error *error);
/* Folders of packages below `path` that are there in the folder `content`, the deepest first. */
int owned_folders(const struct paths *paths, const char *path, const char *content,
                  struct owned *ret, struct error *error);
/* Did any package change since `seen`, which is brought up to date? */
bool owned_changed(const struct paths *paths, struct timespec *seen);
/* Diversions that lead into the folder `into` (in the root); `below` is relative to `into`. */
int owned_diverted(const struct paths *paths, const char *into, struct owned *ret,
                   struct error *error);
void owned_free(struct owned *owned);

/* `file` and `target` are in the root. Moves nothing: the file at hand is the caller's. */
int owned_divert(const struct paths *paths, const char *file, const char *target,
                 struct error *error);
int owned_undivert(const struct paths *paths, const char *file, struct error *error);

/* Keeps apt and dpkg out until the fd is closed; -1 in a root without dpkg. -EBUSY: they are at
 * work. */
int owned_lock(const struct paths *paths, int *ret_fd, struct error *error);
