/* Requests that no well-meaning client sends. */
#include "site.h"

#include "base/random.h"

#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

struct raw {
    const char *text;
    size_t len;
    unsigned status; /* 0: closed without a word, or any 4xx or 5xx */
    bool problem;    /* in JSON, not libmicrohttpd's own */
};
#define RAW(status_, problem_, text_)                                                              \
    {                                                                                              \
        .text = (text_), .len = sizeof(text_) - 1, .status = (status_), .problem = (problem_)      \
    }
#define LINE "GET /hello HTTP/1.1\r\n"

static const struct raw malformed[] = {
    /* framing */
    RAW(400, true,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nbody"),
    RAW(400, true,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 40\r\n\r\nbody"),
    RAW(400, true,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\n"),
    RAW(400, true,
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\ncontent-length: 4\r\n\r\n"
        "0\r\n\r\n"),
    RAW(400, true, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length : 4\r\n\r\nbody"),
    RAW(400, true, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n more: 1\r\n\r\nbody"),
    RAW(501, true, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\nbody"),
    RAW(501, true,
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    RAW(400, true,
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        "Transfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
    RAW(400, true, "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    RAW(400, false, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n"),
    RAW(400, false, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
    RAW(400, false, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nbody"),
    RAW(400, false, "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4, 4\r\n\r\nbody"),
    RAW(413, false,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n"),
    RAW(413, true,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 18446744073709551614\r\n\r\n"),
    RAW(400, false,
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
    RAW(0, false,
        "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        "ffffffffffffffffff\r\n\r\n"),
    /* Host */
    RAW(400, true, LINE "Host: a\r\nHost: b\r\n\r\n"),
    RAW(400, true, LINE "\r\n"),
    /* names and values */
    RAW(400, true, LINE "Host: x\r\nBad Name: y\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\nName\t: y\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\n: y\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\nN\x80me: y\r\n\r\n"),
    RAW(400, true,
        LINE "Host: x\r\nName: a\x01"
             "b\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\nName: a\rb\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\nName: a\0b\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\nName: a\0\r\n\r\n"),
    RAW(400, false, LINE "Host: x\r\nNa\0me: a\r\n\r\n"),
    RAW(400, false, LINE "Host: x\r\nno colon\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\nMaeslant-Signature: a\r\nMaeslant-Signature: b\r\n\r\n"),
    /* line ends and folding */
    RAW(400, true, "GET /hello HTTP/1.1\nHost: x\r\n\r\n"),
    RAW(400, true, LINE "Host: x\n\r\n"),
    RAW(400, true, LINE "Host: x\r\n\n"),
    RAW(400, true, "GET /hello HTTP/1.1\nHost: x\n\n"),
    RAW(400, true, LINE "Host: x\r\nA: b\nC: d\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\nA: b\r\n c\r\n\r\n"),
    RAW(400, true, LINE "Host: x\r\nA: b\r\n\t\r\n\r\n"),
    RAW(0, false, LINE " Host: x\r\n\r\n"),
    /* the request line */
    RAW(400, true, "GET  /hello HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET /hello  HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(0, false, "GET /hello HTTP/1.1 \r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET /hel lo HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET /hello\0/x HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET /hello?a\0b HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET /hello%00 HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET /a/../hello HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET /a%2f..%2fhello HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET hello HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GET /hello%ff HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "get /hello HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "GE\0T /hello HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(400, true, "ABCDEFGHIJKLMNOPQRSTUVWXYZ /hello HTTP/1.1\r\nHost: x\r\n\r\n"),
    RAW(0, false, "GET /hello HTTP/2.0\r\nHost: x\r\n\r\n"),
    RAW(0, false, "GET /hello HTTP/0.9\r\nHost: x\r\n\r\n"),
    RAW(0, false, "GET /hello http/1.1\r\nHost: x\r\n\r\n"),
    RAW(0, false, "GET /hello\r\n\r\n"),
    RAW(0, false, "GET\r\n\r\n"),
    RAW(0, false, " \r\n\r\n"),
    RAW(0, false, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    RAW(0, false, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
};

/* Most cases only wait, so many run at once; cmocka's assertions are for the main thread alone. */
struct batch {
    struct site *site;
    bool (*check)(struct site *site, size_t i);
    size_t count;
    atomic_size_t next;
    atomic_size_t failed; /* index of one that failed, or SIZE_MAX */
};

static void *run_batch(void *user)
{
    struct batch *batch = user;
    size_t i;

    while ((i = atomic_fetch_add(&batch->next, 1)) < batch->count)
        if (!batch->check(batch->site, i))
            atomic_store(&batch->failed, i);
    return NULL;
}

/* The index of a case that failed, SIZE_MAX when none did. */
static size_t in_parallel(struct site *site, bool (*check)(struct site *site, size_t i),
                          size_t count)
{
    struct batch batch = {.site = site, .check = check, .count = count, .failed = SIZE_MAX};
    pthread_t threads[16];

    for (int i = 0; i < 16; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_batch, &batch), 0);
    for (int i = 0; i < 16; i++)
        (void)pthread_join(threads[i], NULL);
    return atomic_load(&batch.failed);
}

static bool gets_its_error(struct site *site, size_t i)
{
    const struct raw *raw = &malformed[i];
    _cleanup_free_ char *reply = ask_bytes(site->port, raw->text, raw->len);
    unsigned status = status_of(reply);
    bool problem = strstr(reply, "application/problem+json") != NULL;
    bool right = raw->status ? status == raw->status : *reply == '\0' || status >= 400;

    return right && (problem || !raw->problem);
}

static void malformed_requests_get_an_error_and_reach_nobody(void **state)
{
    struct site *site = site_start(false, NULL);
    size_t failed = in_parallel(site, gets_its_error, ARRAY_SIZE(malformed));

    if (failed != SIZE_MAX) {
        _cleanup_free_ char *reply =
            ask_bytes(site->port, malformed[failed].text, malformed[failed].len);

        fail_msg("%zu: \"%s\" got \"%s\"", failed, malformed[failed].text, reply);
    }
    assert_int_equal(atomic_load(&site->handled), 0);
    site_stop(site);
}

static bool ask_with_successor(struct site *site, size_t i)
{
    _cleanup_buf_ struct buf request = BUF_INIT;

    buf_add(&request, malformed[i].text, malformed[i].len);
    buf_add_str(&request, LINE "Host: x\r\nConnection: close\r\n\r\n");
    free(ask_bytes(site->port, request.data, request.len));
    return true;
}

static void a_refused_request_takes_its_successor_with_it(void **state)
{
    struct site *site = site_start(false, NULL);

    (void)in_parallel(site, ask_with_successor, ARRAY_SIZE(malformed));
    assert_int_equal(atomic_load(&site->handled), 0);
    site_stop(site);
}

static void well_formed_oddities_are_served(void **state)
{
    static const char *const good[] = {
        "GET /hello HTTP/1.1\r\nhOsT:x\r\nConnection: close\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost:\t x \r\nX:\r\nConnection: close\r\n\r\n",
        "GET /hello HTTP/1.0\r\n\r\n",
        "GET http://x/hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /hello? HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /%68ello?a=%2f&b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "\r\nGET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nCookie: a=b; c=\"d\"\r\nConnection: close\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nX: \xc3\xa4\xff\r\nConnection: close\r\n\r\n",
        "GET /hello HTTP/1.1\r\nHost: x\r\nAccept: a\r\nAccept: b\r\nConnection: close\r\n\r\n",
    };
    struct site *site = site_start(false, NULL);

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        _cleanup_free_ char *reply = ask(site->port, good[i]);

        if (status_of(reply) != 200 || !strstr(reply, "hello"))
            fail_msg("\"%s\" got \"%s\"", good[i], reply);
    }
    site_stop(site);
}

/* Headers that arrive in pieces move libmicrohttpd's buffer about. */
static void a_request_may_come_byte_by_byte(void **state)
{
    struct site *site = site_start(false, NULL);
    struct buf request = BUF_INIT;
    _cleanup_free_ char *reply = NULL;
    int fd = dial(site->port);

    buf_add_str(&request, "POST /echo?x=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    for (int i = 0; i < 50; i++) {
        buf_addf(&request, "X-Filler-%d: ", i);
        for (int j = 0; j < i * 10; j++)
            buf_add_str(&request, "f");
        buf_add_str(&request, "\r\n");
    }
    buf_add_str(&request, "Content-Length: 4\r\n\r\nbody");
    for (size_t i = 0; i < request.len; i += 97) {
        char piece[98] = "";

        memcpy(piece, request.data + i, request.len - i < 97 ? request.len - i : 97);
        put_text(fd, piece);
        (void)usleep(200);
    }
    reply = read_all(fd);
    assert_int_equal(status_of(reply), 200);
    assert_contains(reply, "\r\n\r\nbody");
    (void)close(fd);
    buf_free(&request);
    site_stop(site);
}

/* On a busy machine a fresh connection may be past its deadline before it is read. */
static void assert_serves(const struct site *site)
{
    unsigned status = 0;

    for (int i = 0; i < 50 && status != 200; i++) {
        _cleanup_free_ char *reply = ask(site->port, LINE "Host: x\r\nConnection: close\r\n\r\n");

        status = status_of(reply);
    }
    assert_int_equal(status, 200);
}

static const char whole[] = "POST /echo?a=b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
                            "Connection: close\r\n\r\nbody";
static const char changes[] = {'\0', '\n', '\r', ' ', ':', '\xff', '%', '9'};

static bool change_a_byte(struct site *site, size_t i)
{
    char changed[sizeof(whole)];
    int fd = dial(site->port);

    memcpy(changed, whole, sizeof(whole));
    changed[i / sizeof(changes)] = changes[i % sizeof(changes)];
    (void)!write(fd, changed, sizeof(whole) - 1);
    (void)shutdown(fd, SHUT_WR);
    free(read_all(fd));
    (void)close(fd);
    return true;
}

/* Every byte in turn: an answer or a closed connection, and never a crash. */
static void a_request_with_any_byte_changed_does_no_harm(void **state)
{
    struct http_limits limits = http_limits_default;
    struct site *site;

    limits.request_time = limits.idle_time = 0.3; /* what is left open costs no more */
    site = site_start(false, &limits);
    (void)in_parallel(site, change_a_byte, (sizeof(whole) - 1) * sizeof(changes));
    assert_serves(site);
    site_stop(site);
}

static void noise_does_no_harm(void **state)
{
    struct http_limits limits = http_limits_default;
    struct site *site;

    limits.request_time = limits.idle_time = 0.3; /* what is left open costs no more */
    site = site_start(false, &limits);
    for (int i = 0; i < 300; i++) {
        char noise[600];
        _cleanup_free_ char *reply = NULL;
        int fd = dial(site->port);

        random_bytes(noise, sizeof(noise));
        if (i % 2)
            memcpy(noise, LINE, sizeof(LINE) - 1);
        memcpy(noise + sizeof(noise) - 4, "\r\n\r\n", 4);
        (void)!write(fd, noise, sizeof(noise));
        (void)shutdown(fd, SHUT_WR);
        reply = read_all(fd);
        (void)close(fd);
    }
    assert_serves(site);
    site_stop(site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(malformed_requests_get_an_error_and_reach_nobody),
        cmocka_unit_test(a_refused_request_takes_its_successor_with_it),
        cmocka_unit_test(well_formed_oddities_are_served),
        cmocka_unit_test(a_request_may_come_byte_by_byte),
        cmocka_unit_test(a_request_with_any_byte_changed_does_no_harm),
        cmocka_unit_test(noise_does_no_harm),
    };

    return cmocka_run_group_tests_name("http raw bytes", tests, NULL, NULL);
}
