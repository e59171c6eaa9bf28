#include "agent/check-internal.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/parse.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOKUP_STACK (256 * 1024)

static bool is_loopback(const char *host)
{
    struct in_addr four;
    struct in6_addr six;

    if (strcasecmp(host, "localhost") == 0)
        return true;
    if (inet_pton(AF_INET, host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

int check_host(const char *host, char *const *hosts, struct error *error)
{
    if (is_loopback(host))
        return 0;
    for (; *host && hosts && *hosts; hosts++)
        if (strcasecmp(*hosts, host) == 0)
            return 0;
    return error_set(error, -EPERM,
                     "host \"%.128s\": probes ask loopback only, and the hosts listed under "
                     "probe_hosts in agent.yaml",
                     host);
}

/* Waits for `fd` to be ready, the time to pass or the cancellation. */
static int wait_for(int fd, short events, int cancel_fd, double until)
{
    struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = cancel_fd, .events = POLLIN}};

    for (;;) {
        double left = until - clock_now(CLOCK_MONOTONIC);
        int got = poll(fds, 2, left > 0 ? (int)(left * 1000) + 1 : 0);

        if (got < 0 && errno != EINTR)
            return -errno;
        if (got > 0 && fds[1].revents)
            return -ECANCELED;
        if (got > 0)
            return 0;
        if (left <= 0)
            return -ETIMEDOUT;
    }
}

/* getaddrinfo can neither be timed nor be cancelled: it runs in a thread that is left behind when
 * it takes too long, and whoever of the two is last frees this. */
struct lookup {
    atomic_int users;
    int done_fd;
    char *host, *port;
    atomic_bool done; /* code and found are there */
    int code;
    struct addrinfo *found;
};

static void lookup_drop(struct lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->users, 1) > 1)
        return;
    if (lookup->found)
        freeaddrinfo(lookup->found);
    (void)close(lookup->done_fd);
    free(lookup->host);
    free(lookup->port);
    free(lookup);
}

static void *run_lookup(void *user)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    const uint64_t one = 1;
    struct lookup *lookup = user;

    lookup->code = getaddrinfo(lookup->host, lookup->port, &hints, &lookup->found);
    atomic_store(&lookup->done, true);
    if (write(lookup->done_fd, &one, sizeof(one)) < 0)
        abort(); /* a counter at 0 takes a 1 */
    lookup_drop(lookup);
    return NULL;
}

/* To be given back with lookup_drop, also on an error. */
static int look_up(const char *host, const char *port, int cancel_fd, double until,
                   struct lookup **ret)
{
    struct lookup *lookup = *ret = xcalloc(1, sizeof(*lookup));
    pthread_attr_t attributes;
    pthread_t thread;
    int r;

    atomic_init(&lookup->users, 1);
    lookup->host = xstrdup(host);
    lookup->port = xstrdup(port);
    lookup->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (lookup->done_fd < 0)
        return -errno;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, LOOKUP_STACK);
    atomic_store(&lookup->users, 2);
    r = -pthread_create(&thread, &attributes, run_lookup, lookup);
    (void)pthread_attr_destroy(&attributes);
    if (r < 0) {
        atomic_store(&lookup->users, 1);
        return r;
    }
    r = wait_for(lookup->done_fd, POLLIN, cancel_fd, until);
    if (r < 0)
        return r;
    return atomic_load(&lookup->done) && lookup->code == 0 ? 0 : -EHOSTUNREACH;
}

/* Linux connects a socket to itself when nobody listens on the port that it happened to be given:
 * that is no service. */
static bool is_own_echo(int fd)
{
    struct sockaddr_storage here = {0}, there = {0};
    socklen_t here_size = sizeof(here), there_size = sizeof(there);

    return getsockname(fd, (struct sockaddr *)&here, &here_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&there, &there_size) == 0 &&
           here_size == there_size && memcmp(&here, &there, here_size) == 0;
}

static int connect_one(const struct sockaddr *address, socklen_t len, int cancel_fd, double until)
{
    _cleanup_fd_ int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int failed = 0;
    socklen_t size = sizeof(failed);
    int r = 0;

    if (fd < 0)
        return -errno;
    if (connect(fd, address, len) < 0) {
        if (errno != EINPROGRESS)
            return -errno;
        r = wait_for(fd, POLLOUT, cancel_fd, until);
        if (r == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &size) < 0)
            r = -errno;
        if (r == 0)
            r = -failed;
    }
    return r == 0 && is_own_echo(fd) ? -ECONNREFUSED : r;
}

static int connect_loopback(const char *host, uint16_t port, int cancel_fd, double until)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = in6addr_loopback};
    bool name = strcasecmp(host, "localhost") == 0;
    int r = -EHOSTUNREACH;

    if (inet_pton(AF_INET, name ? "127.0.0.1" : host, &four.sin_addr) == 1)
        r = connect_one((const struct sockaddr *)&four, sizeof(four), cancel_fd, until);
    if ((name && r < 0 && r != -ECANCELED && r != -ETIMEDOUT) ||
        inet_pton(AF_INET6, host, &six.sin6_addr) == 1) {
        int other = connect_one((const struct sockaddr *)&six, sizeof(six), cancel_fd, until);

        /* Where there is no IPv6, the other answer says more. */
        r = name && other < 0 && other != -ECANCELED ? r : other;
    }
    return r;
}

static int connect_named(const char *host, const char *port, int cancel_fd, double until)
{
    struct lookup *lookup;
    int r = look_up(host, port, cancel_fd, until, &lookup);

    if (r == 0) {
        r = -EHOSTUNREACH;
        for (const struct addrinfo *a = lookup->found; a && r < 0 && r != -ECANCELED;
             a = a->ai_next)
            r = connect_one(a->ai_addr, a->ai_addrlen, cancel_fd, until);
    }
    lookup_drop(lookup);
    return r;
}

int check_tcp(const struct check *check, const struct check_vars *vars, int cancel_fd,
              struct error *error)
{
    double until = clock_now(CLOCK_MONOTONIC) + check->timeout;
    _cleanup_free_ char *host = NULL;
    _cleanup_free_ char *port = NULL;
    uint64_t number;
    int r = check_fill(check->host ? check->host : "127.0.0.1", vars, &host, error);

    if (r == 0)
        r = check_fill(check->port, vars, &port, error);
    if (r == 0)
        r = check_host(host, vars->hosts, error);
    if (r < 0)
        return r;
    if (parse_u64(port, 1, 65535, &number, NULL) < 0)
        return error_set(error, -EINVAL, "port is \"%.32s\": expected 1 to 65535", port);
    r = is_loopback(host) ? connect_loopback(host, (uint16_t)number, cancel_fd, until)
                          : connect_named(host, port, cancel_fd, until);
    return r < 0 ? error_set(error, r, "%s port %s: %s", host, port, strerrordesc_np(-r)) : 0;
}
