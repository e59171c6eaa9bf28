#include "site.h"

#include "../scratch.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/random.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* A server that says one thing to each connection in turn and closes it. */
struct script {
    int fd;
    uint16_t port;
    const char *const *replies; /* NULL-terminated */
    char *requests[8];
    pthread_t thread;
};

static void *play(void *user)
{
    struct script *script = user;

    for (size_t i = 0; script->replies[i]; i++) {
        int fd = accept(script->fd, NULL, NULL);

        script->requests[i] = read_until(fd, "\r\n\r\n");
        put_text(fd, script->replies[i]);
        (void)shutdown(fd, SHUT_WR);
        free(read_all(fd));
        (void)close(fd);
    }
    return NULL;
}

static void script_start(struct script *script, const char *const *replies)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);

    *script = (struct script){.fd = socket(AF_INET, SOCK_STREAM, 0), .replies = replies};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(script->fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(script->fd, 8), 0);
    assert_int_equal(getsockname(script->fd, (struct sockaddr *)&address, &len), 0);
    script->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&script->thread, NULL, play, script), 0);
}

static void script_end(struct script *script)
{
    (void)pthread_join(script->thread, NULL);
    (void)close(script->fd);
    for (size_t i = 0; i < 8; i++)
        free(script->requests[i]);
}

static struct http_client *client_of(const char *base, const char *proxy)
{
    const struct http_client_options options = {.base_url = base, .proxy = proxy, .timeout = 10};
    struct http_client *client;
    struct error error = ERROR_INIT;

    if (http_client_new(&options, &client, &error) < 0)
        fail_msg("%s", error.text);
    return client;
}

static struct http_client *script_client(const struct script *script)
{
    _cleanup_free_ char *url = xasprintf("http://127.0.0.1:%u", (unsigned)script->port);

    return client_of(url, NULL);
}

static void plain_http_off_loopback_is_refused(void **state)
{
    static const char *const bad[] = {
        "http://example.org", "http://192.0.2.1:80",       "http://128.0.0.1",
        "ftp://127.0.0.1",    "http://127.0.0.1.evil.com", "file:///etc/passwd",
        "http://[::2]",       "http://localhost.evil.com",
    };
    static const char *const odd[] = {
        "https://user:pw@host", "https://host/path", "https://host?x", "", "host:80:90", "https://",
    };
    struct http_client *client;
    struct error error = ERROR_INIT;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        const struct http_client_options options = {.base_url = bad[i], .ca_path = "/dev/null"};

        if (http_client_new(&options, &client, &error) != -EPERM)
            fail_msg("\"%s\" was taken", bad[i]);
        assert_contains(error.text, "https://host:port");
    }
    for (size_t i = 0; i < ARRAY_SIZE(odd); i++) {
        const struct http_client_options options = {.base_url = odd[i], .ca_path = "/dev/null"};

        if (http_client_new(&options, &client, &error) != -EINVAL)
            fail_msg("\"%s\" was taken", odd[i]);
    }
    http_client_free(client_of("http://127.0.0.1:1", NULL));
    http_client_free(client_of("http://[::1]:1/", NULL));
    http_client_free(client_of("http://localhost:1", NULL));
}

static void get_and_post_bring_back_status_type_and_etag(void **state)
{
    static const char *const condition[] = {"If-None-Match: \"" SITE_ETAG "\"", NULL};
    struct site *site = site_start(false, NULL);
    struct http_client *client = site_client(site, false);
    struct http_answer answer;
    struct error error = ERROR_INIT;

    assert_int_equal(http_get(client, "/blob", NULL, 1000, 0, -1, &answer, &error), 0);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.content_type, "application/json");
    assert_string_equal(answer.etag, SITE_ETAG);
    assert_true(answer.retry_after < 0);
    http_answer_free(&answer);
    assert_int_equal(http_get(client, "/blob-with-header", condition, 1000, 0, -1, &answer, &error),
                     0);
    assert_int_equal(answer.status, 304);
    assert_true(answer.retry_after == 7);
    assert_int_equal(answer.body.len, 0);
    http_answer_free(&answer);
    assert_int_equal(http_post(client, "/echo", NULL, "a\0b", 3, 1000, 0, -1, &answer, &error), 0);
    assert_int_equal(answer.body.len, 3);
    assert_memory_equal(answer.body.data, "a\0b", 3);
    http_answer_free(&answer);
    assert_int_equal(http_post(client, "/echo", NULL, NULL, 0, 1000, 0, -1, &answer, &error), 0);
    assert_int_equal(answer.status, 200);
    http_answer_free(&answer);
    http_client_free(client);
    site_stop(site);
}

static void a_problem_reads_as_a_sentence(void **state)
{
    struct site *site = site_start(false, NULL);
    struct http_client *client = site_client(site, false);
    struct http_answer answer;
    struct error error = ERROR_INIT;
    _cleanup_free_ char *text = NULL;
    _cleanup_free_ char *plain = NULL;

    assert_int_equal(http_get(client, "/none", NULL, 1000, 0, -1, &answer, &error), 0);
    text = http_answer_problem(&answer);
    assert_string_equal(text, "404 There is nothing here: /none is no page. Ask for /hello.");
    answer.content_type[0] = '\0';
    plain = http_answer_problem(&answer);
    assert_string_equal(plain, "404 Not Found");
    http_answer_free(&answer);
    http_client_free(client);
    site_stop(site);
}

static void too_large_an_answer_is_given_up(void **state)
{
    struct site *site = site_start(false, NULL);
    struct http_client *client = site_client(site, false);
    struct http_answer answer;
    struct error error = ERROR_INIT;

    assert_int_equal(http_get(client, "/hello", NULL, 4, 0, -1, &answer, &error), -EFBIG);
    assert_contains(error.text, "/hello");
    assert_int_equal(http_get(client, "/hello", NULL, 5, 0, -1, &answer, &error), 0);
    http_answer_free(&answer);
    http_client_free(client);
    site_stop(site);
}

static void too_large_a_header_is_given_up(void **state)
{
    struct buf reply = BUF_INIT;
    const char *replies[2] = {NULL, NULL};
    struct script script;
    struct http_client *client;
    struct http_answer answer;
    struct error error = ERROR_INIT;

    buf_add_str(&reply, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 2000; i++)
        buf_addf(&reply, "X-Filler-%d: ffffffffffffffffffffffffffffffffffffffff\r\n", i);
    buf_add_str(&reply, "Content-Length: 0\r\n\r\n");
    replies[0] = reply.data;
    script_start(&script, replies);
    client = script_client(&script);
    assert_int_equal(http_get(client, "/", NULL, 1000, 0, -1, &answer, &error), -EFBIG);
    http_client_free(client);
    script_end(&script);
    buf_free(&reply);
}

static void a_redirect_is_an_answer_and_not_followed(void **state)
{
    static const char *const replies[] = {
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", NULL};
    struct script script;
    struct http_client *client;
    struct http_answer answer;
    struct error error = ERROR_INIT;

    script_start(&script, replies);
    client = script_client(&script);
    assert_int_equal(http_get(client, "/", NULL, 1000, 0, -1, &answer, &error), 0);
    assert_int_equal(answer.status, 302);
    http_answer_free(&answer);
    http_client_free(client);
    script_end(&script);
}

static void nobody_there_says_so(void **state)
{
    struct http_client *client = client_of("http://127.0.0.1:1", NULL);
    struct http_answer answer;
    struct error error = ERROR_INIT;

    assert_int_equal(http_get(client, "/", NULL, 1000, 0, -1, &answer, &error), -ECONNREFUSED);
    assert_contains(error.text, "http://127.0.0.1:1/");
    http_client_free(client);
}

static void the_environments_proxy_is_not_asked(void **state)
{
    struct site *site = site_start(false, NULL);
    struct http_client *client;
    struct http_answer answer;
    struct error error = ERROR_INIT;

    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("all_proxy", "http://127.0.0.1:1", 1), 0);
    client = site_client(site, false);
    assert_int_equal(http_get(client, "/hello", NULL, 1000, 0, -1, &answer, &error), 0);
    http_answer_free(&answer);
    http_client_free(client);
    (void)unsetenv("http_proxy");
    (void)unsetenv("all_proxy");
    site_stop(site);
}

static void a_proxy_that_is_named_is_asked_with_its_password(void **state)
{
    static const char *const replies[] = {
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\n"
        "Content-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", NULL};
    char *dir = scratch_make();
    _cleanup_free_ char *ca = path_join(dir, "ca.pem");
    _cleanup_free_ char *proxy = NULL;
    struct script script;
    struct http_client *client;
    struct http_answer answer;
    struct error error = ERROR_INIT;

    make_certificates(dir, -3600, 3600);
    script_start(&script, replies);
    proxy = xasprintf("http://127.0.0.1:%u", (unsigned)script.port);
    {
        const struct http_client_options options = {.base_url = "https://server.example:8443",
                                                    .ca_path = ca,
                                                    .proxy = proxy,
                                                    .proxy_user = "name:secret"};

        assert_int_equal(http_client_new(&options, &client, &error), 0);
    }
    assert_true(http_get(client, "/", NULL, 1000, 0, -1, &answer, &error) < 0);
    assert_lacks(error.text, "secret");
    http_client_free(client);
    (void)pthread_join(script.thread, NULL);
    assert_contains(script.requests[0], "CONNECT server.example:8443 HTTP/1.1\r\n");
    assert_contains(script.requests[1], "Proxy-Authorization: Basic bmFtZTpzZWNyZXQ=\r\n");
    (void)close(script.fd);
    for (size_t i = 0; i < 8; i++)
        free(script.requests[i]);
    scratch_remove(&dir);
}

static void a_call_ends_at_its_timeout(void **state)
{
    struct site *site = site_start(false, NULL);
    struct http_client *client = site_client(site, false);
    double start = clock_now(CLOCK_MONOTONIC);
    struct http_answer answer;
    struct error error = ERROR_INIT;

    assert_int_equal(http_get(client, "/hold", NULL, 1000, 0.5, -1, &answer, &error), -ETIMEDOUT);
    assert_true(clock_now(CLOCK_MONOTONIC) - start < 2);
    http_client_free(client);
    site_stop(site);
}

static void *cancel_soon(void *user)
{
    const uint64_t one = 1;

    clock_sleep(0.2);
    (void)!write(*(int *)user, &one, sizeof(one));
    return NULL;
}

static void a_call_is_given_up_when_its_descriptor_says_so(void **state)
{
    struct site *site = site_start(false, NULL);
    struct http_client *client = site_client(site, false);
    int cancel = eventfd(0, EFD_CLOEXEC);
    double start = clock_now(CLOCK_MONOTONIC);
    struct http_answer answer;
    struct error error = ERROR_INIT;
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
    assert_int_equal(http_get(client, "/hold", NULL, 1000, 0, cancel, &answer, &error), -ECANCELED);
    assert_true(clock_now(CLOCK_MONOTONIC) - start < 1);
    (void)pthread_join(thread, NULL);
    wait_for(&site->gone, 1);
    /* The client is still good. */
    assert_int_equal(http_get(client, "/hello", NULL, 1000, 0, -1, &answer, &error), 0);
    http_answer_free(&answer);
    (void)close(cancel);
    http_client_free(client);
    site_stop(site);
}

static void *say_hello(void *user)
{
    struct http_client *client = user;

    for (int i = 0; i < 50; i++) {
        struct http_answer answer;
        struct error error = ERROR_INIT;

        if (http_get(client, "/hello", NULL, 1000, 0, -1, &answer, &error) < 0)
            return client;
        http_answer_free(&answer);
    }
    return NULL;
}

static void one_client_serves_many_threads(void **state)
{
    struct site *site = site_start(false, NULL);
    struct http_client *client = site_client(site, false);
    pthread_t threads[8];

    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, say_hello, client), 0);
    for (int i = 0; i < 8; i++) {
        void *failed;

        (void)pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    http_client_free(client);
    site_stop(site);
}

static void a_server_that_came_back_is_found_again(void **state)
{
    struct site *site = site_start(false, NULL);
    struct http_client *client = site_client(site, false);
    struct http_answer answer;
    struct error error = ERROR_INIT;

    assert_int_equal(http_get(client, "/hello", NULL, 1000, 0, -1, &answer, &error), 0);
    http_answer_free(&answer);
    http_server_stop(site->server, 1);
    site_restart(site, NULL);
    assert_int_equal(http_get(client, "/hello", NULL, 1000, 0, -1, &answer, &error), 0);
    http_answer_free(&answer);
    http_client_free(client);
    site_stop(site);
}

static void what_would_split_a_request_is_refused(void **state)
{
    static const char *const split[] = {"X: y\r\nContent-Length: 5", NULL};
    static const char *const nameless[] = {"nothing", NULL};
    struct http_client *client = client_of("http://127.0.0.1:1", NULL);
    struct http_answer answer;
    struct error error = ERROR_INIT;

    assert_int_equal(http_get(client, "/", split, 1000, 0, -1, &answer, &error), -EINVAL);
    assert_int_equal(http_get(client, "/", nameless, 1000, 0, -1, &answer, &error), -EINVAL);
    assert_int_equal(http_get(client, "/a b", NULL, 1000, 0, -1, &answer, &error), -EINVAL);
    assert_int_equal(http_get(client, "@evil/", NULL, 1000, 0, -1, &answer, &error), -EINVAL);
    http_client_free(client);
}

static void a_probe_fetches_any_method_and_sees_the_headers(void **state)
{
    static const char *const headers[] = {"X-Thing: some value", NULL};
    struct site *site = site_start(false, NULL);
    _cleanup_free_ char *base = site_url(site, false);
    _cleanup_free_ char *url = xasprintf("%s/header?name=x-thing", base);
    _cleanup_free_ char *echo = xasprintf("%s/echo", base);
    _cleanup_free_ char *text = NULL;
    struct http_answer answer;
    struct error error = ERROR_INIT;

    assert_int_equal(http_fetch("GET", url, headers, NULL, 1000, 2, &answer, &text, &error), 0);
    assert_string_equal(answer.body.data, "some value");
    assert_contains(text, "HTTP/1.1 200");
    assert_contains(text, "Content-Type: text/plain\r\n");
    http_answer_free(&answer);
    assert_int_equal(http_fetch("POST", echo, NULL, "body", 1000, 2, &answer, NULL, &error), 0);
    assert_string_equal(answer.body.data, "body");
    http_answer_free(&answer);
    assert_int_equal(http_fetch("HEAD", url, NULL, NULL, 1000, 2, &answer, NULL, &error), 0);
    assert_int_equal(answer.status, 200);
    http_answer_free(&answer);
    assert_int_equal(http_fetch("G T", url, NULL, NULL, 1000, 2, &answer, NULL, &error), -EINVAL);
    assert_int_equal(
        http_fetch("GET", "file:///etc/passwd", NULL, NULL, 1000, 2, &answer, NULL, &error),
        -EINVAL);
    assert_int_equal(
        http_fetch("GET", "http://127.0.0.1:1/", NULL, NULL, 1000, 2, &answer, NULL, &error),
        -ECONNREFUSED);
    site_stop(site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_http_off_loopback_is_refused),
        cmocka_unit_test(get_and_post_bring_back_status_type_and_etag),
        cmocka_unit_test(a_problem_reads_as_a_sentence),
        cmocka_unit_test(too_large_an_answer_is_given_up),
        cmocka_unit_test(too_large_a_header_is_given_up),
        cmocka_unit_test(a_redirect_is_an_answer_and_not_followed),
        cmocka_unit_test(nobody_there_says_so),
        cmocka_unit_test(the_environments_proxy_is_not_asked),
        cmocka_unit_test(a_proxy_that_is_named_is_asked_with_its_password),
        cmocka_unit_test(a_call_ends_at_its_timeout),
        cmocka_unit_test(a_call_is_given_up_when_its_descriptor_says_so),
        cmocka_unit_test(one_client_serves_many_threads),
        cmocka_unit_test(a_server_that_came_back_is_found_again),
        cmocka_unit_test(what_would_split_a_request_is_refused),
        cmocka_unit_test(a_probe_fetches_any_method_and_sees_the_headers),
    };

    return cmocka_run_group_tests_name("http client", tests, NULL, NULL);
}
