#include "site.h"

#include "../scratch.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static void on_gone(void *user, struct http_exchange *exchange)
{
    struct site *site = user;

    assert_ptr_equal(http_exchange_get(exchange), site);
    atomic_fetch_add(&site->gone, 1);
}

static void hold(struct site *site, struct http_exchange *exchange)
{
    http_exchange_set(exchange, site);
    http_exchange_on_gone(exchange, on_gone, site);
    pthread_mutex_lock(&site->lock);
    assert_true(site->held_count < SITE_HELD);
    site->held[site->held_count++] = exchange;
    pthread_cond_broadcast(&site->changed);
    pthread_mutex_unlock(&site->lock);
}

static void start_stream(struct site *site, struct http_exchange *exchange)
{
    struct http_stream *stream = http_reply_stream(exchange);

    pthread_mutex_lock(&site->lock);
    assert_null(site->stream);
    site->stream = stream;
    pthread_cond_broadcast(&site->changed);
    pthread_mutex_unlock(&site->lock);
}

static void reply_text(struct http_exchange *exchange, const char *text)
{
    http_reply(exchange, 200, "text/plain", text, strlen(text));
}

static void handle(void *user, struct http_exchange *exchange)
{
    struct site *site = user;
    const char *path = http_path(exchange);
    const char *name = http_query(exchange, "name");

    atomic_fetch_add(&site->handled, 1);
    if (strcmp(path, "/hello") == 0) {
        reply_text(exchange, "hello");
    } else if (strcmp(path, "/blob") == 0) {
        http_reply_blob(exchange, site->blob);
    } else if (strcmp(path, "/blob-with-header") == 0) {
        http_reply_header(exchange, "Retry-After", "7");
        http_reply_blob(exchange, site->blob);
    } else if (strcmp(path, "/query") == 0) {
        reply_text(exchange, name ? name : "(none)");
    } else if (strcmp(path, "/header") == 0) {
        const char *value = http_header(exchange, name);

        reply_text(exchange, value ? value : "(none)");
    } else if (strcmp(path, "/peer") == 0) {
        reply_text(exchange, http_peer(exchange));
    } else if (strcmp(path, "/file") == 0) {
        _cleanup_free_ char *file = path_join(site->dir, "file");

        http_reply_file(exchange, file, "application/octet-stream", "file-1");
    } else if (strcmp(path, "/echo") == 0 && strcmp(http_method(exchange), "POST") == 0) {
        size_t len;
        const void *body = http_body(exchange, &len);

        http_reply(exchange, 200, "application/octet-stream", body, len);
    } else if (strcmp(path, "/hold") == 0) {
        hold(site, exchange);
    } else if (strcmp(path, "/stream") == 0) {
        start_stream(site, exchange);
    } else {
        http_problem(exchange, 404, "not-found", "There is nothing here", "Ask for /hello.",
                     "%s is no page", path);
    }
}

static void open_server(struct site *site, const struct http_limits *limits)
{
    struct http_listen listen = {.address = "127.0.0.1",
                                 .port = site->port,
                                 .certificate_path = site->certificate,
                                 .key_path = site->key,
                                 .threads = 2};
    struct error error = ERROR_INIT;

    if (http_server_start(&listen, limits, handle, site, &site->server, &error) < 0)
        fail_msg("%s", error.text);
    site->port = http_server_port(site->server);
}

struct site *site_start_in(bool tls, const struct http_limits *limits, char *dir)
{
    struct site *site = xcalloc(1, sizeof(*site));

    site->dir = dir;
    site->ca = path_join(dir, "ca.pem");
    if (tls) {
        site->certificate = path_join(dir, "tls.pem");
        site->key = path_join(dir, "tls.key");
    }
    site->blob =
        http_blob_new(SITE_BLOB, strlen(SITE_BLOB), "application/json", SITE_ETAG, "max-age=2");
    pthread_mutex_init(&site->lock, NULL);
    pthread_cond_init(&site->changed, NULL);
    open_server(site, limits);
    return site;
}

struct site *site_start(bool tls, const struct http_limits *limits)
{
    char *dir = scratch_make();

    if (tls)
        make_certificates(dir, -3600, 86400);
    return site_start_in(tls, limits, dir);
}

void site_restart(struct site *site, const struct http_limits *limits)
{
    open_server(site, limits);
}

void site_stop(struct site *site)
{
    if (site->server)
        http_server_stop(site->server, 2);
    /* Whoever keeps an exchange still replies, though nobody hears it. */
    while (site->held_count > 0)
        reply_text(site->held[--site->held_count], "late");
    if (site->stream)
        http_stream_end(site->stream);
    http_blob_unref(site->blob);
    scratch_remove(&site->dir);
    free(site->ca);
    free(site->certificate);
    free(site->key);
    pthread_mutex_destroy(&site->lock);
    pthread_cond_destroy(&site->changed);
    free(site);
}

static struct timespec in_ten_seconds(void)
{
    struct timespec until;

    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 10;
    return until;
}

void site_wait_held(struct site *site, size_t count)
{
    struct timespec until = in_ten_seconds();
    bool enough;

    pthread_mutex_lock(&site->lock);
    while (site->held_count < count &&
           pthread_cond_timedwait(&site->changed, &site->lock, &until) == 0)
        ;
    enough = site->held_count >= count;
    pthread_mutex_unlock(&site->lock);
    assert_true(enough);
}

struct http_exchange *site_take(struct site *site)
{
    struct http_exchange *exchange = NULL;

    pthread_mutex_lock(&site->lock);
    if (site->held_count > 0)
        exchange = site->held[--site->held_count];
    pthread_mutex_unlock(&site->lock);
    return exchange;
}

struct http_stream *site_wait_stream(struct site *site)
{
    struct timespec until = in_ten_seconds();
    struct http_stream *stream;

    pthread_mutex_lock(&site->lock);
    while (!site->stream && pthread_cond_timedwait(&site->changed, &site->lock, &until) == 0)
        ;
    stream = site->stream;
    site->stream = NULL;
    pthread_mutex_unlock(&site->lock);
    assert_non_null(stream);
    return stream;
}

char *site_url(const struct site *site, bool tls)
{
    return xasprintf("http%s://127.0.0.1:%u", tls ? "s" : "", (unsigned)site->port);
}

struct http_client *site_client(const struct site *site, bool tls)
{
    _cleanup_free_ char *url = site_url(site, tls);
    const struct http_client_options options = {
        .base_url = url, .ca_path = tls ? site->ca : NULL, .timeout = 10};
    struct http_client *client;
    struct error error = ERROR_INIT;

    if (http_client_new(&options, &client, &error) < 0)
        fail_msg("%s", error.text);
    return client;
}

int dial(uint16_t port)
{
    const struct timeval limit = {.tv_sec = 10};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    return fd;
}

static void put_bytes(int fd, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) {
        ssize_t put = send(fd, p, len, MSG_NOSIGNAL);

        if (put < 0)
            return; /* the server closed: what it said before counts */
        p += put;
        len -= (size_t)put;
    }
}

void put_text(int fd, const char *text)
{
    put_bytes(fd, text, strlen(text));
}

char *read_until(int fd, const char *text)
{
    struct buf reply = BUF_INIT;

    for (;;) {
        char chunk[4096];
        ssize_t got;

        if (text && reply.data && strstr(reply.data, text))
            break;
        got = recv(fd, chunk, sizeof(chunk), 0);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            fail_msg("nothing came within 10 s after \"%s\"", reply.data ? reply.data : "");
        if (got <= 0)
            break;
        buf_add(&reply, chunk, (size_t)got);
    }
    return buf_take(&reply);
}

char *read_all(int fd)
{
    return read_until(fd, NULL);
}

char *ask_bytes(uint16_t port, const void *data, size_t len)
{
    _cleanup_fd_ int fd = dial(port);

    put_bytes(fd, data, len);
    return read_all(fd);
}

char *ask(uint16_t port, const char *text)
{
    return ask_bytes(port, text, strlen(text));
}

unsigned status_of(const char *reply)
{
    unsigned status = 0;

    (void)sscanf(reply, "HTTP/1.1 %u", &status);
    return status;
}

double cpu_seconds(void)
{
    struct rusage usage;

    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void wait_for(atomic_int *value, int least)
{
    for (int i = 0; i < 1000 && atomic_load(value) < least; i++)
        clock_sleep(0.01);
    assert_true(atomic_load(value) >= least);
}
