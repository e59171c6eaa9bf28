#include "check-support.h"

#include <errno.h>

#define OK(headers, body) "HTTP/1.1 200 OK\r\nConnection: close\r\n" headers "\r\n" body

static struct check http_of(char *url, double timeout)
{
    return (struct check){.kind = CHECK_HTTP,
                          .timeout = timeout,
                          .failures = 3,
                          .url = url,
                          .method = NULL,
                          .expect_status = 200};
}

static void an_answer_passes_by_status_header_and_body(void **state)
{
    struct site site;
    struct check check;

    site_start(&site, SITE_ANSWERS, OK("X-Rules: v3 \r\nX-Rules-Not: v4\r\n", "all is well"));
    check = http_of(site.url, 2);
    assert_true(run_check(&check, NULL, 0, NULL, -1).passed);
    check.expect_header =
        (struct pair_text){(char *)(uintptr_t) "x-rules", (char *)(uintptr_t) "v3"};
    check.expect_body = (char *)(uintptr_t) "is well";
    assert_true(run_check(&check, NULL, 0, NULL, -1).passed);
    check.expect_header.value = (char *)(uintptr_t) "v4";
    assert_contains(run_check(&check, NULL, 0, NULL, -1).text, "no header \"x-rules: v4\"");
    check.expect_header.name = NULL;
    check.expect_body = (char *)(uintptr_t) "is broken";
    assert_contains(run_check(&check, NULL, 0, NULL, -1).text, "does not hold \"is broken\"");
    check.expect_status = 403;
    assert_contains(run_check(&check, NULL, 0, NULL, -1).text, "status 200: expected 403");
    site_stop(&site);
}

static void method_headers_and_body_are_sent_with_their_variables(void **state)
{
    const struct pair_text pairs[] = {{(char *)(uintptr_t) "digest", (char *)(uintptr_t) "abc"}};
    struct pair_text header = {(char *)(uintptr_t) "X-Release", (char *)(uintptr_t) "${digest}"};
    struct site site;
    struct check check;

    site_start(&site, SITE_ANSWERS, OK("", ""));
    check = http_of(site.url, 2);
    check.method = (char *)(uintptr_t) "PUT";
    check.headers = &header;
    check.header_count = 1;
    check.body = (char *)(uintptr_t) "of ${digest}";
    assert_true(run_check(&check, pairs, 1, NULL, -1).passed);
    site_stop(&site);
    assert_contains(site.request, "PUT / HTTP/1.1\r\n");
    assert_contains(site.request, "X-Release: abc\r\n");
    assert_contains(site.request, "of abc");
}

static void a_redirect_is_not_followed(void **state)
{
    struct site site, other;
    char reply[128];
    struct check check;
    struct check_result result;

    site_start(&other, SITE_ANSWERS, OK("", ""));
    (void)snprintf(reply, sizeof(reply),
                   "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: %s\r\n\r\n", other.url);
    site_start(&site, SITE_ANSWERS, reply);
    check = http_of(site.url, 2);
    result = run_check(&check, NULL, 0, NULL, -1);
    assert_false(result.passed);
    assert_contains(result.text, "status 302");
    site_stop(&site);
    site_stop(&other);
    assert_string_equal(other.request, "");
}

static void a_server_that_never_answers_fails_at_the_timeout(void **state)
{
    struct site site;
    struct check check;
    double started;

    for (int manner = SITE_SILENT; manner <= SITE_TRICKLES; manner += SITE_TRICKLES - SITE_SILENT) {
        site_start(&site, (enum site_manner)manner, NULL);
        check = http_of(site.url, 0.4);
        started = clock_now(CLOCK_MONOTONIC);
        assert_false(run_check(&check, NULL, 0, NULL, -1).passed);
        assert_within(started, 0.35, 0.8);
        site_stop(&site);
    }
}

static void a_server_that_answers_endlessly_is_left_at_the_limit(void **state)
{
    struct site site;
    struct check check;
    double started = clock_now(CLOCK_MONOTONIC);
    struct check_result result;

    site_start(&site, SITE_ENDLESS_BODY, NULL);
    check = http_of(site.url, 20);
    result = run_check(&check, NULL, 0, NULL, -1);
    assert_false(result.passed);
    assert_contains(result.text, "larger than the limit");
    site_stop(&site);
    site_start(&site, SITE_ENDLESS_HEADERS, NULL);
    check = http_of(site.url, 20);
    result = run_check(&check, NULL, 0, NULL, -1);
    assert_false(result.passed);
    site_stop(&site);
    assert_within(started, 0, 5);
}

static void a_cancelled_request_ends_at_once(void **state)
{
    struct site site;
    struct bell bell;
    struct check check;
    double started;

    for (int manner = SITE_SILENT; manner <= SITE_TRICKLES; manner += SITE_TRICKLES - SITE_SILENT) {
        site_start(&site, (enum site_manner)manner, NULL);
        check = http_of(site.url, 30);
        bell_set(&bell, 0.2);
        started = clock_now(CLOCK_MONOTONIC);
        assert_false(run_check(&check, NULL, 0, NULL, bell.fd).passed);
        assert_within(started, 0.15, 0.4);
        bell_end(&bell);
        site_stop(&site);
    }
}

static void a_closed_port_is_a_failure_and_so_is_no_http(void **state)
{
    char url[64];
    struct site site;
    struct check check;

    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/", closed_port());
    check = http_of(url, 2);
    assert_false(run_check(&check, NULL, 0, NULL, -1).passed);
    site_start(&site, SITE_ANSWERS, "SSH-2.0-OpenSSH_9.2\r\n");
    check = http_of(site.url, 2);
    assert_false(run_check(&check, NULL, 0, NULL, -1).passed);
    site_stop(&site);
}

/* Each of these is a way to make a lax reader see loopback where libcurl sees another host. */
static void no_url_leads_to_a_host_that_was_not_allowed(void **state)
{
    static const char *const urls[] = {
        "http://example.org/",
        "http://127.0.0.1@example.org/",
        "http://127.0.0.1:80@example.org/",
        "http://example.org#@127.0.0.1/",
        "http://example.org?x=://127.0.0.1/",
        "example.org/?x=http://127.0.0.1/",
        "http://example.org\\@127.0.0.1/",
        "http://127.0.0.1\\@example.org/",
        "http://127.0.0.1.example.org/",
        "http://[::1]example.org/",
        "http://[::1].example.org/",
        "http://[::1",
        "http://127.0.0.1:80:example.org/",
        "http://127.0.0.1:0/",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1 example.org/",
        "http://localhost.example.org/",
        "http://%6cocalhost/",
        "http://127.1/",
        "http://2130706433/",
        "http:///127.0.0.1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "HTTP://127.0.0.1/",
        "http://",
        "",
    };

    for (size_t i = 0; i < ARRAY_SIZE(urls); i++) {
        struct check check = http_of((char *)(uintptr_t)urls[i], 2);
        double started = clock_now(CLOCK_MONOTONIC);
        struct check_result result = run_check(&check, NULL, 0, NULL, -1);

        assert_false(result.passed);
        if (!strstr(result.text, "expected") && !strstr(result.text, "probe_hosts") &&
            !strstr(result.text, "not allowed") && !strstr(result.text, "write them as"))
            fail_msg("%s: %s", urls[i], result.text);
        assert_within(started, 0, 0.2);
    }
}

static void an_allowed_host_is_asked(void **state)
{
    char *const allowed[] = {(char *)(uintptr_t) "Nowhere.Invalid", NULL};
    struct check check = http_of((char *)(uintptr_t) "http://nowhere.invalid:8080/", 5);
    struct check_result result = run_check(&check, NULL, 0, allowed, -1);

    assert_false(result.passed);
    assert_null(strstr(result.text, "probe_hosts"));
}

static void the_active_check_reads_the_body_of_a_200_only(void **state)
{
    static const char name[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    struct check_vars vars = {0};
    struct error error = ERROR_INIT;
    struct site site;
    struct check check;
    char found[65];

    site_start(&site, SITE_ANSWERS,
               OK("", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"));
    check = http_of(site.url, 2);
    if (check_active(&check, &vars, -1, found, &error) < 0)
        fail_msg("%s", error.text);
    assert_string_equal(found, name);
    site_stop(&site);
    site_start(&site, SITE_ANSWERS,
               "HTTP/1.1 203 No\r\nConnection: close\r\n\r\n"
               "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
    check = http_of(site.url, 2);
    assert_int_equal(check_active(&check, &vars, -1, found, &error), -EIO);
    assert_contains(error.text, "active: status 203");
    site_stop(&site);
    site_start(&site, SITE_ENDLESS_BODY, NULL);
    check = http_of(site.url, 20);
    assert_true(check_active(&check, &vars, -1, found, &error) < 0);
    site_stop(&site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_passes_by_status_header_and_body),
        cmocka_unit_test(method_headers_and_body_are_sent_with_their_variables),
        cmocka_unit_test(a_redirect_is_not_followed),
        cmocka_unit_test(a_server_that_never_answers_fails_at_the_timeout),
        cmocka_unit_test(a_server_that_answers_endlessly_is_left_at_the_limit),
        cmocka_unit_test(a_cancelled_request_ends_at_once),
        cmocka_unit_test(a_closed_port_is_a_failure_and_so_is_no_http),
        cmocka_unit_test(no_url_leads_to_a_host_that_was_not_allowed),
        cmocka_unit_test(an_allowed_host_is_asked),
        cmocka_unit_test(the_active_check_reads_the_body_of_a_200_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
