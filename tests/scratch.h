/* A folder of its own for a test, removed behind it. */
#pragma once

#include "base/buf.h"
#include "base/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

static inline char *scratch_make(void)
{
    const char *tmp = getenv("TMPDIR");
    char *path = path_join(tmp ? tmp : "/tmp", "maeslant-test-XXXXXX");

    if (!mkdtemp(path))
        abort();
    return path;
}

static inline void scratch_remove(char **path)
{
    if (*path && tree_remove(AT_FDCWD, *path, NULL) < 0)
        abort();
    free(*path);
}
#define _cleanup_scratch_ __attribute__((cleanup(scratch_remove)))

static inline void scratch_write(const char *path, const void *data, size_t len, mode_t mode)
{
    struct error error = ERROR_INIT;

    if (file_write(AT_FDCWD, path, data, len, mode, &error) < 0)
        abort();
}

/* The file's bytes, owned by the caller. */
static inline char *scratch_read(const char *path, size_t *ret_len)
{
    struct buf buf = BUF_INIT;
    struct error error = ERROR_INIT;

    if (file_read(AT_FDCWD, path, 64 * 1024 * 1024, &buf, &error) < 0)
        abort();
    if (ret_len)
        *ret_len = buf.len;
    return buf_take(&buf);
}
