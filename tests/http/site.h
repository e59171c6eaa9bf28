/* A server with a few pages, certificates made on the spot and raw sockets, for the tests of
 * src/http. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after the four above */
#include <cmocka.h>

#include "http/client.h"
#include "http/problem.h"
#include "http/server.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#define SITE_HELD 256

struct site {
    struct http_server *server;
    uint16_t port;
    char *dir; /* a folder of its own */
    char *ca, *certificate, *key;
    struct http_blob *blob;
    /* Exchanges and streams that the handler kept. */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct http_exchange *held[SITE_HELD];
    size_t held_count;
    struct http_stream *stream;
    atomic_int gone; /* peers that left before the reply */
    atomic_int handled;
};

#define SITE_BLOB "{\"releases\":[],\"state\":\"running\"}"
#define SITE_ETAG "plan-7"
/* Pages: GET /hello, /blob, /query?name=, /file (dir/file), /hold (kept; replied to by
 * site_release), /stream, /header?name=; POST /echo. Anything else is a 404. */
struct site *site_start(bool tls, const struct http_limits *limits);
struct site *site_start_in(bool tls, const struct http_limits *limits, char *dir);
void site_stop(struct site *site);
void site_restart(struct site *site, const struct http_limits *limits);
/* Waits until `count` exchanges are kept; takes one. */
void site_wait_held(struct site *site, size_t count);
struct http_exchange *site_take(struct site *site);
struct http_stream *site_wait_stream(struct site *site);
/* "http(s)://127.0.0.1:port", owned by the caller. */
char *site_url(const struct site *site, bool tls);
struct http_client *site_client(const struct site *site, bool tls);

/* A socket to the port, with a receive time limit of 10 s. */
int dial(uint16_t port);
void put_text(int fd, const char *text);
/* Reads until the peer closes or 10 s went by (a failure); owned by the caller. */
char *read_all(int fd);
/* Reads until `text` was seen. */
char *read_until(int fd, const char *text);
/* One connection: sends and reads to its end. */
char *ask_bytes(uint16_t port, const void *data, size_t len);
char *ask(uint16_t port, const char *text);
unsigned status_of(const char *reply);
double cpu_seconds(void);
/* Waits until `*value` is at least `least`, 10 s at most. */
void wait_for(atomic_int *value, int least);

/* ca.pem and tls.pem + tls.key in `dir`, valid from and for that long (seconds from now). */
void make_certificates(const char *dir, long from, long until);

static inline void assert_contains(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("\"%s\" does not contain \"%s\"", text, part);
}
static inline void assert_lacks(const char *text, const char *part)
{
    if (strstr(text, part))
        fail_msg("\"%s\" contains \"%s\"", text, part);
}
