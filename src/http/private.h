/* What the files of the server share. Locks are taken in this order, any of them may be left out:
 * server.streams_lock, stream.lock or exchange.lock, server.lock, libmicrohttpd's own. */
#pragma once

#include "base/clock.h"
#include "http/request.h"
#include "http/server.h"

#include <microhttpd.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

#define NO_DEADLINE INT64_MAX

/* A suspended connection. Only the side that takes it off the list may resume it. */
struct wait {
    struct wait *next, *prev;
    struct MHD_Connection *connection;
    int fd;
    int64_t checked_ms; /* when the peer was last seen to be there */
    bool listed;
    bool gone; /* taken off the list because the peer is away */
};

struct connection {
    struct connection *next, *prev; /* guarded by server.lock */
    struct http_server *server;
    int fd;
    _Atomic int64_t deadline_ms; /* CLOCK_MONOTONIC_COARSE */
    char peer[INET6_ADDRSTRLEN];
    bool loopback;
};

enum exchange_state {
    EXCHANGE_HEAD,     /* the head is being received */
    EXCHANGE_BODY,     /* the body is being received */
    EXCHANGE_REFUSED,  /* the refusal is sent, the rest of the body is thrown away */
    EXCHANGE_HANDLING, /* in the handler */
    EXCHANGE_KEPT,     /* the handler kept it: suspended, or about to go on */
    EXCHANGE_QUEUED,   /* libmicrohttpd has the reply */
    EXCHANGE_CLOSED,   /* the connection is gone or busy with its next request */
};

struct http_exchange {
    atomic_int refs; /* one is the connection's, one the handler's until it replies */
    pthread_mutex_t lock;
    struct http_server *server;
    struct connection *connection; /* valid until EXCHANGE_CLOSED */
    enum exchange_state state;
    bool handed; /* the handler saw it: counted in server.in_flight */
    bool replied;

    unsigned status; /* the reply, once `replied` */
    struct MHD_Response *response;
    struct http_blob *blob; /* whose response it is, or NULL when it is the exchange's own */
    struct http_stream *stream;
    bool bounded; /* the reply has to be through within request_time */

    const char *raw_target; /* libmicrohttpd's, to compare with the version's place */
    size_t raw_target_len;
    struct request_target target;
    struct request_head head;
    char *bad_target; /* what is wrong with it, or NULL */
    struct buf body;
    size_t discarded;
    char method[16];
    char peer[INET6_ADDRSTRLEN];
    bool loopback;

    struct reply_header *headers;
    void *pointer;
    void (*gone)(void *user, struct http_exchange *exchange);
    void *gone_user;
    struct wait wait;
    _Alignas(void *) char storage[]; /* of the target */
};

struct reply_header {
    struct reply_header *next;
    char *name, *value;
};

struct http_server {
    atomic_int refs; /* the owner's, and one of every exchange and stream */
    struct http_limits limits;
    http_handler *handler;
    void *user;
    struct MHD_Daemon *daemon;
    uint16_t port;
    bool tls;
    bool known_parser; /* libmicrohttpd 0.9.75, whose buffer on_header can check */
    struct {
        unsigned char *data;
        unsigned size;
    } ticket_key;
    atomic_bool stopping; /* no new connection, no keep-alive */
    atomic_int in_flight;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    bool closing; /* nothing may be suspended any more */
    bool watch_stop;
    struct connection connections; /* heads of rings */
    struct wait waits;

    pthread_mutex_t streams_lock;
    struct http_stream *streams; /* doubly linked, owned by their responses */
    pthread_t watch;
};

void server_unref(struct http_server *server);
/* Suspends the connection; false when the server is closing and everything has to end. To be
 * called in the connection's own thread, with the lock held that its waker takes. */
bool wait_begin(struct http_server *server, struct wait *wait, struct connection *connection,
                struct MHD_Connection *mhd);
/* Resumes it if it is (still) suspended. */
void wait_end(struct http_server *server, struct wait *wait);

/* watch.c */
void *watch_main(void *server);

/* listen.c */
int listen_open(const struct http_listen *listen, uint16_t *ret_port, struct error *error);
/* Reads certificate and key, and proves that they belong together. */
int listen_load_tls(const struct http_listen *listen, struct buf *ret_certificate,
                    struct buf *ret_key, struct error *error);
bool address_is_loopback(const struct sockaddr *address);
/* Without port; IPv4 is IPv4, also on an IPv6 socket. */
void address_text(const struct sockaddr *address, char ret_text[static INET6_ADDRSTRLEN]);

/* exchange.c */
struct http_exchange *exchange_new(struct connection *connection, const char *target);
void exchange_unref(struct http_exchange *exchange);
void exchange_drop_response(struct http_exchange *exchange);
/* Takes over `response` (NULL: out of memory, becomes a closed connection). */
void exchange_reply(struct http_exchange *exchange, unsigned status, struct MHD_Response *response,
                    struct http_stream *stream, bool bounded);
void response_add(struct MHD_Response *response, const char *name, const char *value);
/* For a refusal: what was said about the thing itself, such as how long to cache it, is not of it.
 */
void exchange_drop_headers(struct http_exchange *exchange);
void exchange_add_headers(struct http_exchange *exchange, struct MHD_Response *response);

/* refuse.c: answers a request that no handler will see. */
enum MHD_Result exchange_refuse(struct http_exchange *exchange, struct MHD_Connection *mhd,
                                unsigned status, const char *detail);
/* One more piece of the body of a refused request; MHD_NO closes. */
enum MHD_Result exchange_discard(struct http_exchange *exchange, size_t size);

/* stream.c */
/* The reply is queued on this connection. */
void stream_attach(struct http_stream *stream, struct connection *connection,
                   struct MHD_Connection *mhd);
void streams_beat(struct http_server *server, int64_t now);
void streams_end(struct http_server *server);

static inline int64_t now_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC_COARSE);
}
