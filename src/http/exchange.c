#include "base/log.h"
#include "http/private.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

struct http_exchange *exchange_new(struct connection *connection, const char *target)
{
    size_t len = strlen(target);
    struct http_exchange *exchange = xmalloc(sizeof(*exchange) + request_target_size(target, len));
    struct error error;

    /* Field by field: this is the path of every plan poll, and most of it is room for later. */
    atomic_init(&exchange->refs, 1);
    pthread_mutex_init(&exchange->lock, NULL);
    exchange->server = connection->server;
    atomic_fetch_add_explicit(&exchange->server->refs, 1, memory_order_relaxed);
    exchange->connection = connection;
    exchange->state = EXCHANGE_HEAD;
    exchange->handed = exchange->replied = exchange->bounded = false;
    exchange->status = 0;
    exchange->response = NULL;
    exchange->blob = NULL;
    exchange->stream = NULL;
    exchange->raw_target = target;
    exchange->raw_target_len = len;
    exchange->head.headers = NULL;
    exchange->head.count = 0;
    exchange->bad_target = NULL;
    exchange->body = (struct buf)BUF_INIT;
    exchange->discarded = 0;
    exchange->method[0] = '\0';
    memcpy(exchange->peer, connection->peer, sizeof(exchange->peer));
    exchange->loopback = connection->loopback;
    exchange->headers = NULL;
    exchange->pointer = exchange->gone_user = NULL;
    exchange->gone = NULL;
    exchange->wait = (struct wait){.fd = -1};
    if (request_target_parse(target, len, exchange->storage, &exchange->target, &error) < 0)
        exchange->bad_target = xstrdup(error.text);
    return exchange;
}

void exchange_drop_response(struct http_exchange *exchange)
{
    if (exchange->blob)
        http_blob_unref(exchange->blob);
    else if (exchange->response)
        MHD_destroy_response(exchange->response);
    exchange->blob = NULL;
    exchange->response = NULL;
}

void exchange_drop_headers(struct http_exchange *exchange)
{
    while (exchange->headers) {
        struct reply_header *header = exchange->headers;

        exchange->headers = header->next;
        free(header->name);
        free(header->value);
        free(header);
    }
}

void exchange_unref(struct http_exchange *exchange)
{
    if (atomic_fetch_sub_explicit(&exchange->refs, 1, memory_order_acq_rel) > 1)
        return;
    exchange_drop_response(exchange);
    exchange_drop_headers(exchange);
    request_head_free(&exchange->head);
    free(exchange->bad_target);
    buf_free(&exchange->body);
    pthread_mutex_destroy(&exchange->lock);
    server_unref(exchange->server);
    free(exchange);
}

void exchange_reply(struct http_exchange *exchange, unsigned status, struct MHD_Response *response,
                    struct http_stream *stream, bool bounded)
{
    pthread_mutex_lock(&exchange->lock);
    assert(!exchange->replied);
    exchange->replied = true;
    exchange->status = status;
    exchange->response = response;
    exchange->stream = stream;
    exchange->bounded = bounded;
    if (exchange->state == EXCHANGE_KEPT)
        wait_end(exchange->server, &exchange->wait);
    pthread_mutex_unlock(&exchange->lock);
    exchange_unref(exchange);
}

void response_add(struct MHD_Response *response, const char *name, const char *value)
{
    if (response && MHD_add_response_header(response, name, value) != MHD_YES)
        log_warning("http-reply-header",
                    "the reply header %s was left out: its value \"%s\" is "
                    "not allowed in HTTP",
                    name, value);
}

void exchange_add_headers(struct http_exchange *exchange, struct MHD_Response *response)
{
    for (const struct reply_header *header = exchange->headers; header; header = header->next)
        response_add(response, header->name, header->value);
}

void http_reply(struct http_exchange *exchange, unsigned status, const char *content_type,
                const void *body, size_t len)
{
    /* The cast is the API's: MHD_RESPMEM_MUST_COPY only reads. */
    struct MHD_Response *response =
        MHD_create_response_from_buffer(len, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);

    if (content_type)
        response_add(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    response_add(response, "X-Content-Type-Options", "nosniff");
    exchange_add_headers(exchange, response);
    exchange_reply(exchange, status, response, NULL, true);
}

void http_reply_header(struct http_exchange *exchange, const char *name, const char *value)
{
    struct reply_header **end = &exchange->headers;
    struct reply_header *header = xcalloc(1, sizeof(*header));

    header->name = xstrdup(name);
    header->value = xstrdup(value);
    while (*end)
        end = &(*end)->next;
    *end = header;
}

const char *http_method(const struct http_exchange *exchange)
{
    return exchange->method;
}

const char *http_path(const struct http_exchange *exchange)
{
    return exchange->target.path;
}

const char *http_query(const struct http_exchange *exchange, const char *name)
{
    for (size_t i = 0; i < exchange->target.query_count; i++)
        if (strcmp(exchange->target.query[i].name, name) == 0)
            return exchange->target.query[i].value;
    return NULL;
}

const char *http_header(const struct http_exchange *exchange, const char *name)
{
    return request_head_get(&exchange->head, name);
}

const void *http_body(const struct http_exchange *exchange, size_t *ret_len)
{
    *ret_len = exchange->body.len;
    return exchange->body.data ? exchange->body.data : "";
}

const char *http_peer(const struct http_exchange *exchange)
{
    return exchange->peer;
}

bool http_peer_is_loopback(const struct http_exchange *exchange)
{
    return exchange->loopback;
}

void http_exchange_set(struct http_exchange *exchange, void *pointer)
{
    exchange->pointer = pointer;
}

void *http_exchange_get(const struct http_exchange *exchange)
{
    return exchange->pointer;
}

void http_exchange_on_gone(struct http_exchange *exchange,
                           void (*gone)(void *user, struct http_exchange *exchange), void *user)
{
    exchange->gone_user = user;
    exchange->gone = gone;
}
