/* Payloads that no honest tool makes, and a place to see what they leave. */
#pragma once

#include "release/payload.h"

#include "../scratch.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <cmocka.h>

#define TAR_MAX (4 * 1024 * 1024)

/* A tar in memory, made by libarchive without a check of ours. */
struct tar {
    struct archive *archive;
    char *bytes;
    size_t len;
};

static inline void tar_open(struct tar *tar)
{
    *tar = (struct tar){.archive = archive_write_new(), .bytes = xmalloc(TAR_MAX)};
    assert_int_equal(archive_write_set_format_pax_restricted(tar->archive), ARCHIVE_OK);
    assert_int_equal(archive_write_set_bytes_in_last_block(tar->archive, 1), ARCHIVE_OK);
    assert_int_equal(archive_write_open_memory(tar->archive, tar->bytes, TAR_MAX, &tar->len),
                     ARCHIVE_OK);
}

static inline struct archive_entry *entry_new(const char *name, mode_t type, mode_t mode,
                                              size_t size)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, type);
    archive_entry_set_perm(entry, mode);
    archive_entry_set_size(entry, (la_int64_t)size);
    return entry;
}

/* Takes the entry over. */
static inline void tar_put(struct tar *tar, struct archive_entry *entry, const void *data,
                           size_t len)
{
    assert_true(archive_write_header(tar->archive, entry) >= ARCHIVE_WARN); /* names in C locale */
    if (len > 0)
        assert_int_equal(archive_write_data(tar->archive, data, len), len);
    archive_entry_free(entry);
}

static inline void tar_file(struct tar *tar, const char *name, const char *text)
{
    tar_put(tar, entry_new(name, AE_IFREG, 0644, strlen(text)), text, strlen(text));
}

static inline void tar_folder(struct tar *tar, const char *name)
{
    tar_put(tar, entry_new(name, AE_IFDIR, 0755, 0), NULL, 0);
}

static inline void tar_close(struct tar *tar)
{
    assert_int_equal(archive_write_close(tar->archive), ARCHIVE_OK);
    archive_write_free(tar->archive);
}

static inline void save_zstd(const char *path, const void *data, size_t len)
{
    const size_t cap = ZSTD_compressBound(len);
    _cleanup_free_ char *packed = xmalloc(cap);
    const size_t size = ZSTD_compress(packed, cap, data, len, 3);

    assert_false(ZSTD_isError(size));
    scratch_write(path, packed, size, 0644);
}

/* A folder with the payload in it, beside which nothing may appear. */
struct place {
    char *dir, *payload, *target;
};

static inline int place_make(void **state)
{
    struct place *place = xcalloc(1, sizeof(*place));

    place->dir = scratch_make();
    place->payload = path_join(place->dir, "payload");
    place->target = path_join(place->dir, "target");
    *state = place;
    return 0;
}

static inline int place_remove(void **state)
{
    struct place *place = *state;

    scratch_remove(&place->dir);
    free(place->payload);
    free(place->target);
    free(place);
    return 0;
}

static const struct payload_limits roomy = {.unpacked = 1024 * 1024, .files = 100};

/* The payload is refused with `code` and a sentence that holds `expected`, and nothing is left. */
static inline void expect_refused(const struct place *place, const struct payload_limits *limits,
                                  int code, const char *expected)
{
    struct error error = ERROR_INIT;
    int r = payload_unpack(place->payload, place->target, limits, &error);

    if (r != code || !strstr(error.text, expected))
        fail_msg("%d (expected %d): \"%s\" does not say \"%s\"", r, code, error.text, expected);
    assert_int_equal(access(place->target, F_OK), -1);
    assert_int_equal(unlink(place->payload), 0);
    if (rmdir(place->dir) < 0)
        fail_msg("something was left beside the target");
    assert_int_equal(mkdir(place->dir, 0700), 0);
}

static inline void tar_save(struct tar *tar, const struct place *place)
{
    tar_close(tar);
    save_zstd(place->payload, tar->bytes, tar->len);
    free(tar->bytes);
}

#define in_place(test) cmocka_unit_test_setup_teardown(test, place_make, place_remove)
