#include "site.h"

#include "base/clock.h"

#include <unistd.h>

#define STREAM "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n"

static void events_arrive_as_they_are_sent(void **state)
{
    struct site *site = site_start(false, NULL);
    int fd = dial(site->port);
    _cleanup_free_ char *head = NULL, *first = NULL, *second = NULL, *rest = NULL;
    struct http_stream *stream;

    put_text(fd, STREAM);
    stream = site_wait_stream(site);
    /* The head comes before the first event. */
    head = read_until(fd, ":\n\n");
    assert_contains(head, "Content-Type: text/event-stream\r\n");
    assert_true(http_stream_send(stream, "rollout", "{\"in_flight\":3}"));
    first = read_until(fd, "\n\n");
    assert_contains(first, "event: rollout\ndata: {\"in_flight\":3}\n\n");
    assert_true(http_stream_send(stream, NULL, "two\nlines\r\nor\rmore"));
    second = read_until(fd, "more\n\n");
    assert_contains(second, "data: two\ndata: lines\ndata: or\ndata: more\n\n");
    assert_true(http_stream_alive(stream));
    http_stream_end(stream);
    rest = read_until(fd, "0\r\n\r\n");
    assert_contains(rest, "0\r\n\r\n");
    (void)close(fd);
    site_stop(site);
}

static void a_client_that_leaves_is_noticed(void **state)
{
    struct site *site = site_start(false, NULL);
    int fd = dial(site->port);
    struct http_stream *stream;

    put_text(fd, STREAM);
    stream = site_wait_stream(site);
    (void)close(fd);
    for (int i = 0; i < 500 && http_stream_alive(stream); i++)
        clock_sleep(0.01);
    assert_false(http_stream_alive(stream));
    assert_false(http_stream_send(stream, NULL, "nobody"));
    http_stream_end(stream);
    site_stop(site);
}

static void a_client_that_does_not_read_is_given_up(void **state)
{
    struct site *site = site_start(false, NULL);
    _cleanup_free_ char *event = xmalloc(100001);
    int fd = dial(site->port);
    struct http_stream *stream;
    size_t sent = 0;

    memset(event, 'x', 100000);
    event[100000] = '\0';
    put_text(fd, STREAM);
    stream = site_wait_stream(site);
    while (sent < 1000 && http_stream_send(stream, NULL, event))
        sent++;
    /* The socket's buffers take some, the queue 1 MiB. */
    assert_in_range(sent, 10, 300);
    assert_false(http_stream_alive(stream));
    http_stream_end(stream);
    (void)close(fd);
    site_stop(site);
}

static void a_silent_stream_has_heartbeats(void **state)
{
    struct site *site = site_start(false, NULL);
    int fd = dial(site->port);
    _cleanup_free_ char *head = NULL, *beat = NULL;
    struct http_stream *stream;
    double start;

    put_text(fd, STREAM);
    stream = site_wait_stream(site);
    head = read_until(fd, ":\n\n");
    start = clock_now(CLOCK_MONOTONIC);
    (void)beat;
    clock_sleep(2);
    beat = read_until(fd, ":\n\n");
    assert_in_range((int)(clock_now(CLOCK_MONOTONIC) - start), 9, 12);
    http_stream_end(stream);
    (void)close(fd);
    site_stop(site);
}

static void *send_events(void *user)
{
    struct http_stream *stream = user;

    for (int i = 0; i < 2000; i++)
        if (!http_stream_send(stream, "n", "some event"))
            break;
    return NULL;
}

static void many_threads_send_into_one_stream(void **state)
{
    struct site *site = site_start(false, NULL);
    int fd = dial(site->port);
    struct http_stream *stream;
    pthread_t threads[8];
    _cleanup_free_ char *all = NULL;
    size_t count = 0;

    put_text(fd, "GET /stream HTTP/1.0\r\nHost: x\r\n\r\n");
    stream = site_wait_stream(site);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, send_events, stream), 0);
    for (int i = 0; i < 8; i++)
        (void)pthread_join(threads[i], NULL);
    http_stream_end(stream);
    all = read_all(fd);
    for (const char *p = all; (p = strstr(p, "event: n\ndata: some event\n\n")); p++)
        count++;
    assert_int_equal(count, 16000);
    (void)close(fd);
    site_stop(site);
}

static void stopping_ends_streams_at_once(void **state)
{
    struct site *site = site_start(false, NULL);
    int fd = dial(site->port);
    struct http_stream *stream;
    _cleanup_free_ char *all = NULL;
    double start;

    put_text(fd, STREAM);
    stream = site_wait_stream(site);
    start = clock_now(CLOCK_MONOTONIC);
    http_server_stop(site->server, 5);
    site->server = NULL;
    assert_true(clock_now(CLOCK_MONOTONIC) - start < 2);
    all = read_all(fd);
    assert_contains(all, "0\r\n\r\n");
    assert_false(http_stream_send(stream, NULL, "late"));
    http_stream_end(stream);
    (void)close(fd);
    site_stop(site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_arrive_as_they_are_sent),
        cmocka_unit_test(a_client_that_leaves_is_noticed),
        cmocka_unit_test(a_client_that_does_not_read_is_given_up),
        cmocka_unit_test(a_silent_stream_has_heartbeats),
        cmocka_unit_test(many_threads_send_into_one_stream),
        cmocka_unit_test(stopping_ends_streams_at_once),
    };

    return cmocka_run_group_tests_name("http stream", tests, NULL, NULL);
}
