#include "release/source.h"

#include "base/buf.h"
#include "release/tree.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

void source_init(struct source *source, int fd, uint64_t most)
{
    *source = (struct source){
        .fd = fd,
        .most = most,
        .zstd = ZSTD_createDCtx(),
        .in = xmalloc(ZSTD_DStreamInSize()),
        .out = xmalloc(ZSTD_DStreamOutSize()),
    };
    if (!source->zstd)
        abort(); /* out of memory */
    ZSTD_DCtx_setParameter(source->zstd, ZSTD_d_windowLogMax, PAYLOAD_WINDOW_LOG);
    source->pending.src = source->in;
}

void source_clear(struct source *source)
{
    ZSTD_freeDCtx(source->zstd);
    free(source->in);
    free(source->out);
}

void source_allow(struct source *source, uint64_t more)
{
    if (__builtin_add_overflow(source->most, more, &source->most))
        source->most = UINT64_MAX;
}

/* Fills `pending` from the file; 0 at its end. */
static ssize_t refill(struct source *source)
{
    ssize_t n;

    do
        n = read(source->fd, source->in, ZSTD_DStreamInSize());
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        source->result = error_set(&source->error, -errno, "cannot read it: %s", strerror(errno));
        return n;
    }
    source->pending.size = (size_t)n;
    source->pending.pos = 0;
    return n;
}

static la_ssize_t at_frame_end(struct source *source)
{
    ssize_t n = source->pending.pos < source->pending.size ? 1 : refill(source);

    if (n > 0)
        source->result =
            error_set(&source->error, -EBADMSG,
                      "bytes follow the end of the zstd frame; a payload is one frame");
    return n == 0 ? 0 : -1;
}

static la_ssize_t next_block(struct source *source)
{
    while (!source->frame_ended) {
        ZSTD_outBuffer out = {source->out, ZSTD_DStreamOutSize(), 0};
        size_t left;

        if (source->pending.pos == source->pending.size) {
            ssize_t n = refill(source);

            if (n < 0)
                return -1;
            if (n == 0) {
                source->result =
                    error_set(&source->error, -EBADMSG, "truncated: the zstd frame does not end");
                return -1;
            }
        }
        left = ZSTD_decompressStream(source->zstd, &out, &source->pending);
        if (ZSTD_isError(left)) {
            source->result = error_set(&source->error, -EBADMSG,
                                       "not a sound zstd frame (window of at most %d MiB): %s",
                                       1 << (PAYLOAD_WINDOW_LOG - 20), ZSTD_getErrorName(left));
            return -1;
        }
        source->frame_ended = left == 0;
        if (out.pos == 0)
            continue;
        for (size_t i = out.pos; i > 0; i--)
            if (source->out[i - 1] != 0) {
                source->content_end = source->total + i;
                break;
            }
        source->total += out.pos;
        if (source->total > source->most) {
            source->result = error_set(
                &source->error, -EFBIG,
                "it unpacks to more than %" PRIu64
                " bytes, more than its files could need; it is a bomb or not the payload of "
                "this manifest",
                source->most);
            return -1;
        }
        return (la_ssize_t)out.pos;
    }
    return at_frame_end(source);
}

la_ssize_t source_read(struct archive *archive, void *data, const void **ret_block)
{
    struct source *source = data;
    la_ssize_t n = source->result < 0 ? -1 : next_block(source);

    *ret_block = source->out;
    if (n < 0)
        archive_set_error(archive, -source->result, "%s", source->error.text);
    return n;
}

int source_finish(struct source *source, uint64_t end)
{
    la_ssize_t n;

    while ((n = source->result < 0 ? -1 : next_block(source)) > 0)
        ;
    if (n < 0)
        return source->result;
    if (source->content_end > end)
        source->result =
            error_set(&source->error, -EBADMSG, "bytes follow the end of the tar archive");
    return source->result;
}
