/* What every device polls: one response of libmicrohttpd, made once and shared by all connections,
 * and one for 304. */
#include "http/private.h"

#include <errno.h>
#include <string.h>

struct blob_bytes {
    atomic_int refs; /* the blob's and one of every response made of it */
    size_t len;
    char data[];
};

struct http_blob {
    atomic_int refs;
    struct blob_bytes *bytes;
    char *content_type, *etag, *cache_control;
    struct MHD_Response *full, *not_modified;
};

static void bytes_unref(void *user)
{
    struct blob_bytes *bytes = user;

    if (atomic_fetch_sub_explicit(&bytes->refs, 1, memory_order_acq_rel) == 1)
        free(bytes);
}

static struct MHD_Response *make_response(const struct http_blob *blob, bool full)
{
    struct blob_bytes *bytes = blob->bytes;
    struct MHD_Response *response;

    atomic_fetch_add_explicit(&bytes->refs, 1, memory_order_relaxed);
    /* A 304 has no body, but libmicrohttpd states the length of this one, which is then the length
     * that a 200 would have (RFC 9110 §8.6). */
    response = MHD_create_response_from_buffer_with_free_callback_cls(bytes->len, bytes->data,
                                                                      bytes_unref, bytes);
    if (!response)
        abort();
    if (full && blob->content_type)
        response_add(response, MHD_HTTP_HEADER_CONTENT_TYPE, blob->content_type);
    if (full)
        response_add(response, "X-Content-Type-Options", "nosniff");
    if (blob->etag) {
        _cleanup_free_ char *quoted = xasprintf("\"%s\"", blob->etag);

        response_add(response, MHD_HTTP_HEADER_ETAG, quoted);
    }
    if (blob->cache_control)
        response_add(response, MHD_HTTP_HEADER_CACHE_CONTROL, blob->cache_control);
    return response;
}

struct http_blob *http_blob_new(const void *data, size_t len, const char *content_type,
                                const char *etag, const char *cache_control)
{
    struct http_blob *blob = xcalloc(1, sizeof(*blob));

    atomic_init(&blob->refs, 1);
    blob->bytes = xmalloc(sizeof(*blob->bytes) + len);
    atomic_init(&blob->bytes->refs, 1);
    blob->bytes->len = len;
    if (len > 0)
        memcpy(blob->bytes->data, data, len);
    blob->content_type = content_type ? xstrdup(content_type) : NULL;
    blob->etag = etag ? xstrdup(etag) : NULL;
    blob->cache_control = cache_control ? xstrdup(cache_control) : NULL;
    blob->full = make_response(blob, true);
    blob->not_modified = etag ? make_response(blob, false) : NULL;
    return blob;
}

struct http_blob *http_blob_ref(struct http_blob *blob)
{
    atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void http_blob_unref(struct http_blob *blob)
{
    if (!blob || atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) > 1)
        return;
    MHD_destroy_response(blob->full);
    if (blob->not_modified)
        MHD_destroy_response(blob->not_modified);
    bytes_unref(blob->bytes);
    free(blob->content_type);
    free(blob->etag);
    free(blob->cache_control);
    free(blob);
}

void http_reply_blob(struct http_exchange *exchange, struct http_blob *blob)
{
    const char *condition = blob->etag ? http_header(exchange, "If-None-Match") : NULL;
    bool full = !condition || !request_etag_matches(condition, blob->etag);
    struct MHD_Response *response = full ? blob->full : blob->not_modified;

    if (exchange->headers) {
        response = make_response(blob, full);
        exchange_add_headers(exchange, response);
    } else {
        exchange->blob = http_blob_ref(blob);
    }
    exchange_reply(exchange, full ? 200 : 304, response, NULL, true);
}
