#include "load.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX (1u << 20)
#define STUCK_MS 10000 /* without any progress: give up */

enum state { STATE_CONNECT, STATE_HANDSHAKE, STATE_SEND, STATE_RECEIVE, STATE_DONE };

struct link {
    int fd;
    SSL *ssl;
    enum state state;
    uint32_t watched; /* epoll's events */
    const char *request;
    size_t request_len, sent, index;
    struct buf answer;
    size_t body_at, body_len; /* once the head is here, else 0 */
    unsigned status;
};

struct load {
    const struct load_options *options;
    SSL_CTX *tls;
    struct sockaddr_in to;
    int epoll;
    struct link *links;
    double end;
    bool empty; /* `next` has no more */
    unsigned busy;
    uint64_t answers;
    struct error *error;
};

double load_cpu_seconds(pid_t pid)
{
    _cleanup_free_ char *path = xasprintf("/proc/%d/stat", (int)pid);
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct error error;
    unsigned long user, system;
    const char *end;

    if (file_read(AT_FDCWD, path, 4096, &text, &error) < 0 || !(end = strrchr(text.data, ')')) ||
        sscanf(end + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) !=
            2)
        return -1;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static int broken(struct load *load, const char *what)
{
    unsigned long code = ERR_peek_last_error();

    return error_set(load->error, -EIO, "port %u: %s%s%s", (unsigned)load->options->port, what,
                     code ? ": " : "", code ? ERR_reason_error_string(code) : "");
}

static void watch(struct load *load, struct link *link, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = link};

    if (link->watched == events)
        return;
    epoll_ctl(load->epoll, link->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, link->fd, &event);
    link->watched = events;
}

static void hang_up(struct link *link)
{
    const struct linger now = {.l_onoff = 1};

    if (link->ssl)
        SSL_free(link->ssl);
    link->ssl = NULL;
    if (link->fd >= 0) {
        /* Without it thousands of ports would wait for nothing between two measurements. */
        setsockopt(link->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        close(link->fd);
    }
    link->fd = -1;
    link->watched = 0;
}

static int dial(struct load *load, struct link *link)
{
    const int on = 1;

    link->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (link->fd < 0)
        return error_set(load->error, -errno, "cannot make a socket: %s", strerror(errno));
    setsockopt(link->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(link->fd, (const struct sockaddr *)&load->to, sizeof load->to) < 0 &&
        errno != EINPROGRESS)
        return error_set(load->error, -errno, "cannot connect to port %u: %s",
                         (unsigned)load->options->port, strerror(errno));
    if (load->tls) {
        link->ssl = SSL_new(load->tls);
        SSL_set_fd(link->ssl, link->fd);
        SSL_set_connect_state(link->ssl);
    }
    link->state = STATE_CONNECT;
    return 0;
}

/* Takes the next request; false when there is none (any more). */
static bool load_next(struct load *load, struct link *link)
{
    const struct load_options *options = load->options;

    if (load->empty || (options->seconds > 0 && clock_now(CLOCK_MONOTONIC) >= load->end) ||
        !options->next(options->user, &link->index, &link->request, &link->request_len)) {
        load->empty = true;
        return false;
    }
    link->sent = 0;
    link->body_at = link->body_len = 0;
    buf_clear(&link->answer);
    return true;
}

/* 1: went on; 0: wait for the socket; negative: broken. */
static int tls_result(struct load *load, struct link *link, int r, const char *what)
{
    switch (SSL_get_error(link->ssl, r)) {
    case SSL_ERROR_WANT_READ:
        watch(load, link, EPOLLIN);
        return 0;
    case SSL_ERROR_WANT_WRITE:
        watch(load, link, EPOLLOUT);
        return 0;
    default:
        return broken(load, what);
    }
}

static int step_connect(struct load *load, struct link *link)
{
    int code = 0;
    socklen_t len = sizeof code;

    if (!link->watched) {
        watch(load, link, EPOLLOUT);
        return 0;
    }
    if (getsockopt(link->fd, SOL_SOCKET, SO_ERROR, &code, &len) < 0 || code != 0)
        return error_set(load->error, -EIO, "cannot connect to port %u: %s",
                         (unsigned)load->options->port, strerror(code));
    link->state = load->tls ? STATE_HANDSHAKE : STATE_SEND;
    return 1;
}

static int step_handshake(struct load *load, struct link *link)
{
    int r = SSL_do_handshake(link->ssl);

    if (r != 1)
        return tls_result(load, link, r, "the TLS handshake failed");
    link->state = STATE_SEND;
    return 1;
}

static int step_send(struct load *load, struct link *link)
{
    const char *rest = link->request + link->sent;
    size_t len = link->request_len - link->sent;

    if (!link->request)
        return 0;
    if (link->ssl) {
        int r = SSL_write(link->ssl, rest, (int)len);

        if (r <= 0)
            return tls_result(load, link, r, "sending failed");
        link->sent += (size_t)r;
    } else {
        ssize_t n = send(link->fd, rest, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            watch(load, link, EPOLLOUT);
            return 0;
        }
        if (n < 0)
            return broken(load, strerror(errno));
        link->sent += (size_t)n;
    }
    if (link->sent == link->request_len) {
        link->state = STATE_RECEIVE;
        watch(load, link, EPOLLIN);
        return 0; /* no answer can be here yet: save the read */
    }
    return 1;
}

/* Reads status and Content-Length as soon as the head is whole. */
static int read_head(struct load *load, struct link *link)
{
    struct buf *answer = &link->answer;
    const char *end = memmem(answer->data, answer->len, "\r\n\r\n", 4), *line;
    struct error error;
    uint64_t status = 0, length = 0;
    char digits[24];
    size_t count;

    if (!end)
        return 0;
    if (answer->len < 12 || memcmp(answer->data, "HTTP/1.1 ", 9) != 0)
        return broken(load, "the answer is no HTTP/1.1");
    memcpy(digits, answer->data + 9, 3);
    digits[3] = '\0';
    line = strcasestr(answer->data, "\r\ncontent-length:");
    if (!line || line > end)
        return broken(load, "the answer has no Content-Length");
    line += strlen("\r\ncontent-length:");
    line += strspn(line, " ");
    count = strspn(line, "0123456789");
    if (parse_u64(digits, 100, 599, &status, &error) < 0 || count >= sizeof digits)
        return broken(load, "the answer's head can't be read");
    memcpy(digits, line, count);
    digits[count] = '\0';
    if (parse_u64(digits, 0, ANSWER_MAX, &length, &error) < 0)
        return broken(load, "the answer is too long");
    link->status = (unsigned)status;
    link->body_at = (size_t)(end + 4 - answer->data);
    link->body_len = (size_t)length;
    return 0;
}

static int step_answered(struct load *load, struct link *link)
{
    const struct load_options *options = load->options;

    load->answers++;
    options->answered(options->user, link->index, link->status, link->answer.data + link->body_at,
                      link->body_len);
    if (options->fresh)
        hang_up(link);
    link->request = NULL;
    if (!load_next(load, link)) {
        link->state = STATE_DONE;
        load->busy--;
        return 0;
    }
    if (options->fresh)
        return dial(load, link) < 0 ? -EIO : 1;
    link->state = STATE_SEND;
    return 1;
}

static int step_receive(struct load *load, struct link *link)
{
    char part[16384];
    ssize_t n;
    int r;

    if (link->ssl) {
        r = SSL_read(link->ssl, part, sizeof part);
        if (r <= 0)
            return tls_result(load, link, r, "the connection broke before the answer");
        n = r;
    } else {
        n = recv(link->fd, part, sizeof part, 0);
        if (n < 0 && errno == EAGAIN) {
            watch(load, link, EPOLLIN);
            return 0;
        }
        if (n <= 0)
            return broken(load, n < 0 ? strerror(errno) : "closed before the answer");
    }
    if (link->answer.len + (size_t)n > ANSWER_MAX)
        return broken(load, "the answer is too long");
    buf_add(&link->answer, part, (size_t)n);
    if (!link->body_at && (r = read_head(load, link)) < 0)
        return r;
    if (link->body_at && link->answer.len >= link->body_at + link->body_len)
        return step_answered(load, link);
    return 1;
}

static int go_on(struct load *load, struct link *link)
{
    static int (*const steps[])(struct load * load, struct link * link) = {
        [STATE_CONNECT] = step_connect,
        [STATE_HANDSHAKE] = step_handshake,
        [STATE_SEND] = step_send,
        [STATE_RECEIVE] = step_receive,
    };
    int r;

    ERR_clear_error();
    do
        r = link->state == STATE_DONE ? 0 : steps[link->state](load, link);
    while (r > 0);
    return r;
}

static int turn(struct load *load)
{
    struct epoll_event events[256];
    int count = epoll_wait(load->epoll, events, ARRAY_SIZE(events), STUCK_MS);

    if (count == 0)
        return broken(load, "no answer came for 10 s");
    for (int i = 0; i < count; i++) {
        int r = go_on(load, events[i].data.ptr);

        if (r < 0)
            return r;
    }
    return 0;
}

static bool all_open(const struct load *load)
{
    for (unsigned i = 0; i < load->options->connections; i++)
        if (load->links[i].state < STATE_SEND)
            return false;
    return true;
}

static int open_links(struct load *load)
{
    int r = 0;

    for (unsigned i = 0; i < load->options->connections && r == 0; i++)
        if ((r = dial(load, &load->links[i])) == 0)
            r = go_on(load, &load->links[i]);
    while (r == 0 && !load->options->fresh && !all_open(load))
        r = turn(load);
    return r;
}

static int measure(struct load *load, struct load_result *ret)
{
    const struct load_options *options = load->options;
    double cpu, start;
    int r;

    if (!options->fresh && (r = open_links(load)) < 0)
        return r;
    cpu = options->pid ? load_cpu_seconds(options->pid) : 0;
    start = clock_now(CLOCK_MONOTONIC);
    load->end = start + options->seconds;
    for (unsigned i = 0; i < options->connections; i++) {
        struct link *link = &load->links[i];

        if (!load_next(load, link)) {
            link->state = STATE_DONE;
            continue;
        }
        load->busy++;
        if (options->fresh && (r = dial(load, link)) < 0)
            return r;
        if ((r = go_on(load, link)) < 0)
            return r;
    }
    while (load->busy > 0)
        if ((r = turn(load)) < 0)
            return r;
    ret->answers = load->answers;
    ret->seconds = clock_now(CLOCK_MONOTONIC) - start;
    ret->cpu_seconds = options->pid ? load_cpu_seconds(options->pid) - cpu : 0;
    return 0;
}

static int make_tls(struct load *load)
{
    if (!load->options->tls)
        return 0;
    load->tls = SSL_CTX_new(TLS_client_method());
    if (!load->tls || SSL_CTX_set_min_proto_version(load->tls, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(load->tls, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(load->tls, "X25519") != 1)
        return broken(load, "OpenSSL can't be set up");
    /* The load is on a loopback port that script/bench has opened; who answers is no question. */
    SSL_CTX_set_verify(load->tls, SSL_VERIFY_NONE, NULL);
    SSL_CTX_set_session_cache_mode(load->tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(load->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_RELEASE_BUFFERS);
    return 0;
}

int load_run(const struct load_options *options, struct load_result *ret, struct error *error)
{
    struct load load = {.options = options,
                        .error = error,
                        .to = {.sin_family = AF_INET, .sin_port = htons(options->port)}};
    int r;

    if (inet_pton(AF_INET, options->address, &load.to.sin_addr) != 1)
        return error_set(error, -EINVAL, "\"%s\" is no IPv4 address", options->address);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    load.links = xcalloc(options->connections, sizeof *load.links);
    for (unsigned i = 0; i < options->connections; i++)
        load.links[i].fd = -1;
    r = make_tls(&load);
    if (r == 0)
        r = measure(&load, ret);
    for (unsigned i = 0; i < options->connections; i++) {
        hang_up(&load.links[i]);
        buf_free(&load.links[i].answer);
    }
    SSL_CTX_free(load.tls);
    free(load.links);
    close(load.epoll);
    return r;
}
