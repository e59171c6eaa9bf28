#include "base/log.h"
#include "http/private.h"

#include <assert.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <sched.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <unistd.h>

/* TLS 1.3 only; libmicrohttpd's own default would take 1.2. */
#define TLS_PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3"
/* Beyond the header's limit a connection's memory holds the parsed fields and the reply's head. */
#define POOL_EXTRA (8u << 10)
#define OTHER_FDS 64 /* that the process needs beside its connections */

const struct http_limits http_limits_default = {
    .body = 64 << 10,
    .header = 16 << 10,
    .connections = 10000,
    .per_address = 0,
    .request_time = 30,
    .idle_time = 10,
};

void server_unref(struct http_server *server)
{
    if (atomic_fetch_sub_explicit(&server->refs, 1, memory_order_acq_rel) > 1)
        return;
    pthread_mutex_destroy(&server->lock);
    pthread_mutex_destroy(&server->streams_lock);
    pthread_cond_destroy(&server->wake);
    gnutls_free(server->ticket_key.data);
    free(server);
}

static int64_t seconds_ms(double seconds)
{
    return (int64_t)(seconds * 1000);
}

static void set_deadline(struct connection *connection, double seconds)
{
    atomic_store_explicit(&connection->deadline_ms, now_ms() + seconds_ms(seconds),
                          memory_order_relaxed);
}

static void clear_deadline(struct connection *connection)
{
    atomic_store_explicit(&connection->deadline_ms, NO_DEADLINE, memory_order_relaxed);
}

static enum MHD_Result on_accept(void *user, const struct sockaddr *address, socklen_t len)
{
    const struct http_server *server = user;

    return atomic_load(&server->stopping) ? MHD_NO : MHD_YES;
}

static void connection_started(struct http_server *server, struct MHD_Connection *mhd, void **slot)
{
    struct connection *connection = xcalloc(1, sizeof(*connection));
    const union MHD_ConnectionInfo *info;
    const struct sockaddr *address;

    connection->server = server;
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
    connection->fd = info->connect_fd;
    info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    address = info->client_addr;
    connection->loopback = address_is_loopback(address);
    address_text(address, connection->peer);
    if (server->tls) {
        const gnutls_datum_t key = {server->ticket_key.data, server->ticket_key.size};

        info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        (void)gnutls_session_ticket_enable_server(info->tls_session, &key);
    }
    set_deadline(connection, server->limits.request_time);
    pthread_mutex_lock(&server->lock);
    connection->prev = server->connections.prev;
    connection->next = &server->connections;
    connection->prev->next = connection;
    server->connections.prev = connection;
    pthread_mutex_unlock(&server->lock);
    *slot = connection;
}

/* Called before the socket is closed, so that nobody else's is ever shut down. */
static void connection_closed(struct http_server *server, void **slot)
{
    struct connection *connection = *slot;

    if (!connection)
        return;
    pthread_mutex_lock(&server->lock);
    connection->prev->next = connection->next;
    connection->next->prev = connection->prev;
    pthread_mutex_unlock(&server->lock);
    free(connection);
    *slot = NULL;
}

static void on_connection(void *user, struct MHD_Connection *mhd, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        connection_started(user, mhd, slot);
    else
        connection_closed(user, slot);
}

/* The request line is here. */
static void *on_target(void *user, const char *target, struct MHD_Connection *mhd)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct connection *connection = info->socket_context;

    set_deadline(connection, connection->server->limits.request_time);
    return exchange_new(connection, target);
}

/* Targets are decoded by request_target_parse. */
static size_t leave_escaped(void *user, struct MHD_Connection *mhd, char *text)
{
    return strlen(text);
}

/* Walks the header block in libmicrohttpd 0.9.75's buffer. Its parser passes over bare LF, NUL,
 * folded lines and surplus spaces; each leaves a gap between what it hands out, so a block without
 * gaps is plain "METHOD SP target SP HTTP/1.x CRLF *(name: value CRLF) CRLF". */
struct walk {
    struct http_exchange *exchange;
    const char *next; /* where the next field has to start */
    unsigned status;
    struct error *error;
};

static enum MHD_Result on_header(void *user, enum MHD_ValueKind kind, const char *name,
                                 size_t name_len, const char *value, size_t value_len)
{
    struct walk *walk = user;
    struct http_exchange *exchange = walk->exchange;
    uintptr_t start = (uintptr_t)name, middle = start + name_len + 1, at = (uintptr_t)value;
    bool plain = start == (uintptr_t)walk->next && at >= middle &&
                 at - middle < exchange->server->limits.header + POOL_EXTRA;

    if (plain) {
        for (const char *p = name + name_len + 1; p < value; p++)
            plain = plain && (*p == ' ' || *p == '\t');
        plain = plain && value[value_len] == '\0' && value[value_len + 1] == '\0';
    }
    if (!plain && exchange->server->known_parser) {
        (void)error_set(walk->error, -EINVAL,
                        "near the header \"%.*s\" there is a line that does not end in CRLF, a "
                        "folded line or a NUL byte",
                        (int)(name_len > 100 ? 100 : name_len), name ? name : "");
        walk->status = 400;
        return MHD_NO;
    }
    walk->next = value + value_len + 2;
    walk->status = request_head_add(&exchange->head, name, name_len, value, value_len, walk->error);
    return walk->status ? MHD_NO : MHD_YES;
}

/* 0 or the status to refuse with. */
static unsigned read_head(struct http_exchange *exchange, struct MHD_Connection *mhd,
                          const char *method, const char *version, struct error *error)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t header_size = info ? info->header_size : 0;
    size_t method_len = strlen(method);
    struct walk walk = {
        .exchange = exchange, .next = version + strlen(version) + 2, .error = error};
    int count = MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, NULL, NULL);
    bool plain;

    request_head_init(&exchange->head, count > 0 ? (size_t)count : 0, header_size + 16);
    plain = method + method_len + 1 == exchange->raw_target &&
            exchange->raw_target + exchange->raw_target_len + 1 == version && version[8] == '\0' &&
            version[9] == '\0';
    MHD_get_connection_values_n(mhd, MHD_HEADER_KIND, on_header, &walk);
    if (walk.status)
        return walk.status;
    if ((!plain || walk.next + 2 != method + header_size) && exchange->server->known_parser) {
        (void)error_set(error, -EINVAL,
                        "the request line or the end of the header has surplus spaces, a line "
                        "that does not end in CRLF or a NUL byte");
        return 400;
    }
    if (method_len == 0 || method_len >= sizeof(exchange->method) ||
        strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != method_len) {
        (void)error_set(error, -EINVAL,
                        "the method is \"%.32s\": expected upper-case letters, at most %zu", method,
                        sizeof(exchange->method) - 1);
        return 400;
    }
    memcpy(exchange->method, method, method_len + 1);
    if (header_size > exchange->server->limits.header) {
        (void)error_set(error, -EINVAL,
                        "the request line and header fields have %zu bytes: at most %zu are taken",
                        header_size, exchange->server->limits.header);
        return 431;
    }
    if (exchange->bad_target) {
        (void)error_set(error, -EINVAL, "%s", exchange->bad_target);
        return 400;
    }
    return request_head_check(&exchange->head, strcmp(version, "HTTP/1.0") != 0, error);
}

static unsigned body_too_large(const struct http_exchange *exchange, struct error *error)
{
    const struct request_head *head = &exchange->head;

    if (head->has_length)
        (void)error_set(error, -EFBIG, "the body has %llu bytes: at most %zu are taken",
                        (unsigned long long)head->length, exchange->server->limits.body);
    else
        (void)error_set(error, -EFBIG,
                        "the body has more than the %zu bytes that are "
                        "taken at most",
                        exchange->server->limits.body);
    return 413;
}

static enum MHD_Result head_received(struct http_exchange *exchange, struct MHD_Connection *mhd,
                                     const char *method, const char *version)
{
    struct error error;
    unsigned status = read_head(exchange, mhd, method, version, &error);

    if (!status && exchange->head.length > exchange->server->limits.body)
        status = body_too_large(exchange, &error);
    if (status)
        return exchange_refuse(exchange, mhd, status, error.text);
    /* Chunks are parsed laxly, too: whatever follows such a body is not taken for a request. This
     * is the one way to close behind a reply that others share. */
    if (exchange->head.chunked || atomic_load(&exchange->server->stopping))
        (void)MHD_set_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONNECTION, "close");
    exchange->state = EXCHANGE_BODY;
    return MHD_YES;
}

static enum MHD_Result body_received(struct http_exchange *exchange, struct MHD_Connection *mhd,
                                     const char *data, size_t len)
{
    if (len > exchange->server->limits.body - exchange->body.len) {
        struct error error;
        unsigned status = body_too_large(exchange, &error);

        return exchange_refuse(exchange, mhd, status, error.text);
    }
    buf_add(&exchange->body, data, len);
    return MHD_YES;
}

/* Hands the reply over to libmicrohttpd, in the connection's thread. */
static enum MHD_Result queue_reply(struct http_exchange *exchange, struct MHD_Connection *mhd)
{
    enum MHD_Result r;

    if (!exchange->response)
        return MHD_NO;
    if (exchange->bounded)
        set_deadline(exchange->connection, exchange->server->limits.request_time);
    if (exchange->stream)
        stream_attach(exchange->stream, exchange->connection, mhd);
    r = MHD_queue_response(mhd, exchange->status, exchange->response);
    exchange_drop_response(exchange);
    return r;
}

/* After the handler, and after a resume. */
static enum MHD_Result go_on(struct http_exchange *exchange, struct MHD_Connection *mhd)
{
    enum MHD_Result r = MHD_YES;
    bool replied;

    pthread_mutex_lock(&exchange->lock);
    replied = exchange->replied;
    if (replied) {
        exchange->state = EXCHANGE_QUEUED;
    } else if (exchange->state == EXCHANGE_KEPT) {
        r = MHD_NO; /* the peer is away, or the server stops */
    } else {
        exchange->state = EXCHANGE_KEPT;
        if (!wait_begin(exchange->server, &exchange->wait, exchange->connection, mhd))
            r = MHD_NO;
    }
    pthread_mutex_unlock(&exchange->lock);
    return replied ? queue_reply(exchange, mhd) : r;
}

static enum MHD_Result handle(struct http_exchange *exchange, struct MHD_Connection *mhd)
{
    struct http_server *server = exchange->server;

    clear_deadline(exchange->connection);
    exchange->state = EXCHANGE_HANDLING;
    exchange->handed = true;
    atomic_fetch_add(&server->in_flight, 1);
    atomic_fetch_add_explicit(&exchange->refs, 1, memory_order_relaxed);
    server->handler(server->user, exchange);
    return go_on(exchange, mhd);
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *size, void **slot)
{
    struct http_exchange *exchange = *slot;
    size_t len = *size;

    switch (exchange->state) {
    case EXCHANGE_HEAD:
        return head_received(exchange, mhd, method, version);
    case EXCHANGE_BODY:
        *size = 0;
        return len ? body_received(exchange, mhd, data, len) : handle(exchange, mhd);
    case EXCHANGE_REFUSED:
        *size = 0;
        return exchange_discard(exchange, len);
    case EXCHANGE_KEPT:
        return go_on(exchange, mhd);
    case EXCHANGE_HANDLING:
    case EXCHANGE_QUEUED:
    case EXCHANGE_CLOSED:
        break;
    }
    return MHD_NO;
}

static void on_completed(void *user, struct MHD_Connection *mhd, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    struct http_exchange *exchange = *slot;
    bool gone;

    if (!exchange)
        return;
    *slot = NULL;
    set_deadline(exchange->connection, exchange->server->limits.idle_time);
    pthread_mutex_lock(&exchange->lock);
    exchange->state = EXCHANGE_CLOSED;
    exchange->connection = NULL;
    gone = exchange->handed && !exchange->replied && exchange->gone;
    pthread_mutex_unlock(&exchange->lock);
    if (gone)
        exchange->gone(exchange->gone_user, exchange);
    if (exchange->handed)
        atomic_fetch_sub(&exchange->server->in_flight, 1);
    exchange_unref(exchange);
}

static unsigned cores(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) < 0)
        return 1;
    return (unsigned)CPU_COUNT(&set);
}

/* Makes room for the connections in the process's file descriptors, or takes fewer. */
static unsigned fit_connections(unsigned wanted)
{
    rlim_t need = (rlim_t)wanted + OTHER_FDS;
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
        return wanted;
    limit.rlim_cur = limit.rlim_max < need ? limit.rlim_max : need;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
        return wanted;
    wanted = limit.rlim_cur > 2 * OTHER_FDS ? (unsigned)limit.rlim_cur - OTHER_FDS : OTHER_FDS;
    log_warning("http-few-descriptors",
                "only %u connections are taken at once: the process may open %llu files "
                "(RLIMIT_NOFILE)",
                wanted, (unsigned long long)limit.rlim_cur);
    return wanted;
}

static int start_daemon(struct http_server *server, const struct http_listen *listen, int fd,
                        const char *certificate, const char *key, struct error *error)
{
    unsigned threads = listen->threads ? listen->threads : cores();
    double quiet = server->limits.request_time > server->limits.idle_time
                       ? server->limits.request_time
                       : server->limits.idle_time;
    unsigned flags = MHD_USE_ITC | MHD_ALLOW_SUSPEND_RESUME;
    struct MHD_OptionItem tls[] = {
        {MHD_OPTION_HTTPS_MEM_CERT, 0, (void *)(uintptr_t)certificate},
        {MHD_OPTION_HTTPS_MEM_KEY, 0, (void *)(uintptr_t)key},
        {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES},
        {MHD_OPTION_END, 0, NULL},
    };
    struct MHD_OptionItem pool[] = {
        {MHD_OPTION_THREAD_POOL_SIZE, (intptr_t)threads, NULL},
        {MHD_OPTION_END, 0, NULL},
    };

    /* With epoll a client that stops half-way through its ClientHello spins the thread. */
    flags |= server->tls ? MHD_USE_POLL_INTERNAL_THREAD | MHD_USE_TLS
                         : (unsigned)MHD_USE_EPOLL_INTERNAL_THREAD;
    server->daemon = MHD_start_daemon(
        flags, 0, on_accept, server, on_request, server, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_CONNECTION_LIMIT, fit_connections(server->limits.connections),
        MHD_OPTION_PER_IP_CONNECTION_LIMIT, server->limits.per_address,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, server->limits.header + POOL_EXTRA,
        /* Ends replies that the peer doesn't read; requests have their own deadline. */
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)quiet + 1, MHD_OPTION_NOTIFY_COMPLETED,
        on_completed, server, MHD_OPTION_NOTIFY_CONNECTION, on_connection, server,
        MHD_OPTION_URI_LOG_CALLBACK, on_target, server, MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped,
        server, MHD_OPTION_ARRAY, threads > 1 ? pool : pool + 1, MHD_OPTION_ARRAY,
        server->tls ? tls : tls + ARRAY_SIZE(tls) - 1, MHD_OPTION_END);
    if (server->daemon)
        return 0;
    return error_set(error, -EIO, "libmicrohttpd %s did not start on %s port %u", MHD_get_version(),
                     listen->address, (unsigned)server->port);
}

static int make_ticket_key(struct http_server *server, struct error *error)
{
    gnutls_datum_t key;
    int r = gnutls_session_ticket_key_generate(&key);

    if (r < 0)
        return error_set(error, -EIO, "cannot make a key for TLS sessions: %s", gnutls_strerror(r));
    server->ticket_key.data = key.data;
    server->ticket_key.size = key.size;
    return 0;
}

static struct http_server *server_new(const struct http_limits *limits, http_handler *handler,
                                      void *user)
{
    struct http_server *server = xcalloc(1, sizeof(*server));
    pthread_condattr_t monotonic;

    atomic_init(&server->refs, 1);
    server->limits = limits ? *limits : http_limits_default;
    server->known_parser = strcmp(MHD_get_version(), "0.9.75") == 0;
    if (!server->known_parser)
        log_warning("http-other-parser",
                    "libmicrohttpd is %s: line ends are only checked as strictly as it does itself "
                    "(0.9.75 was expected)",
                    MHD_get_version());
    server->handler = handler;
    server->user = user;
    server->connections.next = server->connections.prev = &server->connections;
    server->waits.next = server->waits.prev = &server->waits;
    pthread_mutex_init(&server->lock, NULL);
    pthread_mutex_init(&server->streams_lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&server->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return server;
}

static void stop_watch(struct http_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->watch_stop = true;
    pthread_cond_signal(&server->wake);
    pthread_mutex_unlock(&server->lock);
    pthread_join(server->watch, NULL);
}

int http_server_start(const struct http_listen *listen, const struct http_limits *limits,
                      http_handler *handler, void *user, struct http_server **ret,
                      struct error *error)
{
    _cleanup_buf_ struct buf certificate = BUF_INIT, key = BUF_INIT;
    struct http_server *server;
    int fd, r;

    if (!listen->certificate_path != !listen->key_path)
        return error_set(error, -EINVAL, "TLS needs both a certificate and a key: %s is missing",
                         listen->key_path ? "the certificate" : "the key");
    server = server_new(limits, handler, user);
    server->tls = listen->certificate_path != NULL;
    r = server->tls ? listen_load_tls(listen, &certificate, &key, error) : 0;
    if (r == 0 && server->tls)
        r = make_ticket_key(server, error);
    if (r < 0) {
        server_unref(server);
        return r;
    }
    fd = listen_open(listen, &server->port, error);
    if (fd < 0) {
        server_unref(server);
        return fd;
    }
    r = -pthread_create(&server->watch, NULL, watch_main, server);
    if (r < 0) {
        cleanup_fd(&fd);
        server_unref(server);
        return error_set(error, r, "cannot start a thread: %s", strerror(-r));
    }
    r = start_daemon(server, listen, fd, certificate.data, key.data, error);
    if (key.data)
        explicit_bzero(key.data, key.len);
    if (r < 0) {
        cleanup_fd(&fd);
        stop_watch(server);
        server_unref(server);
        return r;
    }
    *ret = server;
    return 0;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->port;
}

void http_server_stop(struct http_server *server, double grace)
{
    const double step = 0.01;

    atomic_store(&server->stopping, true);
    streams_end(server);
    for (double waited = 0; waited < grace && atomic_load(&server->in_flight) > 0; waited += step)
        clock_sleep(step);

    pthread_mutex_lock(&server->lock);
    server->closing = true;
    for (struct wait *wait = server->waits.next; wait != &server->waits; wait = wait->next) {
        wait->listed = false;
        MHD_resume_connection(wait->connection);
    }
    server->waits.next = server->waits.prev = &server->waits;
    pthread_mutex_unlock(&server->lock);

    MHD_stop_daemon(server->daemon);
    stop_watch(server);
    server_unref(server);
}
