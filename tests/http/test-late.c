/* Replies that come later, peers that leave, senders that dawdle, and stopping meanwhile. */
#include "site.h"

#include "../scratch.h"
#include "base/clock.h"
#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOLD "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"
#define HELLO "GET /hello HTTP/1.1\r\nHost: x\r\n\r\n"

static void reply_text(struct http_exchange *exchange, const char *text)
{
    http_reply(exchange, 200, "text/plain", text, strlen(text));
}

static void a_kept_exchange_is_replied_to_from_another_thread(void **state)
{
    struct site *site = site_start(false, NULL);
    _cleanup_fd_ int fd = dial(site->port);
    _cleanup_free_ char *reply = NULL;
    _cleanup_free_ char *next = NULL;

    put_text(fd, HOLD);
    site_wait_held(site, 1);
    reply_text(site_take(site), "at last");
    reply = read_until(fd, "at last");
    assert_int_equal(status_of(reply), 200);
    put_text(fd, HELLO);
    next = read_until(fd, "hello");
    assert_int_equal(status_of(next), 200);
    site_stop(site);
}

enum { REPLIERS = 64, ASKERS = 16, ROUNDS = 40 };

struct crowd {
    struct site *site;
    atomic_bool stop;
    atomic_int answered;
};

static void *reply_for_ever(void *user)
{
    struct crowd *crowd = user;

    while (!atomic_load(&crowd->stop)) {
        struct http_exchange *exchange = site_take(crowd->site);

        if (!exchange) {
            clock_sleep(0.0005);
            continue;
        }
        /* Sometimes before the handler has returned, sometimes long after. */
        if (random_unit() < 0.5)
            clock_sleep(random_unit() * 0.003);
        reply_text(exchange, "later");
    }
    return NULL;
}

static void *ask_again_and_again(void *user)
{
    struct crowd *crowd = user;
    int fd = dial(crowd->site->port);

    for (int i = 0; i < ROUNDS; i++) {
        char *reply;

        put_text(fd, HOLD);
        if (i % 8 == 7) { /* leaves without the reply */
            (void)close(fd);
            fd = dial(crowd->site->port);
            continue;
        }
        reply = read_until(fd, "later");
        if (status_of(reply) == 200)
            atomic_fetch_add(&crowd->answered, 1);
        free(reply);
    }
    (void)close(fd);
    return NULL;
}

static void sixty_four_threads_reply_to_a_crowd(void **state)
{
    struct crowd crowd = {.site = site_start(false, NULL)};
    pthread_t repliers[REPLIERS], askers[ASKERS];

    for (int i = 0; i < REPLIERS; i++)
        assert_int_equal(pthread_create(&repliers[i], NULL, reply_for_ever, &crowd), 0);
    for (int i = 0; i < ASKERS; i++)
        assert_int_equal(pthread_create(&askers[i], NULL, ask_again_and_again, &crowd), 0);
    for (int i = 0; i < ASKERS; i++)
        (void)pthread_join(askers[i], NULL);
    atomic_store(&crowd.stop, true);
    for (int i = 0; i < REPLIERS; i++)
        (void)pthread_join(repliers[i], NULL);
    assert_int_equal(atomic_load(&crowd.answered), ASKERS * ROUNDS * 7 / 8);
    site_stop(crowd.site);
}

static void a_peer_that_leaves_while_it_waits_is_noticed(void **state)
{
    struct site *site = site_start(false, NULL);
    int fd = dial(site->port);
    struct http_exchange *exchange;

    put_text(fd, HOLD);
    site_wait_held(site, 1);
    (void)close(fd);
    wait_for(&site->gone, 1);
    /* The exchange is still whole, and the reply goes nowhere. */
    exchange = site_take(site);
    assert_string_equal(http_path(exchange), "/hold");
    assert_string_equal(http_header(exchange, "host"), "x");
    assert_string_equal(http_peer(exchange), "127.0.0.1");
    reply_text(exchange, "too late");
    site_stop(site);
}

static void a_peer_that_waits_patiently_is_kept(void **state)
{
    struct http_limits limits = http_limits_default;
    struct site *site;
    _cleanup_free_ char *reply = NULL;
    int fd;

    limits.request_time = 1;
    limits.idle_time = 1;
    site = site_start(false, &limits);
    fd = dial(site->port);
    put_text(fd, HOLD);
    site_wait_held(site, 1);
    clock_sleep(3);
    assert_int_equal(atomic_load(&site->gone), 0);
    reply_text(site_take(site), "at last");
    reply = read_until(fd, "at last");
    assert_int_equal(status_of(reply), 200);
    (void)close(fd);
    site_stop(site);
}

/* Seconds until the server closes on a client that sends `piece` every 100 ms. */
static double dawdle(const struct site *site, const char *first, const char *piece)
{
    double start = clock_now(CLOCK_MONOTONIC);
    int fd = dial(site->port);
    char byte;

    put_text(fd, first);
    for (;;) {
        double took = clock_now(CLOCK_MONOTONIC) - start;
        ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);

        if (got == 0 || (got < 0 && errno != EAGAIN) || took > 8) {
            (void)close(fd);
            return took;
        }
        put_text(fd, piece);
        clock_sleep(0.1);
    }
}

static void a_slow_sender_is_closed_whatever_it_sends_slowly(void **state)
{
    static const struct {
        const char *first, *piece;
    } slow[] = {
        {"", "G"},
        {"GET /hello HTTP/1.1\r\n", "X: y\r\n"},
        {"GET /hello HTTP/1.1\r\nHost: x\r\nX: ", "y"},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n", "b"},
        {"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nb\r\n"},
        {"", ""},
    };
    struct http_limits limits = http_limits_default;
    struct site *site;

    limits.request_time = 1;
    limits.idle_time = 1;
    site = site_start(false, &limits);
    for (size_t i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
        double took = dawdle(site, slow[i].first, slow[i].piece);

        if (took < 0.9 || took > 2.5)
            fail_msg("closed after %.1f s on \"%s\" and many \"%s\"", took, slow[i].first,
                     slow[i].piece);
    }
    assert_int_equal(atomic_load(&site->handled), 0);
    site_stop(site);
}

static void a_reader_that_takes_nothing_is_closed(void **state)
{
    const size_t size = 30 << 20;
    struct http_limits limits = http_limits_default;
    struct site *site;
    _cleanup_free_ char *path = NULL;
    _cleanup_free_ char *data = xcalloc(1, size);
    size_t taken = 0;
    char chunk[65536];
    ssize_t got;
    int fd;

    limits.request_time = limits.idle_time = 1;
    site = site_start(false, &limits);
    path = path_join(site->dir, "file");
    scratch_write(path, data, size, 0600);
    fd = dial(site->port);
    put_text(fd, "GET /file HTTP/1.1\r\nHost: x\r\n\r\n");
    clock_sleep(4);
    while ((got = recv(fd, chunk, sizeof(chunk), 0)) > 0)
        taken += (size_t)got;
    assert_true(taken < size);
    (void)close(fd);
    site_stop(site);
}

static void an_idle_connection_is_closed(void **state)
{
    struct http_limits limits = http_limits_default;
    struct site *site;
    double start;
    _cleanup_free_ char *reply = NULL;
    int fd;

    limits.idle_time = 1;
    site = site_start(false, &limits);
    fd = dial(site->port);
    put_text(fd, HELLO);
    start = clock_now(CLOCK_MONOTONIC);
    reply = read_all(fd);
    assert_int_equal(status_of(reply), 200);
    assert_true(clock_now(CLOCK_MONOTONIC) - start < 3);
    (void)close(fd);
    site_stop(site);
}

static void stopping_waits_for_replies_and_no_longer_than_its_grace(void **state)
{
    struct site *site = site_start(false, NULL);
    int fds[20];
    double start;

    for (int i = 0; i < 20; i++) {
        fds[i] = dial(site->port);
        put_text(fds[i], HOLD);
    }
    site_wait_held(site, 20);
    for (int i = 0; i < 10; i++)
        reply_text(site_take(site), "in time");
    start = clock_now(CLOCK_MONOTONIC);
    http_server_stop(site->server, 0.5);
    site->server = NULL;
    assert_true(clock_now(CLOCK_MONOTONIC) - start < 3);
    assert_int_equal(atomic_load(&site->gone), 10);
    for (int i = 0, answered = 0; i < 20; i++) {
        _cleanup_free_ char *reply = read_all(fds[i]);

        answered += status_of(reply) == 200;
        (void)close(fds[i]);
        if (i == 19)
            assert_int_equal(answered, 10);
    }
    /* Those that are still kept are replied to when the server is no more. */
    site_stop(site);
}

static void *stop_server(void *user)
{
    struct site *site = user;

    http_server_stop(site->server, 5);
    site->server = NULL;
    return NULL;
}

static void a_stopping_server_takes_nobody_new(void **state)
{
    struct site *site = site_start(false, NULL);
    _cleanup_free_ char *late = NULL;
    _cleanup_free_ char *kept = NULL;
    pthread_t stopper;
    int fd = dial(site->port);

    put_text(fd, HOLD);
    site_wait_held(site, 1);
    assert_int_equal(pthread_create(&stopper, NULL, stop_server, site), 0);
    clock_sleep(0.2);
    late = ask(site->port, HELLO);
    assert_string_equal(late, "");
    reply_text(site_take(site), "in time");
    kept = read_all(fd);
    assert_int_equal(status_of(kept), 200);
    (void)pthread_join(stopper, NULL);
    (void)close(fd);
    site_stop(site);
}

static void stopping_under_load_loses_nothing(void **state)
{
    for (int round = 0; round < 5; round++) {
        struct crowd crowd = {.site = site_start(false, NULL)};
        pthread_t repliers[8];
        int fds[64];

        for (int i = 0; i < 8; i++)
            assert_int_equal(pthread_create(&repliers[i], NULL, reply_for_ever, &crowd), 0);
        for (int i = 0; i < 64; i++) {
            fds[i] = dial(crowd.site->port);
            put_text(fds[i], HOLD HOLD HOLD HOLD);
        }
        http_server_stop(crowd.site->server, 0.01 * round);
        crowd.site->server = NULL;
        atomic_store(&crowd.stop, true);
        for (int i = 0; i < 8; i++)
            (void)pthread_join(repliers[i], NULL);
        for (int i = 0; i < 64; i++)
            (void)close(fds[i]);
        site_stop(crowd.site);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kept_exchange_is_replied_to_from_another_thread),
        cmocka_unit_test(sixty_four_threads_reply_to_a_crowd),
        cmocka_unit_test(a_peer_that_leaves_while_it_waits_is_noticed),
        cmocka_unit_test(a_peer_that_waits_patiently_is_kept),
        cmocka_unit_test(a_slow_sender_is_closed_whatever_it_sends_slowly),
        cmocka_unit_test(a_reader_that_takes_nothing_is_closed),
        cmocka_unit_test(an_idle_connection_is_closed),
        cmocka_unit_test(stopping_waits_for_replies_and_no_longer_than_its_grace),
        cmocka_unit_test(a_stopping_server_takes_nobody_new),
        cmocka_unit_test(stopping_under_load_loses_nothing),
    };

    return cmocka_run_group_tests_name("http late replies", tests, NULL, NULL);
}
