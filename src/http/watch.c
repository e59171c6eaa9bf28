/* One thread looks after what libmicrohttpd does not: whole-request deadlines, peers that went away
 * while their request was suspended, and heartbeats. */
#include "http/private.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>

#define TICK_MS 250
#define CHECK_MS 1000        /* how often a waiting peer is looked at */
#define CHECKS_PER_TICK 2500 /* each is a system call under the lock */

static bool peer_is_away(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};

    return poll(&poll_fd, 1, 0) > 0 && (poll_fd.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void ring_remove(struct wait *wait)
{
    wait->prev->next = wait->next;
    wait->next->prev = wait->prev;
    wait->listed = false;
}

static void ring_append(struct wait *ring, struct wait *wait)
{
    wait->prev = ring->prev;
    wait->next = ring;
    ring->prev->next = wait;
    ring->prev = wait;
    wait->listed = true;
}

bool wait_begin(struct http_server *server, struct wait *wait, struct connection *connection,
                struct MHD_Connection *mhd)
{
    bool closing;

    pthread_mutex_lock(&server->lock);
    closing = server->closing;
    if (!closing) {
        wait->connection = mhd;
        wait->fd = connection->fd;
        wait->checked_ms = now_ms();
        ring_append(&server->waits, wait);
        MHD_suspend_connection(mhd);
    }
    pthread_mutex_unlock(&server->lock);
    return !closing;
}

void wait_end(struct http_server *server, struct wait *wait)
{
    pthread_mutex_lock(&server->lock);
    if (wait->listed) {
        ring_remove(wait);
        MHD_resume_connection(wait->connection);
    }
    pthread_mutex_unlock(&server->lock);
}

/* Resumed with nothing to send, such a connection closes in its own thread. */
static void check_waits(struct http_server *server, int64_t now)
{
    for (int i = 0; i < CHECKS_PER_TICK; i++) {
        struct wait *wait = server->waits.next;

        if (wait == &server->waits || now - wait->checked_ms < CHECK_MS)
            return;
        ring_remove(wait);
        if (peer_is_away(wait->fd)) {
            wait->gone = true;
            MHD_resume_connection(wait->connection);
            continue;
        }
        wait->checked_ms = now;
        ring_append(&server->waits, wait);
    }
}

static void check_deadlines(struct http_server *server, int64_t now)
{
    for (struct connection *c = server->connections.next; c != &server->connections; c = c->next) {
        if (now < atomic_load_explicit(&c->deadline_ms, memory_order_relaxed))
            continue;
        /* libmicrohttpd reads the end of the stream and closes. */
        (void)shutdown(c->fd, SHUT_RDWR);
        atomic_store_explicit(&c->deadline_ms, NO_DEADLINE, memory_order_relaxed);
    }
}

void *watch_main(void *argument)
{
    struct http_server *server = argument;
    struct timespec until;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    pthread_mutex_lock(&server->lock);
    while (!server->watch_stop) {
        int64_t now = now_ms();

        check_deadlines(server, now);
        check_waits(server, now);
        pthread_mutex_unlock(&server->lock);
        streams_beat(server, now);
        pthread_mutex_lock(&server->lock);

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += TICK_MS * 1000000L;
        if (until.tv_nsec >= 1000000000L) {
            until.tv_nsec -= 1000000000L;
            until.tv_sec++;
        }
        while (!server->watch_stop &&
               pthread_cond_timedwait(&server->wake, &server->lock, &until) == 0)
            ;
    }
    pthread_mutex_unlock(&server->lock);
    return NULL;
}
