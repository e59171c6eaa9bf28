#include "support.h"

#include "base/text.h"

static void the_code_comes_back_and_the_text_is_kept(void **state)
{
    struct error error = ERROR_INIT;

    assert_int_equal(error_set(&error, -EINVAL, "%s is %d", "x", 3), -EINVAL);
    assert_string_equal(error.text, "x is 3");
    assert_int_equal(error_prefix(&error, -EINVAL, "policy.%s", "yaml"), -EINVAL);
    assert_string_equal(error.text, "policy.yaml: x is 3");
    assert_int_equal(error_set(NULL, -EIO, "%s", "nobody reads this"), -EIO);
    assert_int_equal(error_prefix(NULL, -EIO, "nor this"), -EIO);
}

static void an_error_may_quote_its_own_text(void **state)
{
    struct error error = ERROR_INIT;

    (void)error_set(&error, -EINVAL, "inner");
    (void)error_set(&error, -EINVAL, "outer (%s)", error.text);
    assert_string_equal(error.text, "outer (inner)");
}

static void bytes_that_could_lie_on_a_terminal_are_shown(void **state)
{
    struct error error = ERROR_INIT;

    (void)error_set(&error, -EINVAL, "%s", "a\x1b[2Jb\nc\x7f\xff\xc0\xaf\xc2\x85 é€😀");
    assert_string_equal(error.text, "a\\x1b[2Jb\\x0ac\\x7f\\xff\\xc0\\xaf\\xc2\\x85 é€😀");
}

static void surrogates_and_overlong_forms_are_not_utf8(void **state)
{
    assert_int_equal(utf8_sequence("\xed\xa0\x80", 3), 0);
    assert_int_equal(utf8_sequence("\xe0\x80\xaf", 3), 0);
    assert_int_equal(utf8_sequence("\xf0\x80\x80\xaf", 4), 0);
    assert_int_equal(utf8_sequence("\xf4\x90\x80\x80", 4), 0);
    assert_int_equal(utf8_sequence("\xf4\x8f\xbf\xbf", 4), 4);
    assert_int_equal(utf8_sequence("\xe2\x82\xac", 2), 0);
    assert_int_equal(utf8_sequence("\x80", 1), 0);
    assert_int_equal(utf8_sequence("", 0), 0);
}

static void a_text_that_is_too_long_ends_in_an_ellipsis(void **state)
{
    struct error error = ERROR_INIT;
    char lines[2000], small[8];

    memset(lines, '\n', sizeof(lines) - 1);
    lines[sizeof(lines) - 1] = '\0';
    (void)error_set(&error, -EINVAL, "%s", lines);
    assert_true(strlen(error.text) < sizeof(error.text));
    assert_string_equal(error.text + strlen(error.text) - 3, "…");
    memset(lines, 'a', sizeof(lines) - 1);
    (void)error_set(&error, -EINVAL, "%s", lines);
    assert_int_equal(strlen(error.text), sizeof(error.text) - 1);
    assert_string_equal(error.text + strlen(error.text) - 4, "a…");
    assert_int_equal(text_escape(small, sizeof(small), "1234567", 7), 7);
    assert_int_equal(text_escape(small, sizeof(small), "12345678", 8), 7);
    assert_string_equal(small, "1234…");
    assert_int_equal(text_escape(small, sizeof(small), "ééééé", 10), 7);
    assert_string_equal(small, "éé…");
}

static void a_full_text_still_takes_a_prefix(void **state)
{
    struct error error = ERROR_INIT;
    char text[2000];

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)error_set(&error, -EINVAL, "%s", text);
    (void)error_prefix(&error, -EINVAL, "agent.yaml");
    assert_memory_equal(error.text, "agent.yaml: aaa", 15);
    (void)error_prefix(&error, -EINVAL, "%s", text);
    assert_true(strlen(error.text) < sizeof(error.text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_code_comes_back_and_the_text_is_kept),
        cmocka_unit_test(an_error_may_quote_its_own_text),
        cmocka_unit_test(bytes_that_could_lie_on_a_terminal_are_shown),
        cmocka_unit_test(surrogates_and_overlong_forms_are_not_utf8),
        cmocka_unit_test(a_text_that_is_too_long_ends_in_an_ellipsis),
        cmocka_unit_test(a_full_text_still_takes_a_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
