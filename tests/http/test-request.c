#include "site.h"

#include "http/request.h"

#include <errno.h>

static struct error error;
static _Alignas(void *) char storage[4096];
static struct request_target target;

static int parse(const char *text)
{
    memset(&target, 0, sizeof(target));
    return request_target_parse(text, strlen(text), storage, &target, &error);
}

static void a_target_is_split_and_decoded(void **state)
{
    assert_int_equal(parse("/v1/plans/waf%2Drules/st%C3%A4ble?name=a+b%26c&empty=&flag&&x=1=2"), 0);
    assert_string_equal(target.path, "/v1/plans/waf-rules/st\xc3\xa4"
                                     "ble");
    assert_int_equal(target.query_count, 4);
    assert_string_equal(target.query[0].name, "name");
    assert_string_equal(target.query[0].value, "a b&c");
    assert_string_equal(target.query[1].value, "");
    assert_string_equal(target.query[2].name, "flag");
    assert_string_equal(target.query[2].value, "");
    assert_string_equal(target.query[3].value, "1=2");
    assert_int_equal(parse("http://example.org:80/a?b=c"), 0);
    assert_string_equal(target.path, "/a");
    assert_int_equal(target.query_count, 1);
}

static void an_ambiguous_target_is_refused(void **state)
{
    static const char *const bad[] = {
        "",       "*",       "v1",         "/a%",       "/a%2",         "/a%zz",      "/a%00b",
        "/a%0a",  "/a%2fb",  "/a/../b",    "/a/..",     "/./a",         "/%2e%2e/a",  "/a b",
        "/a\tb",  "/a#b",    "/\x80",      "/%ff",      "/a?x=%00",     "/a?x=1&x=2", "/a?x=%1f",
        "/a?%zz", "http://", "http:///..", "/a%c0%afb", "https://host",
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        error.text[0] = '\0';
        if (parse(bad[i]) != -EINVAL || !error.text[0])
            fail_msg("\"%s\" was taken", bad[i]);
    }
}

static void too_many_parameters_are_refused(void **state)
{
    struct buf text = BUF_INIT;

    buf_add_str(&text, "/?");
    for (int i = 0; i < REQUEST_MAX_QUERY; i++)
        buf_addf(&text, "p%d=%d&", i, i);
    assert_int_equal(parse(text.data), 0);
    assert_int_equal(target.query_count, REQUEST_MAX_QUERY);
    buf_add_str(&text, "one=more");
    assert_int_equal(parse(text.data), -EINVAL);
    buf_free(&text);
}

static unsigned add(struct request_head *head, const char *name, const char *value)
{
    return request_head_add(head, name, strlen(name), value, strlen(value), &error);
}

static void header_fields_are_kept_without_white_space_around_them(void **state)
{
    struct request_head head;

    request_head_init(&head, 8, 1000);
    assert_int_equal(add(&head, "Host", "x"), 0);
    assert_int_equal(add(&head, "Accept", " \t a, b \t"), 0);
    assert_int_equal(add(&head, "Content-Length", "0012"), 0);
    assert_string_equal(request_head_get(&head, "ACCEPT"), "a, b");
    assert_null(request_head_get(&head, "Accep"));
    assert_int_equal(head.length, 12);
    assert_int_equal(request_head_check(&head, true, &error), 0);
    request_head_free(&head);
}

static void fields_that_two_parsers_could_read_differently_are_refused(void **state)
{
    static const struct {
        const char *name, *value;
        unsigned status;
    } bad[] = {
        {"", "x", 400},
        {"Host ", "x", 400},
        {"Na me", "x", 400},
        {"Na\x01me", "x", 400},
        {"N\xc3\xa4me", "x", 400},
        {"Name", "a\rb", 400},
        {"Name", "a\nb", 400},
        {"Name", "a\x7f", 400},
        {"Content-Length", "+5", 400},
        {"Content-Length", "-5", 400},
        {"Content-Length", "5, 5", 400},
        {"Content-Length", "0x5", 400},
        {"Content-Length", "", 400},
        {"Content-Length", "18446744073709551616", 413},
        {"Transfer-Encoding", "gzip, chunked", 501},
        {"Transfer-Encoding", "chunked, identity", 501},
        {"Transfer-Encoding", "\vchunked", 400},
        {"Expect", "200-ok", 417},
    };

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct request_head head;

        request_head_init(&head, 8, 1000);
        if (add(&head, bad[i].name, bad[i].value) != bad[i].status)
            fail_msg("\"%s: %s\" was not refused as it should be", bad[i].name, bad[i].value);
        request_head_free(&head);
    }
}

static void fields_that_must_be_single_are_refused_twice(void **state)
{
    static const char *const names[] = {"Host", "content-length", "Transfer-Encoding",
                                        "Maeslant-Signature", "Authorization"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const char *value = i == 1 ? "5" : i == 2 ? "chunked" : "x";
        struct request_head head;

        request_head_init(&head, 8, 1000);
        assert_int_equal(add(&head, names[i], value), 0);
        assert_int_equal(add(&head, names[i], value), 400);
        request_head_free(&head);
    }
}

static void length_and_transfer_encoding_together_are_refused(void **state)
{
    struct request_head head;

    request_head_init(&head, 8, 1000);
    assert_int_equal(add(&head, "Host", "x"), 0);
    assert_int_equal(add(&head, "Transfer-Encoding", "chunked"), 0);
    assert_int_equal(request_head_check(&head, true, &error), 0);
    assert_int_equal(request_head_check(&head, false, &error), 400);
    assert_int_equal(add(&head, "Content-Length", "0"), 0);
    assert_int_equal(request_head_check(&head, true, &error), 400);
    request_head_free(&head);
}

static void an_etag_is_found_in_a_list(void **state)
{
    assert_true(request_etag_matches("\"a\"", "a"));
    assert_true(request_etag_matches("W/\"a\"", "a"));
    assert_true(request_etag_matches("\"x\", W/\"y\" , \"a\"", "a"));
    assert_true(request_etag_matches("*", "a"));
    assert_false(request_etag_matches("\"ab\"", "a"));
    assert_false(request_etag_matches("a", "a"));
    assert_false(request_etag_matches("\"a", "a"));
    assert_false(request_etag_matches("", "a"));
    assert_false(request_etag_matches("\"x\" junk \"a\"", "a"));
}

static void a_range_is_cut_to_the_file_or_refused(void **state)
{
    uint64_t from, len;

    assert_int_equal(request_range_parse("bytes=0-9", 100, &from, &len), RANGE_PART);
    assert_true(from == 0 && len == 10);
    assert_int_equal(request_range_parse("bytes=90-", 100, &from, &len), RANGE_PART);
    assert_true(from == 90 && len == 10);
    assert_int_equal(request_range_parse("bytes=-10", 100, &from, &len), RANGE_PART);
    assert_true(from == 90 && len == 10);
    assert_int_equal(request_range_parse("bytes=-1000", 100, &from, &len), RANGE_PART);
    assert_true(from == 0 && len == 100);
    assert_int_equal(request_range_parse("bytes=99-99999999999999999999999", 100, &from, &len),
                     RANGE_PART);
    assert_true(from == 99 && len == 1);
    assert_int_equal(request_range_parse("bytes=100-", 100, &from, &len), RANGE_UNSATISFIABLE);
    assert_int_equal(request_range_parse("bytes=-0", 100, &from, &len), RANGE_UNSATISFIABLE);
    assert_int_equal(request_range_parse("bytes=0-", 0, &from, &len), RANGE_UNSATISFIABLE);
    assert_int_equal(request_range_parse("bytes=5-4", 100, &from, &len), RANGE_WHOLE);
    assert_int_equal(request_range_parse("bytes=0-1,5-6", 100, &from, &len), RANGE_WHOLE);
    assert_int_equal(request_range_parse("bytes=-", 100, &from, &len), RANGE_WHOLE);
    assert_int_equal(request_range_parse("lines=1-2", 100, &from, &len), RANGE_WHOLE);
    assert_int_equal(request_range_parse(NULL, 100, &from, &len), RANGE_WHOLE);
    assert_true(from == 0 && len == 100);
}

static void a_problem_shows_foreign_bytes_and_stays_json(void **state)
{
    _cleanup_free_ char *text =
        problem_text(400, "bad", "Bad \xff", "Do \"this\"\n", "value \x01\xc3");

    assert_contains(text, "\"type\":\"https://maeslant.org/problems/bad\"");
    assert_contains(text, "\"status\":400");
    assert_contains(text, "\\\\xff");
    assert_contains(text, "\\\\x01\\\\xc3");
    assert_contains(text, "Do \\\"this\\\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_target_is_split_and_decoded),
        cmocka_unit_test(an_ambiguous_target_is_refused),
        cmocka_unit_test(too_many_parameters_are_refused),
        cmocka_unit_test(header_fields_are_kept_without_white_space_around_them),
        cmocka_unit_test(fields_that_two_parsers_could_read_differently_are_refused),
        cmocka_unit_test(fields_that_must_be_single_are_refused_twice),
        cmocka_unit_test(length_and_transfer_encoding_together_are_refused),
        cmocka_unit_test(an_etag_is_found_in_a_list),
        cmocka_unit_test(a_range_is_cut_to_the_file_or_refused),
        cmocka_unit_test(a_problem_shows_foreign_bytes_and_stays_json),
    };

    return cmocka_run_group_tests_name("http request", tests, NULL, NULL);
}
