#include "site.h"

#include "../scratch.h"
#include "base/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct http_client *client_for(const struct site *site, const char *ca, int64_t min_time)
{
    _cleanup_free_ char *url = site_url(site, true);
    const struct http_client_options options = {
        .base_url = url, .ca_path = ca, .timeout = 10, .min_unix_time = min_time};
    struct http_client *client;
    struct error error = ERROR_INIT;

    if (http_client_new(&options, &client, &error) < 0)
        fail_msg("%s", error.text);
    return client;
}

static int hello(struct http_client *client, struct error *error)
{
    struct http_answer answer;
    int r = http_get(client, "/hello", NULL, 1000, 0, -1, &answer, error);

    if (r == 0) {
        assert_int_equal(answer.status, 200);
        assert_string_equal(answer.body.data, "hello");
        http_answer_free(&answer);
    }
    return r;
}

static void the_pinned_authority_is_accepted_and_the_connection_kept(void **state)
{
    struct site *site = site_start(true, NULL);
    struct http_client *client = site_client(site, true);
    struct error error = ERROR_INIT;

    for (int i = 0; i < 5; i++)
        if (hello(client, &error) < 0)
            fail_msg("%s", error.text);
    http_client_free(client);
    site_stop(site);
}

static void another_authority_is_refused(void **state)
{
    struct site *site = site_start(true, NULL), *other = site_start(true, NULL);
    struct http_client *client = client_for(site, other->ca, 0);
    struct error error = ERROR_INIT;

    assert_int_equal(hello(client, &error), -EPROTO);
    assert_contains(error.text, "certificate");
    assert_int_equal(atomic_load(&site->handled), 0);
    http_client_free(client);
    /* But both may be trusted at once. */
    {
        _cleanup_free_ char *url = site_url(site, true);
        const struct http_client_options options = {
            .base_url = url, .ca_path = other->ca, .extra_ca_path = site->ca};

        assert_int_equal(http_client_new(&options, &client, &error), 0);
        assert_int_equal(hello(client, &error), 0);
        http_client_free(client);
    }
    site_stop(site);
    site_stop(other);
}

static void the_systems_authorities_do_not_count(void **state)
{
    struct site *site = site_start(true, NULL);
    _cleanup_free_ char *url = site_url(site, true);
    const struct http_client_options options = {.base_url = url};
    struct http_client *client;
    struct error error = ERROR_INIT;

    assert_int_equal(http_client_new(&options, &client, &error), -EINVAL);
    assert_contains(error.text, "ca.pem");
    site_stop(site);
}

static void an_expired_certificate_is_refused(void **state)
{
    char *dir = scratch_make();
    struct http_client *client;
    struct error error = ERROR_INIT;
    struct site *site;

    make_certificates(dir, -7200, -3600);
    site = site_start_in(true, NULL, dir);
    client = client_for(site, site->ca, 0);
    assert_int_equal(hello(client, &error), -EPROTO);
    assert_contains(error.text, "expired");
    http_client_free(client);
    site_stop(site);
}

static void a_clock_that_fell_back_is_overruled_by_the_last_known_time(void **state)
{
    const int64_t day = 86400, now = (int64_t)clock_now(CLOCK_REALTIME);
    char *dir = scratch_make();
    struct http_client *client;
    struct error error = ERROR_INIT;
    struct site *site;

    /* Seen from the wall clock the certificate is not valid yet. */
    make_certificates(dir, 10 * 86400, 20 * 86400);
    site = site_start_in(true, NULL, dir);
    client = client_for(site, site->ca, 0);
    assert_int_equal(hello(client, &error), -EPROTO);
    http_client_set_min_time(client, now + 15 * day);
    assert_int_equal(hello(client, &error), 0);
    http_client_free(client);
    /* A lower bound, not the time itself, and past the end it has expired. */
    client = client_for(site, site->ca, now + 30 * day);
    assert_int_equal(hello(client, &error), -EPROTO);
    assert_contains(error.text, "expired");
    http_client_free(client);
    site_stop(site);
}

static void another_name_is_refused(void **state)
{
    struct site *site = site_start(true, NULL);
    _cleanup_free_ char *url = xasprintf("https://127.0.0.2:%u", (unsigned)site->port);
    const struct http_client_options options = {.base_url = url, .ca_path = site->ca};
    struct http_listen listen = {.address = "127.0.0.2",
                                 .port = site->port,
                                 .certificate_path = site->certificate,
                                 .key_path = site->key};
    struct http_server *second;
    struct http_client *client;
    struct error error = ERROR_INIT;

    assert_int_equal(http_server_start(&listen, NULL, NULL, NULL, &second, &error), 0);
    assert_int_equal(http_client_new(&options, &client, &error), 0);
    assert_int_equal(hello(client, &error), -EPROTO);
    http_client_free(client);
    http_server_stop(second, 0);
    site_stop(site);
}

/* 1 when a handshake of at most this version succeeds. */
static int handshake(uint16_t port, int version)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL *ssl;
    int fd = dial(port), r;

    SSL_CTX_set_max_proto_version(context, version);
    ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    r = SSL_connect(ssl);
    SSL_free(ssl);
    SSL_CTX_free(context);
    (void)close(fd);
    return r;
}

static void tls_1_2_is_refused_by_the_server(void **state)
{
    struct site *site = site_start(true, NULL);

    assert_int_equal(handshake(site->port, TLS1_3_VERSION), 1);
    assert_int_not_equal(handshake(site->port, TLS1_2_VERSION), 1);
    site_stop(site);
}

struct old_server {
    int fd;
    const struct site *site;
};

static void *serve_tls_1_2(void *user)
{
    const struct old_server *server = user;
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    int fd = accept(server->fd, NULL, NULL);
    SSL *ssl;

    SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_use_certificate_file(context, server->site->certificate, SSL_FILETYPE_PEM);
    SSL_CTX_use_PrivateKey_file(context, server->site->key, SSL_FILETYPE_PEM);
    ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    (void)SSL_accept(ssl);
    SSL_free(ssl);
    SSL_CTX_free(context);
    (void)close(fd);
    return NULL;
}

static void tls_1_2_is_refused_by_the_client(void **state)
{
    struct site *site = site_start(true, NULL);
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct old_server server = {.fd = socket(AF_INET, SOCK_STREAM, 0), .site = site};
    socklen_t len = sizeof(address);
    struct http_client *client;
    struct error error = ERROR_INIT;
    pthread_t thread;
    uint16_t port = site->port;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(server.fd, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(server.fd, 1), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&address, &len), 0);
    assert_int_equal(pthread_create(&thread, NULL, serve_tls_1_2, &server), 0);
    site->port = ntohs(address.sin_port);
    client = client_for(site, site->ca, 0);
    assert_int_equal(hello(client, &error), -EPROTO);
    http_client_free(client);
    (void)pthread_join(thread, NULL);
    (void)close(server.fd);
    site->port = port;
    site_stop(site);
}

static void sessions_are_resumed(void **state)
{
    struct site *site = site_start(true, NULL);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_SESSION *session = NULL;
    int reused = 0;

    for (int i = 0; i < 2; i++) {
        static const char request[] = "GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        int fd = dial(site->port);
        SSL *ssl = SSL_new(context);
        char reply[1000];

        SSL_set_fd(ssl, fd);
        if (session)
            SSL_set_session(ssl, session);
        assert_int_equal(SSL_connect(ssl), 1);
        assert_int_equal(SSL_write(ssl, request, sizeof(request) - 1), sizeof(request) - 1);
        while (SSL_read(ssl, reply, sizeof(reply)) > 0)
            ;
        reused = SSL_session_reused(ssl);
        SSL_SESSION_free(session);
        session = SSL_get1_session(ssl);
        (void)SSL_shutdown(ssl); /* else OpenSSL gives the session up */
        SSL_free(ssl);
        (void)close(fd);
    }
    assert_int_equal(reused, 1);
    SSL_SESSION_free(session);
    SSL_CTX_free(context);
    site_stop(site);
}

static void half_a_client_hello_costs_no_processor_and_ends(void **state)
{
    static const unsigned char hello_start[] = {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00,
                                                0x01, 0xfc, 0x03, 0x03, 0x01, 0x02, 0x03};
    struct http_limits limits = http_limits_default;
    struct site *site;
    int fds[20];
    double before;

    limits.request_time = 2;
    site = site_start(true, &limits);
    for (int i = 0; i < 20; i++) {
        fds[i] = dial(site->port);
        assert_int_equal(write(fds[i], hello_start, sizeof(hello_start)), sizeof(hello_start));
    }
    clock_sleep(0.1);
    before = cpu_seconds();
    clock_sleep(1);
    if (cpu_seconds() - before > 0.1)
        fail_msg("%.2f s of processor time in a second of nothing", cpu_seconds() - before);
    for (int i = 0; i < 20; i++) {
        free(read_all(fds[i]));
        (void)close(fds[i]);
    }
    site_stop(site);
}

struct asker {
    struct http_client *client;
    struct error error;
    struct http_answer answer;
    const char *path;
    int result;
};

static void *ask_path(void *user)
{
    struct asker *asker = user;

    asker->result =
        http_get(asker->client, asker->path, NULL, 1 << 20, 0, -1, &asker->answer, &asker->error);
    return NULL;
}

static void late_replies_go_through_tls(void **state)
{
    enum { ASKERS = 16, ROUNDS = 10 };
    struct site *site = site_start(true, NULL);
    struct http_client *client = site_client(site, true);
    struct asker askers[ASKERS];
    pthread_t threads[ASKERS];

    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < ASKERS; i++) {
            askers[i] = (struct asker){.client = client, .path = "/hold"};
            assert_int_equal(pthread_create(&threads[i], NULL, ask_path, &askers[i]), 0);
        }
        site_wait_held(site, ASKERS);
        for (int i = 0; i < ASKERS; i++)
            http_reply(site_take(site), 200, "text/plain", "later", 5);
        for (int i = 0; i < ASKERS; i++) {
            (void)pthread_join(threads[i], NULL);
            assert_int_equal(askers[i].result, 0);
            assert_string_equal(askers[i].answer.body.data, "later");
            http_answer_free(&askers[i].answer);
        }
    }
    http_client_free(client);
    site_stop(site);
}

static void events_go_through_tls(void **state)
{
    struct site *site = site_start(true, NULL);
    struct http_client *client = site_client(site, true);
    struct asker asker = {.client = client, .path = "/stream"};
    struct http_stream *stream;
    pthread_t thread;
    size_t count = 0;

    assert_int_equal(pthread_create(&thread, NULL, ask_path, &asker), 0);
    stream = site_wait_stream(site);
    for (int i = 0; i < 2000; i++) {
        assert_true(http_stream_send(stream, "n", "some event"));
        if (i % 100 == 0)
            clock_sleep(0.005);
    }
    http_stream_end(stream);
    (void)pthread_join(thread, NULL);
    assert_int_equal(asker.result, 0);
    for (const char *p = asker.answer.body.data; (p = strstr(p, "event: n")); p++)
        count++;
    assert_int_equal(count, 2000);
    http_answer_free(&asker.answer);
    http_client_free(client);
    site_stop(site);
}

static void waiting_exchanges_and_idle_connections_cost_no_processor(void **state)
{
    struct site *site = site_start(true, NULL);
    struct http_client *clients[8];
    struct asker askers[8];
    pthread_t threads[8];
    struct error error = ERROR_INIT;
    double before;

    for (int i = 0; i < 8; i++) {
        clients[i] = site_client(site, true);
        assert_int_equal(hello(clients[i], &error), 0);
        askers[i] = (struct asker){.client = clients[i], .path = "/hold"};
        assert_int_equal(pthread_create(&threads[i], NULL, ask_path, &askers[i]), 0);
        assert_int_equal(hello(clients[i], &error), 0);
    }
    site_wait_held(site, 8);
    before = cpu_seconds();
    clock_sleep(1);
    assert_true(cpu_seconds() - before < 0.1);
    for (int i = 0; i < 8; i++)
        http_reply(site_take(site), 200, "text/plain", "", 0);
    for (int i = 0; i < 8; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_int_equal(askers[i].result, 0);
        http_answer_free(&askers[i].answer);
    }
    for (int i = 0; i < 8; i++)
        http_client_free(clients[i]);
    site_stop(site);
}

static void too_long_a_body_is_refused_over_tls_too(void **state)
{
    struct site *site = site_start(true, NULL);
    struct http_client *client = site_client(site, true);
    _cleanup_free_ char *body = xcalloc(1, 300000);
    struct http_answer answer;
    struct error error = ERROR_INIT;

    if (http_post(client, "/echo", NULL, body, 300000, 10000, 0, -1, &answer, &error) < 0)
        fail_msg("%s", error.text);
    assert_int_equal(answer.status, 413);
    assert_string_equal(answer.content_type, "application/problem+json");
    http_answer_free(&answer);
    http_client_free(client);
    site_stop(site);
}

static void a_large_file_comes_whole_over_tls(void **state)
{
    struct site *site = site_start(true, NULL);
    struct http_client *client = site_client(site, true);
    _cleanup_free_ char *path = path_join(site->dir, "file");
    size_t size = 3000001;
    _cleanup_free_ char *data = xmalloc(size);
    const char *const range[] = {"Range: bytes=1000000-2999999", NULL};
    struct http_answer answer;
    struct error error = ERROR_INIT;

    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 31 >> 7);
    scratch_write(path, data, size, 0600);
    assert_int_equal(http_get(client, "/file", NULL, size, 0, -1, &answer, &error), 0);
    assert_int_equal(answer.body.len, size);
    assert_memory_equal(answer.body.data, data, size);
    http_answer_free(&answer);
    assert_int_equal(http_get(client, "/file", range, size, 0, -1, &answer, &error), 0);
    assert_int_equal(answer.status, 206);
    assert_int_equal(answer.body.len, 2000000);
    assert_memory_equal(answer.body.data, data + 1000000, 2000000);
    http_answer_free(&answer);
    http_client_free(client);
    site_stop(site);
}

static void a_certificate_and_key_that_do_not_fit_are_refused(void **state)
{
    struct site *site = site_start(true, NULL), *other = site_start(true, NULL);
    struct http_listen listen = {
        .address = "127.0.0.1", .certificate_path = site->certificate, .key_path = other->key};
    struct http_server *server;
    struct error error = ERROR_INIT;

    assert_int_equal(http_server_start(&listen, NULL, NULL, NULL, &server, &error), -EINVAL);
    assert_contains(error.text, site->certificate);
    listen.key_path = "/nonexistent/key";
    assert_int_equal(http_server_start(&listen, NULL, NULL, NULL, &server, &error), -ENOENT);
    listen.key_path = NULL;
    assert_int_equal(http_server_start(&listen, NULL, NULL, NULL, &server, &error), -EINVAL);
    site_stop(site);
    site_stop(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pinned_authority_is_accepted_and_the_connection_kept),
        cmocka_unit_test(another_authority_is_refused),
        cmocka_unit_test(the_systems_authorities_do_not_count),
        cmocka_unit_test(an_expired_certificate_is_refused),
        cmocka_unit_test(a_clock_that_fell_back_is_overruled_by_the_last_known_time),
        cmocka_unit_test(another_name_is_refused),
        cmocka_unit_test(tls_1_2_is_refused_by_the_server),
        cmocka_unit_test(tls_1_2_is_refused_by_the_client),
        cmocka_unit_test(sessions_are_resumed),
        cmocka_unit_test(half_a_client_hello_costs_no_processor_and_ends),
        cmocka_unit_test(late_replies_go_through_tls),
        cmocka_unit_test(events_go_through_tls),
        cmocka_unit_test(waiting_exchanges_and_idle_connections_cost_no_processor),
        cmocka_unit_test(too_long_a_body_is_refused_over_tls_too),
        cmocka_unit_test(a_large_file_comes_whole_over_tls),
        cmocka_unit_test(a_certificate_and_key_that_do_not_fit_are_refused),
    };

    return cmocka_run_group_tests_name("http tls", tests, NULL, NULL);
}
