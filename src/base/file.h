/* Files that survive power cuts. Every durable step of agent, guard and server goes through here:
 * write to a temporary name, fsync, rename, fsync the directory. Must never leave half a file under
 * a final name. All paths may be given relative to a directory fd (AT_FDCWD otherwise). */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Called before every durable system call with its name ("write", "fsync", "rename", …) and path;
 * a negative errno is returned to the caller instead of making the call. For fault injection by
 * tests; NULL switches it off. */
void file_set_fault(int (*fault)(const char *call, const char *path));

/* Reads a regular file whole (O_NOFOLLOW), at most `limit` bytes (-EFBIG beyond, named in error).
 * Adds to `ret`. */
int file_read(int dirfd, const char *path, size_t limit, struct buf *ret, struct error *error);
/* Replaces `path` atomically and durably, with exactly `mode` (no umask). On any error the old file
 * is whole and no temporary file is left; only when the very last step fails, the folder's own
 * fsync, may the new one be there already, just as whole. */
int file_write(int dirfd, const char *path, const void *data, size_t len, mode_t mode,
               struct error *error);
/* Points the symbolic link `path` at `target`, atomically and durably. */
int file_symlink(int dirfd, const char *path, const char *target, struct error *error);
/* The target of a symbolic link, owned by the caller. -ENOENT, -EINVAL (not a link). */
int file_readlink(int dirfd, const char *path, char **ret);
/* rename + fsync of both parents. */
int file_rename(int dirfd, const char *from, const char *to, struct error *error);
int file_unlink(int dirfd, const char *path, struct error *error); /* absent is no error; durable */
/* mkdir -p with `mode`; every level made is fsynced into its parent. */
int dir_make(int dirfd, const char *path, mode_t mode, struct error *error);
int dir_sync(int dirfd, const char *path, struct error *error);
/* fsyncs every file and directory below, deepest first. Like tree_remove it follows no link and
 * refuses more than 200 levels (-ELOOP). */
int tree_sync(int dirfd, const char *path, struct error *error);
/* Removes a tree, following no link, also one with read-only folders; absent is no error. */
int tree_remove(int dirfd, const char *path, struct error *error);
/* Bytes that an unprivileged process may still write on the file system of `path`. */
int space_free(int dirfd, const char *path, uint64_t *ret, struct error *error);
/* "a/b", with exactly one slash; owned by the caller. */
char *path_join(const char *a, const char *b);
