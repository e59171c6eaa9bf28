#include "support.h"

#include "base/json.h"

static int parse(const char *text, json_t **ret, struct error *error)
{
    return json_parse(text, strlen(text), ret, error);
}

static void what_another_parser_could_read_differently_is_refused(void **state)
{
    static const char *const bad[] = {
        "",
        " ",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"x\":{\"a\":1,\"b\":2,\"a\":3}}",
        "{\"a\":1}x",
        "{\"a\":1}{}",
        "[1,]",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "[01]",
        "[+1]",
        "[.5]",
        "[5.]",
        "[1e999]",
        "[NaN]",
        "[Infinity]",
        "[0x1]",
        "[9223372036854775808]",
        "// no\n1",
        "/* no */1",
        "\"\\u0000\"",
        "{\"\\u0000\":1}",
        "\"\\ud800\"",
        "\"\\udc00\\ud800\"",
        "\"\\x41\"",
        "\"\xc0\xaf\"",
        "\"\xed\xa0\x80\"",
        "\"\xff\"",
        "\"a\nb\"",
        "\"\x01\"",
        "\xef\xbb\xbf{}",
        "nul",
        "True",
        "\"open",
        "[",
        "{\"a\"",
    };

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        struct error error = ERROR_INIT;
        json_t *value = NULL;

        if (parse(bad[i], &value, &error) != -EINVAL)
            fail_msg("accepted: %s", bad[i]);
        assert_null(value);
        assert_contains(error.text, "line ");
        assert_contains(error.text, "column ");
    }
}

static void a_nul_byte_is_refused_inside_and_behind(void **state)
{
    struct error error = ERROR_INIT;
    json_t *value = NULL;

    assert_int_equal(json_parse("\"a\0b\"", 5, &value, &error), -EINVAL);
    assert_int_equal(json_parse("1\0", 2, &value, &error), -EINVAL);
    assert_int_equal(json_parse(NULL, 0, &value, &error), -EINVAL);
}

static void the_error_has_line_and_column(void **state)
{
    struct error error = ERROR_INIT;
    json_t *value = NULL;

    assert_int_equal(parse("{\n  \"a\": 1,\n  \"b\": x\n}", &value, &error), -EINVAL);
    assert_contains(error.text, "line 3, column 8");
}

static void sixteen_levels_pass_and_seventeen_do_not(void **state)
{
    _cleanup_json_ json_t *value = NULL;
    struct error error = ERROR_INIT;
    json_t *none = NULL;

    assert_int_equal(parse("[[[[[[[[[[[[[[[{\"[[[[\":\"]\\\"[[[\"}]]]]]]]]]]]]]]]", &value, &error),
                     0);
    assert_int_equal(parse("[[[[[[[[[[[[[[[{\"é\":[1]}]]]]]]]]]]]]]]]", &none, &error), -EINVAL);
    assert_contains(error.text, "line 1, column 21: nested deeper than 16");
}

static void a_million_brackets_do_not_overflow_the_stack(void **state)
{
    struct error error = ERROR_INIT;
    size_t len = 1000000;
    _cleanup_free_ char *text = xmalloc(len);
    json_t *value = NULL;

    memset(text, '[', len);
    assert_int_equal(json_parse(text, len, &value, &error), -EINVAL);
}

static void the_same_value_gives_the_same_text(void **state)
{
    _cleanup_json_ json_t *a = NULL, *b = NULL;
    struct error error = ERROR_INIT;
    _cleanup_free_ char *text_a = NULL, *text_b = NULL;

    assert_int_equal(
        parse("{\"b\": [1, 2.50, 1e2], \"a\": {\"y\": null, \"x\": \"\\u00e9\\n\\/\"}}", &a,
              &error),
        0);
    assert_int_equal(
        parse("{\"a\":{\"x\":\"é\\u000a/\",\"y\":null},\"b\":[1,2.5,100.0]}", &b, &error), 0);
    text_a = json_text(a);
    text_b = json_text(b);
    assert_string_equal(text_a, "{\"a\":{\"x\":\"é\\n/\",\"y\":null},\"b\":[1,2.5,100.0]}");
    assert_string_equal(text_a, text_b);
}

static void every_value_writes_a_text_that_reads_back(void **state)
{
    static const char *const texts[] = {
        "0.1",
        "1e-4",
        "-0.0",
        "1e300",
        "9223372036854775807",
        "-9223372036854775808",
        "true",
        "false",
        "null",
        "[]",
        "{}",
        "\"\"",
        "\"\\b\\t\\n\\u000b\\f\\r\\u001f\\\\\\\"\x7f\"",
    };

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        _cleanup_json_ json_t *value = NULL, *again = NULL;
        struct error error = ERROR_INIT;
        _cleanup_free_ char *text = NULL;

        assert_int_equal(parse(texts[i], &value, &error), 0);
        text = json_text(value);
        assert_int_equal(parse(text, &again, &error), 0);
        assert_true(json_equal(value, again));
    }
}

static json_t *sample(void)
{
    struct error error = ERROR_INIT;
    json_t *object = NULL;

    assert_int_equal(
        parse("{\"s\":\"text\",\"i\":5,\"r\":0.5,\"t\":true,\"n\":null,\"l\":[],\"o\":{}}", &object,
              &error),
        0);
    return object;
}

static void members_of_the_right_kind_are_found(void **state)
{
    _cleanup_json_ json_t *object = sample();
    struct error error = ERROR_INIT;
    const char *text = NULL;
    const json_t *list = NULL;
    int64_t number = 0;
    double real = 0;
    bool flag = false;

    assert_int_equal(json_need_string(object, "begin", "s", 4, &text, &error), 0);
    assert_string_equal(text, "text");
    assert_int_equal(json_need_integer(object, "begin", "i", 5, 5, &number, &error), 0);
    assert_int_equal(number, 5);
    assert_int_equal(json_may_number(object, "begin", "i", 0, 9, &real, &error), 0);
    assert_true(real == 5);
    assert_int_equal(json_may_bool(object, "begin", "t", &flag, &error), 0);
    assert_true(flag);
    assert_int_equal(json_need(object, "begin", "l", JSON_ARRAY, &list, &error), 0);
    assert_true(json_is_array(list));
    assert_int_equal(json_need(object, "begin", "t", JSON_FALSE, &list, &error), 0);
}

static void absent_members_keep_the_default_or_are_named(void **state)
{
    _cleanup_json_ json_t *object = sample();
    struct error error = ERROR_INIT;
    const char *text = "default";
    const json_t *value = object;
    int64_t number = 9;
    double real = 9;
    bool flag = true;

    assert_int_equal(json_may_string(object, "", "x", 4, &text, &error), 0);
    assert_string_equal(text, "default");
    assert_int_equal(json_may_integer(object, "", "x", 0, 1, &number, &error), 0);
    assert_int_equal(json_may_number(object, "", "x", 0, 1, &real, &error), 0);
    assert_int_equal(json_may_bool(object, "", "x", &flag, &error), 0);
    assert_int_equal(json_may(object, "", "x", JSON_OBJECT, &value, &error), 0);
    assert_true(number == 9 && real == 9 && flag && value == object);
    assert_int_equal(json_need_string(object, "begin", "x", 4, &text, &error), -EINVAL);
    assert_string_equal(error.text,
                        "begin: \"x\" is missing: expected a string of at most 4 bytes");
    assert_int_equal(json_need(object, "", "x", JSON_OBJECT, &value, &error), -EINVAL);
    assert_string_equal(error.text, "\"x\" is missing: expected an object");
}

static void a_member_of_the_wrong_kind_is_quoted(void **state)
{
    _cleanup_json_ json_t *object = sample();
    struct error error = ERROR_INIT;
    const char *text = NULL;
    const json_t *value = NULL;
    int64_t number = 0;
    double real = 0;
    bool flag = false;

    assert_int_equal(json_need_string(object, "begin", "s", 3, &text, &error), -EINVAL);
    assert_string_equal(error.text, "begin.s is \"text\": expected a string of at most 3 bytes");
    assert_int_equal(json_may_string(object, "begin", "n", 3, &text, &error), -EINVAL);
    assert_int_equal(json_need_integer(object, "", "i", 6, 9, &number, &error), -EINVAL);
    assert_string_equal(error.text, "i is 5: expected a whole number from 6 to 9");
    assert_int_equal(json_need_integer(object, "", "r", 0, 9, &number, &error), -EINVAL);
    assert_int_equal(json_may_integer(object, "", "s", 0, 9, &number, &error), -EINVAL);
    assert_int_equal(json_may_number(object, "p", "r", 0.6, 1, &real, &error), -EINVAL);
    assert_string_equal(error.text, "p.r is 0.5: expected a number from 0.6 to 1");
    assert_int_equal(json_may_bool(object, "p", "i", &flag, &error), -EINVAL);
    assert_int_equal(json_may(object, "p", "o", JSON_ARRAY, &value, &error), -EINVAL);
    assert_string_equal(error.text, "p.o is an object: expected a list");
    assert_int_equal(json_need(json_object_get(object, "l"), "p", "o", JSON_ARRAY, &value, &error),
                     -EINVAL);
}

static void a_long_value_is_cut_in_the_error(void **state)
{
    _cleanup_json_ json_t *object = json_object();
    struct error error = ERROR_INIT;
    char text[5000];
    int64_t number;

    memset(text, 'a', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(json_object_set_new(object, "k", json_string(text)), 0);
    assert_int_equal(json_need_integer(object, "", "k", 0, 9, &number, &error), -EINVAL);
    assert_contains(error.text, "…: expected a whole number from 0 to 9");
    memset(text, '\xc3', sizeof(text) - 1);
    for (size_t i = 1; i < sizeof(text) - 1; i += 2)
        text[i] = '\xa9';
    text[4998] = '\0';
    assert_int_equal(json_object_set_new(object, "k", json_string(text)), 0);
    assert_int_equal(json_need_integer(object, "", "k", 0, 9, &number, &error), -EINVAL);
    assert_contains(error.text, "é…: expected");
}

static void unknown_members_are_named_with_the_known_ones(void **state)
{
    static const char *const all[] = {"s", "i", "r", "t", "n", "l", "o", NULL};
    static const char *const some[] = {"s", "i", "r", "t", "n", "l", NULL};
    static const char *const none[] = {NULL};
    _cleanup_json_ json_t *object = sample();
    struct error error = ERROR_INIT;

    assert_int_equal(json_only(object, "begin", all, &error), 0);
    assert_int_equal(json_only(object, "begin", some, &error), -EINVAL);
    assert_string_equal(error.text,
                        "begin: \"o\" is not known here: expected one of s, i, r, t, n, l");
    assert_int_equal(json_only(object, "", none, &error), -EINVAL);
    assert_contains(error.text, "expected no members");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_another_parser_could_read_differently_is_refused),
        cmocka_unit_test(a_nul_byte_is_refused_inside_and_behind),
        cmocka_unit_test(the_error_has_line_and_column),
        cmocka_unit_test(sixteen_levels_pass_and_seventeen_do_not),
        cmocka_unit_test(a_million_brackets_do_not_overflow_the_stack),
        cmocka_unit_test(the_same_value_gives_the_same_text),
        cmocka_unit_test(every_value_writes_a_text_that_reads_back),
        cmocka_unit_test(members_of_the_right_kind_are_found),
        cmocka_unit_test(absent_members_keep_the_default_or_are_named),
        cmocka_unit_test(a_member_of_the_wrong_kind_is_quoted),
        cmocka_unit_test(a_long_value_is_cut_in_the_error),
        cmocka_unit_test(unknown_members_are_named_with_the_known_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
