#include "site.h"

#include "../scratch.h"
#include "base/clock.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static int start(void **state)
{
    *state = site_start(false, NULL);
    return 0;
}

static int stop(void **state)
{
    site_stop(*state);
    return 0;
}

#define GET(path, more) "GET " path " HTTP/1.1\r\nHost: x\r\n" more "\r\n"
#define GET_CLOSE(path, more) GET(path, more "Connection: close\r\n")

static void a_page_is_served_and_the_connection_kept(void **state)
{
    struct site *site = *state;
    _cleanup_fd_ int fd = dial(site->port);

    for (int i = 0; i < 3; i++) {
        _cleanup_free_ char *reply = NULL;

        put_text(fd, GET("/hello", ""));
        reply = read_until(fd, "hello");
        assert_int_equal(status_of(reply), 200);
        assert_contains(reply, "Content-Type: text/plain\r\n");
        assert_contains(reply, "Content-Length: 5\r\n");
        assert_lacks(reply, "Connection: close");
    }
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct site *site = *state;
    _cleanup_free_ char *reply = ask(site->port, GET("/query?name=one", "") GET("/hold-not", "")
                                                     GET_CLOSE("/query?name=two", ""));
    const char *one = strstr(reply, "\r\n\r\none"), *two = strstr(reply, "\r\n\r\ntwo");

    assert_non_null(one);
    assert_non_null(two);
    assert_true(one < two);
    assert_contains(reply, "HTTP/1.1 404");
}

static void an_unknown_page_is_a_problem_in_json(void **state)
{
    struct site *site = *state;
    _cleanup_free_ char *reply = ask(site->port, GET_CLOSE("/nowhere", ""));

    assert_int_equal(status_of(reply), 404);
    assert_contains(reply, "Content-Type: application/problem+json\r\n");
    assert_contains(reply, "\"detail\":\"/nowhere is no page\"");
    assert_contains(reply, "\"remedy\":\"Ask for /hello.\"");
}

static void header_peer_and_query_reach_the_handler(void **state)
{
    struct site *site = *state;
    _cleanup_free_ char *header =
        ask(site->port, GET_CLOSE("/header?name=x-thing", "X-Thing:  some value \r\n"));
    _cleanup_free_ char *peer = ask(site->port, GET_CLOSE("/peer", ""));
    _cleanup_free_ char *query = ask(site->port, GET_CLOSE("/query?name=%C3%A4+b", ""));

    assert_contains(header, "\r\n\r\nsome value");
    assert_contains(peer, "\r\n\r\n127.0.0.1");
    assert_contains(query, "\r\n\r\n\xc3\xa4 b");
}

static void a_blob_is_served_whole_or_not_modified(void **state)
{
    struct site *site = *state;
    _cleanup_free_ char *full = ask(site->port, GET_CLOSE("/blob", ""));
    _cleanup_free_ char *other = ask(site->port, GET_CLOSE("/blob", "If-None-Match: \"x\"\r\n"));
    _cleanup_free_ char *same =
        ask(site->port, GET_CLOSE("/blob", "If-None-Match: \"x\", \"" SITE_ETAG "\"\r\n"));
    _cleanup_free_ char *more =
        ask(site->port, GET_CLOSE("/blob-with-header", "If-None-Match: \"" SITE_ETAG "\"\r\n"));
    _cleanup_free_ char *head =
        ask(site->port, "HEAD /blob HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");

    assert_int_equal(status_of(full), 200);
    assert_contains(full, "ETag: \"" SITE_ETAG "\"\r\n");
    assert_contains(full, "Cache-Control: max-age=2\r\n");
    assert_contains(full, SITE_BLOB);
    assert_int_equal(status_of(other), 200);
    assert_int_equal(status_of(same), 304);
    assert_contains(same, "ETag: \"" SITE_ETAG "\"\r\n");
    assert_lacks(same, SITE_BLOB);
    assert_lacks(same, "Content-Length: 0");
    assert_int_equal(status_of(more), 304);
    assert_contains(more, "Retry-After: 7\r\n");
    assert_int_equal(status_of(head), 200);
    assert_lacks(head, SITE_BLOB);
}

static void a_body_comes_back_whether_it_has_a_length_or_is_chunked(void **state)
{
    struct site *site = *state;
    _cleanup_free_ char *plain =
        ask(site->port, "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                        "Content-Length: 4\r\n\r\nbody");
    _cleanup_free_ char *chunked =
        ask(site->port, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "3\r\nbod\r\n1\r\ny\r\n0\r\n\r\n" GET("/hello", ""));
    _cleanup_free_ char *empty = ask(site->port, "POST /echo HTTP/1.1\r\nHost: x\r\n"
                                                 "Connection: close\r\nContent-Length: 0\r\n\r\n");

    assert_contains(plain, "\r\n\r\nbody");
    assert_contains(chunked, "\r\n\r\nbody");
    /* What follows chunks is never taken for a request. */
    assert_contains(chunked, "Connection: close\r\n");
    assert_lacks(chunked, "hello");
    assert_int_equal(status_of(empty), 200);
}

static void a_client_that_waits_for_a_go_gets_it(void **state)
{
    struct site *site = *state;
    _cleanup_fd_ int fd = dial(site->port);
    _cleanup_free_ char *go = NULL;
    _cleanup_free_ char *reply = NULL;

    put_text(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
                 "Content-Length: 4\r\n\r\n");
    go = read_until(fd, "\r\n\r\n");
    assert_contains(go, "HTTP/1.1 100");
    put_text(fd, "body");
    reply = read_all(fd);
    assert_contains(reply, "\r\n\r\nbody");
}

static void too_long_a_body_is_refused_before_it_is_sent(void **state)
{
    struct site *site = *state;
    _cleanup_free_ char *waiting =
        ask(site->port, "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"
                        "Content-Length: 65537\r\n\r\n");
    _cleanup_fd_ int fd = dial(site->port);
    _cleanup_free_ char *at_once = NULL;

    assert_int_equal(status_of(waiting), 413);
    put_text(fd, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n");
    at_once = read_until(fd, "}");
    assert_int_equal(status_of(at_once), 413);
    assert_contains(at_once, "application/problem+json");
    assert_contains(at_once, "99999999");
    assert_contains(at_once, "65536");
    assert_int_equal(atomic_load(&site->handled), 0);
}

static void a_client_that_sends_too_long_a_body_still_hears_why(void **state)
{
    struct site *site = *state;
    struct buf request = BUF_INIT;

    for (int chunked = 0; chunked < 2; chunked++) {
        _cleanup_free_ char *reply = NULL;

        buf_clear(&request);
        buf_add_str(&request, "POST /echo HTTP/1.1\r\nHost: x\r\n");
        buf_add_str(&request, chunked ? "Transfer-Encoding: chunked\r\n\r\n100000\r\n"
                                      : "Content-Length: 1048576\r\n\r\n");
        for (int i = 0; i < 1 << 18; i++)
            buf_add_str(&request, "body");
        if (chunked)
            buf_add_str(&request, "\r\n0\r\n\r\n");
        reply = ask_bytes(site->port, request.data, request.len);
        assert_int_equal(status_of(reply), 413);
        assert_contains(reply, "application/problem+json");
    }
    buf_free(&request);
    assert_int_equal(atomic_load(&site->handled), 0);
}

static void too_large_a_header_is_refused(void **state)
{
    struct site *site = *state;
    struct buf request = BUF_INIT;
    _cleanup_free_ char *reply = NULL;
    _cleanup_free_ char *huge = NULL;

    buf_add_str(&request, "GET /hello HTTP/1.1\r\nHost: x\r\nX: ");
    for (int i = 0; i < 17 << 10; i++)
        buf_add_str(&request, "a");
    buf_add_str(&request, "\r\n\r\n");
    reply = ask_bytes(site->port, request.data, request.len);
    assert_int_equal(status_of(reply), 431);
    assert_contains(reply, "application/problem+json");
    buf_clear(&request);
    buf_add_str(&request, "GET /hello HTTP/1.1\r\nHost: x\r\nX: ");
    for (int i = 0; i < 1 << 20; i++)
        buf_add_str(&request, "a");
    huge = ask_bytes(site->port, request.data, request.len);
    assert_true(status_of(huge) == 431 || *huge == '\0');
    buf_free(&request);
    assert_int_equal(atomic_load(&site->handled), 0);
}

static void a_file_is_served_whole_in_part_or_not_at_all(void **state)
{
    struct site *site = *state;
    _cleanup_free_ char *path = path_join(site->dir, "file");
    _cleanup_free_ char *missing = ask(site->port, GET_CLOSE("/file", ""));
    _cleanup_free_ char *whole = NULL, *part = NULL, *tail = NULL, *beyond = NULL, *same = NULL,
                        *stale = NULL, *head = NULL, *empty = NULL;

    assert_int_equal(status_of(missing), 404);
    scratch_write(path, "0123456789", 10, 0600);
    whole = ask(site->port, GET_CLOSE("/file", ""));
    assert_int_equal(status_of(whole), 200);
    assert_contains(whole, "Accept-Ranges: bytes\r\n");
    assert_contains(whole, "\r\n\r\n0123456789");
    part = ask(site->port, GET_CLOSE("/file", "Range: bytes=2-4\r\n"));
    assert_int_equal(status_of(part), 206);
    assert_contains(part, "Content-Range: bytes 2-4/10\r\n");
    assert_contains(part, "Content-Length: 3\r\n");
    assert_contains(part, "\r\n\r\n234");
    tail = ask(site->port, GET_CLOSE("/file", "Range: bytes=-1\r\nIf-Range: \"file-1\"\r\n"));
    assert_int_equal(status_of(tail), 206);
    assert_contains(tail, "\r\n\r\n9");
    beyond = ask(site->port, GET_CLOSE("/file", "Range: bytes=10-\r\n"));
    assert_int_equal(status_of(beyond), 416);
    assert_contains(beyond, "Content-Range: bytes */10\r\n");
    assert_contains(beyond, "Content-Type: application/problem+json\r\n");
    same = ask(site->port, GET_CLOSE("/file", "Range: bytes=2-4\r\nIf-None-Match: \"file-1\"\r\n"));
    assert_int_equal(status_of(same), 304);
    stale = ask(site->port, GET_CLOSE("/file", "Range: bytes=2-4\r\nIf-Range: \"old\"\r\n"));
    assert_int_equal(status_of(stale), 200);
    head = ask(site->port, "HEAD /file HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_contains(head, "Content-Length: 10\r\n");
    assert_lacks(head, "0123");
    scratch_write(path, "", 0, 0600);
    empty = ask(site->port, GET_CLOSE("/file", ""));
    assert_int_equal(status_of(empty), 200);
    assert_contains(empty, "Content-Length: 0\r\n");
}

static void a_link_in_place_of_a_file_is_not_followed(void **state)
{
    struct site *site = *state;
    _cleanup_free_ char *path = path_join(site->dir, "file");
    _cleanup_free_ char *reply = NULL;

    assert_int_equal(symlink("/etc/passwd", path), 0);
    reply = ask(site->port, GET_CLOSE("/file", ""));
    assert_int_equal(status_of(reply), 404);
}

static void plain_http_off_loopback_is_refused(void **state)
{
    static const char *const addresses[] = {"0.0.0.0", "192.0.2.1", "::", "::ffff:192.0.2.1"};

    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        struct http_listen listen = {.address = addresses[i]};
        struct http_server *server;
        struct error error = ERROR_INIT;

        assert_int_equal(http_server_start(&listen, NULL, NULL, NULL, &server, &error), -EPERM);
        assert_contains(error.text, addresses[i]);
    }
}

static void an_address_or_port_that_cannot_be_had_is_named(void **state)
{
    struct site *site = *state;
    struct http_listen listen = {.address = "localhost"};
    struct http_server *server;
    struct error error = ERROR_INIT;

    assert_int_equal(http_server_start(&listen, NULL, NULL, NULL, &server, &error), -EINVAL);
    assert_contains(error.text, "\"localhost\"");
    listen = (struct http_listen){.address = "127.0.0.1", .port = site->port};
    assert_int_equal(http_server_start(&listen, NULL, NULL, NULL, &server, &error), -EADDRINUSE);
}

static void connections_of_one_address_are_limited(void **state)
{
    struct http_limits limits = http_limits_default;
    struct site *site;
    int fds[3];
    char byte;

    limits.per_address = 2;
    site = site_start(false, &limits);
    for (int i = 0; i < 2; i++) {
        _cleanup_free_ char *reply = NULL;

        fds[i] = dial(site->port);
        put_text(fds[i], GET("/hello", ""));
        reply = read_until(fds[i], "hello");
    }
    fds[2] = dial(site->port);
    assert_true(recv(fds[2], &byte, 1, 0) <= 0);
    for (int i = 0; i < 3; i++)
        (void)close(fds[i]);
    site_stop(site);
}

int main(void)
{
#define on_site(test) cmocka_unit_test_setup_teardown(test, start, stop)
    const struct CMUnitTest tests[] = {
        on_site(a_page_is_served_and_the_connection_kept),
        on_site(pipelined_requests_are_answered_in_order),
        on_site(an_unknown_page_is_a_problem_in_json),
        on_site(header_peer_and_query_reach_the_handler),
        on_site(a_blob_is_served_whole_or_not_modified),
        on_site(a_body_comes_back_whether_it_has_a_length_or_is_chunked),
        on_site(a_client_that_waits_for_a_go_gets_it),
        on_site(too_long_a_body_is_refused_before_it_is_sent),
        on_site(a_client_that_sends_too_long_a_body_still_hears_why),
        on_site(too_large_a_header_is_refused),
        on_site(a_file_is_served_whole_in_part_or_not_at_all),
        on_site(a_link_in_place_of_a_file_is_not_followed),
        cmocka_unit_test(plain_http_off_loopback_is_refused),
        on_site(an_address_or_port_that_cannot_be_had_is_named),
        cmocka_unit_test(connections_of_one_address_are_limited),
    };

    return cmocka_run_group_tests_name("http server", tests, NULL, NULL);
}
