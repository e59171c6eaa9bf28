/* The bytes of the tar within a payload: one zstd frame of a bounded window, read block by block.
 * Internal to release. Must never hand out more than it was allowed, nor pass over a byte. */
#pragma once

#include "base/error.h"

#include <archive.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <zstd.h>

struct source {
    int fd; /* borrowed */
    ZSTD_DCtx *zstd;
    uint8_t *in, *out;
    ZSTD_inBuffer pending;
    bool frame_ended;
    uint64_t total, most; /* bytes handed out, and how many may be */
    uint64_t content_end; /* behind the last byte that is not zero */
    int result;           /* of the first failure, with its sentence in `error` */
    struct error error;
};

void source_init(struct source *source, int fd, uint64_t most);
void source_clear(struct source *source);
/* Lets it hand out so many bytes more. */
void source_allow(struct source *source, uint64_t more);
/* For archive_read_open. */
la_ssize_t source_read(struct archive *archive, void *source, const void **ret_block);
/* Reads to the end: only zeros may follow position `end` of the tar, nothing the frame. */
int source_finish(struct source *source, uint64_t end);
