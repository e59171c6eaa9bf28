#include "support.h"

#include "base/json.h"
#include "base/yaml.h"

static const char policy[] = "policy:\n"
                             "  class: routine   # a comment\n"
                             "  harm_budget: 25\n"
                             "  alpha: 1.0e-4\n"
                             "  stages:\n"
                             "    - {name: internal, organisations: [acme], share: 0.1%}\n"
                             "    - name: broad\n"
                             "      share: 100%\n";

static int parse(const char *text, json_t **ret, struct error *error)
{
    return yaml_parse(text, strlen(text), ret, error);
}

static void assert_reads_as(const char *yaml, const char *json)
{
    _cleanup_json_ json_t *value = NULL;
    struct error error = ERROR_INIT;
    _cleanup_free_ char *text = NULL;

    if (parse(yaml, &value, &error) < 0)
        fail_msg("%s: %s", yaml, error.text);
    text = json_text(value);
    assert_string_equal(text, json);
}

static void a_policy_becomes_the_same_value_as_its_json(void **state)
{
    assert_reads_as(policy,
                    "{\"policy\":{\"alpha\":0.0001,\"class\":\"routine\",\"harm_budget\":25,"
                    "\"stages\":[{\"name\":\"internal\",\"organisations\":[\"acme\"],"
                    "\"share\":\"0.1%\"},{\"name\":\"broad\",\"share\":\"100%\"}]}}");
}

static void plain_scalars_follow_json_and_nothing_else(void **state)
{
    assert_reads_as("[0, -1, 1.5, 1e3, true, false, null]", "[0,-1,1.5,1000.0,true,false,null]");
    assert_reads_as("[yes, no, on, off, True, NULL, ~, .inf, 0x1f, 0o17, 017, 1_000, +1, .5, 1:30]",
                    "[\"yes\",\"no\",\"on\",\"off\",\"True\",\"NULL\",\"~\",\".inf\",\"0x1f\","
                    "\"0o17\",\"017\",\"1_000\",\"+1\",\".5\",\"1:30\"]");
    assert_reads_as("['1', \"true\", 'null']", "[\"1\",\"true\",\"null\"]");
    assert_reads_as("a: 2026-11-25", "{\"a\":\"2026-11-25\"}");
    assert_reads_as("a:\nb: ''\n", "{\"a\":null,\"b\":\"\"}");
    assert_reads_as("a: |\n  two\n  lines\n", "{\"a\":\"two\\nlines\\n\"}");
    assert_reads_as("\ufeffa: 1\r\nb: 2\r\n", "{\"a\":1,\"b\":2}");
    assert_reads_as("--- 5\n...\n", "5");
}

static void assert_refused(const char *yaml, const char *where, const char *why)
{
    struct error error = ERROR_INIT;
    json_t *value = NULL;

    if (parse(yaml, &value, &error) >= 0)
        fail_msg("accepted: %s", yaml);
    assert_null(value);
    assert_contains(error.text, where);
    assert_contains(error.text, why);
}

static void what_could_mean_two_things_is_refused_with_its_place(void **state)
{
    assert_refused("a: 1\nb: 2\na: 3\n", "line 3, column 1", "\"a\" is there twice");
    assert_refused("x: {a: 1, 'a': 2}", "line 1, column 11", "there twice");
    assert_refused("a: &x 1\nb: 2", "line 1, column 4", "anchors");
    assert_refused("a: [1]\nb: *a", "line 2, column 4", "aliases");
    assert_refused("&x a: 1", "line 1, column 1", "anchors");
    assert_refused("a: !!str 1", "line 1, column 4", "tags");
    assert_refused("!x {a: 1}", "line 1, column 1", "tags");
    assert_refused("a: ! 1", "line 1, column 4", "tags");
    assert_refused("%YAML 1.1\n---\na: 1", "line 1, column 1", "directives");
    assert_refused("%TAG ! tag:x,2026:\n---\na: 1", "line 1, column 1", "directives");
    assert_refused("a: 1\n---\nb: 1\n", "line 2, column 1", "second document");
    assert_refused("1: a", "line 1, column 1", "not a string");
    assert_refused("true: a", "line 1, column 1", "not a string");
    assert_refused("null: a", "line 1, column 1", "not a string");
    assert_refused(": a", "line 1, column 1", "key");
    assert_refused("[a]: 1", "line 1, column 1", "key");
    assert_refused("? {a: 1}\n: 1", "line 1, column 3", "key");
    assert_refused("<<: {a: 1}", "line 1, column 1", "merge");
    assert_refused("a: \"x\\0y\"", "line 1, column 4", "NUL");
    assert_refused("\"x\\0y\": a", "line 1, column 1", "NUL");
    assert_refused("a: 9223372036854775808", "line 1, column 4", "64 bits");
    assert_refused("a: 1e999", "line 1, column 4", "too large");
    assert_refused("", "line 1, column 1", "empty");
    assert_refused("# only a comment\n", "line ", "empty");
    assert_refused("a: [1, 2", "line ", "not valid YAML");
    assert_refused("a: b: c", "line 1, column 5", "not valid YAML");
    assert_refused("a:\n\t- 1", "line 2, column 1", "not valid YAML");
    assert_refused("a: \"\\ud800\"", "line 1", "not valid YAML");
    assert_refused("a: 1\nb: é\xff\n", "line 2, column 5", "0xff is not UTF-8");
    assert_refused("a: \xc0\xaf\n", "line 1, column 4", "not UTF-8");
    assert_refused("a: \x1b[0m\n", "line 1, column 4", "0x1b belongs to a control");
    assert_refused("a: x\xc2\x85"
                   "b: 2",
                   "line 1, column 5", "control character");
    assert_refused("a: \u2028", "line 1, column 4", "\\u2028");
    assert_refused("a: \u2029", "line 1, column 4", "line separator");
    assert_refused("a: \ufeffx", "line 1, column 4", "byte order mark");
    assert_refused("a: \x7f", "line 1, column 4", "control character");
    assert_refused("%\x8f", "line 1, column 2", "not UTF-8");
    assert_refused("\xff\xfe[\0]\0", "line 1", "not valid YAML");
}

static void sixteen_levels_pass_and_seventeen_do_not(void **state)
{
    assert_reads_as("[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", "[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]");
    assert_refused("[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]", "line 1, column 17", "16 levels");
}

static void hostile_megabytes_end_soon(void **state)
{
    static const char *const patterns[] = {"[",     "{",   "- ",    "? ",   "a: ", "!",
                                           "&a ",   "*",   "%",     "\"\\", "'",   "|\n ",
                                           "{a: [", "#\n", "---\n", "a\n"};
    size_t size = 1024 * 1024;
    _cleanup_free_ char *text = xmalloc(size);

    for (size_t i = 0; i < ARRAY_SIZE(patterns); i++) {
        _cleanup_json_ json_t *value = NULL;
        struct error error = ERROR_INIT;
        size_t len = strlen(patterns[i]);
        unsigned line, column;

        for (size_t j = 0; j < size; j++)
            text[j] = patterns[i][j % len];
        (void)yaml_parse(text, size, &value, &error);
        yaml_locate(text, size, "a.b", &line, &column);
    }
}

static void more_than_a_mebibyte_is_refused(void **state)
{
    size_t size = 1024 * 1024 + 1;
    _cleanup_free_ char *text = xmalloc(size);
    struct error error = ERROR_INIT;
    json_t *value = NULL;

    memset(text, 'a', size);
    assert_int_equal(yaml_parse(text, size, &value, &error), -EFBIG);
    assert_contains(error.text, "1 MiB");
}

static void assert_lies_at(const char *path, unsigned line, unsigned column)
{
    unsigned got_line = 99, got_column = 99;

    yaml_locate(policy, strlen(policy), path, &got_line, &got_column);
    if (got_line != line || got_column != column)
        fail_msg("%s: %u:%u, expected %u:%u", path, got_line, got_column, line, column);
}

static void nodes_are_located_by_their_path(void **state)
{
    assert_lies_at("", 1, 1);
    assert_lies_at("policy", 2, 3);
    assert_lies_at("policy.harm_budget", 3, 16);
    assert_lies_at("policy.stages", 6, 5);
    assert_lies_at("policy.stages[0]", 6, 7);
    assert_lies_at("policy.stages[0].organisations[0]", 6, 40);
    assert_lies_at("policy.stages[1].share", 8, 14);
}

static void paths_that_lead_nowhere_give_zero(void **state)
{
    static const char *const paths[] = {"nothing",
                                        "policy.nothing",
                                        "policy.stages[2]",
                                        "policy.stages[1].",
                                        "policy.stages[0",
                                        "policy.stages[-1]",
                                        "policy.stages[18446744073709551616]",
                                        "policy.stages.name",
                                        "policy[0]",
                                        "policy.class.x",
                                        ".",
                                        "[",
                                        "policy.",
                                        "policy..class",
                                        "policy.stages[]",
                                        "policyx",
                                        "polic"};

    for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
        assert_lies_at(paths[i], 0, 0);
}

static void written_yaml_keeps_the_order_and_reads_plainly(void **state)
{
    _cleanup_json_ json_t *value = NULL;
    struct error error = ERROR_INIT;
    _cleanup_free_ char *text = NULL;

    assert_int_equal(
        parse("{z: 1, a: [x, {k: v, l: []}, [1, 2]], s: 0.1%, t: 'true'}", &value, &error), 0);
    text = yaml_text(value);
    assert_string_equal(text, "z: 1\n"
                              "a:\n"
                              "  - x\n"
                              "  - k: v\n"
                              "    l: []\n"
                              "  - - 1\n"
                              "    - 2\n"
                              "s: \"0.1%\"\n"
                              "t: \"true\"\n");
}

static void every_value_reads_back_as_itself(void **state)
{
    static const char *const strings[] = {"",
                                          " ",
                                          "true",
                                          "no",
                                          "~",
                                          "1",
                                          "1.5",
                                          "-",
                                          "- a",
                                          "a: b",
                                          "a #b",
                                          "#",
                                          "<<",
                                          "&a",
                                          "*a",
                                          "!a",
                                          "%",
                                          "@",
                                          "`",
                                          "|",
                                          ">",
                                          "\"",
                                          "'",
                                          "\\",
                                          "a\nb",
                                          "\ta",
                                          "a\r",
                                          "\x01",
                                          "\x7f",
                                          "é",
                                          "\xc2\x85",
                                          "\xe2\x80\xa8",
                                          "\xef\xbb\xbf",
                                          "😀",
                                          "\xef\xbf\xbe",
                                          "a ",
                                          "{",
                                          "[x]",
                                          "?",
                                          "=",
                                          "0x1",
                                          "1e3",
                                          "2026-01-01",
                                          "...",
                                          "---",
                                          "/bin/x"};
    char long_key[3000];

    memset(long_key, 'k', sizeof(long_key) - 1);
    long_key[sizeof(long_key) - 1] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(strings); i++) {
        _cleanup_json_ json_t *again = NULL;
        struct error error = ERROR_INIT;
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ json_t *value =
            json_pack("{s:s, s:[s, {s:{s:s}}, [[]], {}], s:f, s:i, s:{s:[i]}, s:n}", strings[i],
                      strings[i], "list", strings[i], strings[i], "k", strings[i], "real", 0.1,
                      "int", 7, long_key, "x", 1, "null");

        assert_non_null(value);
        text = yaml_text(value);
        if (parse(text, &again, &error) < 0)
            fail_msg("%s in:\n%s", error.text, text);
        if (!json_equal(value, again))
            fail_msg("changed:\n%s", text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_becomes_the_same_value_as_its_json),
        cmocka_unit_test(plain_scalars_follow_json_and_nothing_else),
        cmocka_unit_test(what_could_mean_two_things_is_refused_with_its_place),
        cmocka_unit_test(sixteen_levels_pass_and_seventeen_do_not),
        cmocka_unit_test(hostile_megabytes_end_soon),
        cmocka_unit_test(more_than_a_mebibyte_is_refused),
        cmocka_unit_test(nodes_are_located_by_their_path),
        cmocka_unit_test(paths_that_lead_nowhere_give_zero),
        cmocka_unit_test(written_yaml_keeps_the_order_and_reads_plainly),
        cmocka_unit_test(every_value_reads_back_as_itself),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
