/* HTTP/1.1 server on libmicrohttpd: TLS 1.3 or, on loopback only, plain. Replies may come later and
 * from another thread. Must never hand a handler a request that is larger than the limits, or whose
 * headers two parsers could read differently: several Content-Length, Content-Length beside
 * Transfer-Encoding, several Host, bad names, bare LF, folded lines, NUL, surplus spaces and
 * ambiguous paths get a 400, and the connection closes. What libmicrohttpd itself refuses (no HTTP
 * version, no colon in a field, a Content-Length or chunk size that is no number, more than 8 KiB
 * beyond the header limit) gets its own reply, which is HTML and closes, too. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_server;
struct http_exchange; /* one request and its reply */
struct http_blob;     /* immutable reply body, counted references */

struct http_limits {
    size_t body;          /* bytes, 64 KiB: 413 beyond */
    size_t header;        /* bytes, 16 KiB: 431 beyond */
    unsigned connections; /* whole server */
    unsigned per_address; /* connections of one address, 0: no limit */
    double request_time;  /* seconds for a whole request, 30: the connection closes */
    double idle_time;     /* seconds of keep-alive without a request */
};
extern const struct http_limits http_limits_default;

struct http_listen {
    const char *address;                     /* "127.0.0.1", "::1", "0.0.0.0" */
    uint16_t port;                           /* 0: any free one */
    const char *certificate_path, *key_path; /* both NULL: plain HTTP, refused off loopback */
    unsigned threads;                        /* 0: one a core */
};

/* Called in a worker thread once the whole request is here. Must either reply (any of http_reply_*)
 * or keep the exchange and reply later from any thread, exactly once. */
typedef void http_handler(void *user, struct http_exchange *exchange);

int http_server_start(const struct http_listen *listen, const struct http_limits *limits,
                      http_handler *handler, void *user, struct http_server **ret,
                      struct error *error);
uint16_t http_server_port(const struct http_server *server);
/* Takes no new connection, lets replies finish for at most `grace` seconds (kept exchanges must be
 * replied to by their owners meanwhile), closes everything. */
void http_server_stop(struct http_server *server, double grace);

const char *http_method(const struct http_exchange *exchange);
const char *http_path(const struct http_exchange *exchange); /* decoded, no NUL, starts with '/' */
const char *http_query(const struct http_exchange *exchange, const char *name);  /* or NULL */
const char *http_header(const struct http_exchange *exchange, const char *name); /* or NULL */
const void *http_body(const struct http_exchange *exchange, size_t *ret_len);
const char *http_peer(const struct http_exchange *exchange); /* "127.0.0.1" */
bool http_peer_is_loopback(const struct http_exchange *exchange);
/* For a handler that keeps the exchange: its own pointer, and a callback when the peer went away
 * before the reply (called once, in any thread; the exchange stays valid until the reply). */
void http_exchange_set(struct http_exchange *exchange, void *pointer);
void *http_exchange_get(const struct http_exchange *exchange);
/* To be set in the handler, before the exchange is given away. The owner still has to reply; the
 * reply is thrown away. */
void http_exchange_on_gone(struct http_exchange *exchange,
                           void (*gone)(void *user, struct http_exchange *exchange), void *user);

struct http_blob *http_blob_new(const void *data, size_t len, const char *content_type,
                                const char *etag /* without quotes, or NULL */,
                                const char *cache_control /* or NULL */);
struct http_blob *http_blob_ref(struct http_blob *blob);
void http_blob_unref(struct http_blob *blob);

/* The cheapest reply: nothing is copied, counted references keep the bytes. 200 with the blob, or
 * 304 (with the Content-Length that the 200 has, RFC 9110 §8.6) when If-None-Match names its ETag.
 */
void http_reply_blob(struct http_exchange *exchange, struct http_blob *blob);
void http_reply(struct http_exchange *exchange, unsigned status, const char *content_type,
                const void *body, size_t len);
/* Extra headers go before the reply call. */
void http_reply_header(struct http_exchange *exchange, const char *name, const char *value);
/* A file with ETag and Range (RFC 9110 §14, one range). */
void http_reply_file(struct http_exchange *exchange, const char *path, const char *content_type,
                     const char *etag);

/* Server-sent events. The reply's head goes out at once; `http_stream_send` queues one event
 * (thread-safe; returns false when the client is gone or more than 1 MiB is queued), heartbeats
 * are sent every 10 s by the server. The stream ends with http_stream_end, exactly once. */
struct http_stream;
struct http_stream *http_reply_stream(struct http_exchange *exchange);
bool http_stream_send(struct http_stream *stream, const char *event, const char *data);
bool http_stream_alive(struct http_stream *stream);
void http_stream_end(struct http_stream *stream);
