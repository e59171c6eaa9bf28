/* What packing, unpacking and digesting share: which names a payload may hold, and a folder's
 * entries in the order of their paths. Internal to release. Must never follow a link. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAYLOAD_PATH_MAX 1024
#define PAYLOAD_NAME_MAX 255
#define PAYLOAD_DEPTH_MAX 64
/* Folders are not counted as files, but an archive of nothing else would eat the inodes. */
#define PAYLOAD_FOLDERS_MAX 16384
/* 8 MiB: what every decoder of RFC 8878 has to offer, so that any device can unpack. */
#define PAYLOAD_WINDOW_LOG 23

struct tree_entry {
    char *path; /* relative, without a trailing slash */
    bool folder;
    mode_t mode; /* permission bits */
    uint64_t size;
};
struct tree {
    struct tree_entry *entries; /* by strcmp of the path: a folder before what is in it */
    size_t count;
    uint64_t files, bytes;
};

/* 0 when `path` is relative, printable ASCII, within the limits and without ".", ".." and empty
 * parts; the error names it. */
int payload_path_check(const char *path, struct error *error);
/* Lists all below `dirfd`; -EINVAL names what is neither file nor folder, has a setuid, setgid or
 * sticky bit, or a name that a payload can't hold. `shown` is the folder's name in errors. */
int tree_list(int dirfd, const char *shown, struct tree *ret, struct error *error);
void tree_free(struct tree *tree);
/* The folder that holds `path` (opened one part after the other, no link followed) and the last
 * part of the path. A file descriptor or a negative errno. */
int tree_open_parent(int dirfd, const char *path, const char **ret_name);
/* A regular file below `dirfd` for reading: a file descriptor or a negative errno. */
int tree_open_file(int dirfd, const char *path);
/* Writes all of it; a negative errno. */
int tree_write(int fd, const void *data, size_t len);
