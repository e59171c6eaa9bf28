#include "support.h"

#include "base/parse.h"
#include "base/text.h"

#include <locale.h>
#include <math.h>

static void whole_numbers_are_digits_within_bounds(void **state)
{
    static const char *const bad[] = {"",    " 1",  "1 ",  "+1", "-1",  "01", "0x10",
                                      "1.0", "1e3", "1\n", "１", "1_0", "NaN"};
    struct error error = ERROR_INIT;
    uint64_t value = 7;

    assert_int_equal(parse_u64("0", 0, 9, &value, &error), 0);
    assert_int_equal(value, 0);
    assert_int_equal(parse_u64("18446744073709551615", 0, UINT64_MAX, &value, &error), 0);
    assert_true(value == UINT64_MAX);
    assert_int_equal(parse_u64("18446744073709551616", 0, UINT64_MAX, &value, &error), -ERANGE);
    assert_int_equal(parse_u64("10", 0, 9, &value, &error), -ERANGE);
    assert_contains(error.text, "10 is out of range");
    assert_contains(error.text, "0 to 9");
    assert_int_equal(parse_u64("0", 1, 9, &value, &error), -ERANGE);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_u64(bad[i], 0, 1000, &value, &error), -EINVAL);
}

static void reals_are_json_numbers_within_bounds(void **state)
{
    static const char *const bad[] = {"",    ".5",  "5.",   "1e",   "+1",   "0x1p3", "inf",
                                      "nan", "1,5", "1.5 ", " 1.5", "01.5", "1e+",   "--1"};
    struct error error = ERROR_INIT;
    double value;

    assert_int_equal(parse_double("-1.25e-2", -1, 1, &value, &error), 0);
    assert_true(value == -0.0125);
    assert_int_equal(parse_double("1e400", -1, INFINITY, &value, &error), -ERANGE);
    assert_int_equal(parse_double("2", 0, 1, &value, &error), -ERANGE);
    assert_contains(error.text, "from 0 to 1");
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_double(bad[i], -1e9, 1e9, &value, &error), -EINVAL);
}

static void durations_read_as_people_write_them(void **state)
{
    static const struct {
        const char *text;
        double seconds;
    } good[] = {
        {"500ms", 0.5},  {"10s", 10},    {"15m", 900},    {"1h", 3600}, {"7d", 604800},
        {"1h30m", 5400}, {"1.5s", 1.5},  {"0", 0},        {"0s", 0},    {"1d2h3m4s5ms", 93784.005},
        {"100ms", 0.1},  {"0.5h", 1800}, {"1m1.5s", 61.5}};
    struct error error = ERROR_INIT;
    double seconds;

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        assert_int_equal(parse_duration(good[i].text, &seconds, &error), 0);
        assert_true(fabs(seconds - good[i].seconds) <= 1e-9 * good[i].seconds);
    }
}

static void sloppy_durations_are_refused_with_the_value_and_the_way_out(void **state)
{
    static const char *const bad[] = {"",       "10",     "1.5",   "s",    "10 s", "10S", "-1s",
                                      "+1s",    "1h 30m", "30m1h", "1h1h", "1,5s", ".5s", "1.s",
                                      "1.5h3m", "01s",    "1w",    "1min", "1e3s", "00",  "1s\n",
                                      "0x1s",   "1mss",   "nan s", "infs", "1hm",  "1h30"};
    struct error error = ERROR_INIT;
    double seconds = -1;

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        assert_int_equal(parse_duration(bad[i], &seconds, &error), -EINVAL);
        assert_contains(error.text, "such as 500ms");
    }
    assert_int_equal(parse_duration("3653d", &seconds, &error), -ERANGE);
    assert_contains(error.text, "3653d");
    assert_int_equal(parse_duration("99999999999999999999999999999d", &seconds, &error), -ERANGE);
    assert_true(seconds == -1);
    assert_int_equal(parse_duration("3652d", &seconds, &error), 0);
}

static void shares_are_exact_whether_written_as_percent_or_fraction(void **state)
{
    static const char *const bad[] = {"",     "%",    "-1%", "1 %",  "50%%", "1e-1%", "0,5",
                                      "half", "-0.1", "1/2", "50% ", "01%",  ".1"};
    static const char *const far[] = {"101%", "1.0001", "1e400", "5"};
    struct error error = ERROR_INIT;
    double share = -1;

    assert_int_equal(parse_share("0.1%", &share, &error), 0);
    assert_true(share == 0.001);
    assert_int_equal(parse_share("0.7%", &share, &error), 0);
    assert_true(share == 0.007); /* 0.7 / 100 is not */
    assert_int_equal(parse_share("100%", &share, &error), 0);
    assert_true(share == 1);
    assert_int_equal(parse_share("1e-3", &share, &error), 0);
    assert_true(share == 0.001);
    share = -1;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_share(bad[i], &share, &error), -EINVAL);
    for (size_t i = 0; i < ARRAY_SIZE(far); i++)
        assert_int_equal(parse_share(far[i], &share, &error), -ERANGE);
    assert_true(share == -1);
}

static void sizes_are_whole_with_binary_units(void **state)
{
    static const char *const bad[] = {"",     "KiB", "1KB",   "1k",   "1.5MiB", "1 MiB",
                                      "1mib", "-1",  "1MiB ", "1PiB", "0x10",   "01KiB"};
    struct error error = ERROR_INIT;
    uint64_t size = 1;

    assert_int_equal(parse_size("64KiB", &size, &error), 0);
    assert_int_equal(size, 65536);
    assert_int_equal(parse_size("10MiB", &size, &error), 0);
    assert_int_equal(size, 10485760);
    assert_int_equal(parse_size("1GiB", &size, &error), 0);
    assert_int_equal(size, 1073741824);
    assert_int_equal(parse_size("0", &size, &error), 0);
    assert_int_equal(size, 0);
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_int_equal(parse_size(bad[i], &size, &error), -EINVAL);
    assert_int_equal(parse_size("16777216TiB", &size, &error), -ERANGE);
    assert_int_equal(parse_size("99999999999999999999", &size, &error), -ERANGE);
}

static void names_cannot_leave_their_folder_or_look_like_options(void **state)
{
    static const char *const bad[] = {"",    ".",     "..", ".x",  "-x", "a/b", "a b",
                                      "a\n", "a\x7f", "ä",  "a:b", "a*", "a%"};
    char text[131];

    memset(text, 'a', sizeof(text));
    text[128] = '\0';
    assert_true(is_name(text));
    text[128] = 'a';
    text[129] = '\0';
    assert_false(is_name(text));
    assert_true(is_name("crs-3.3.4_1+deb12u1"));
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(is_name(bad[i]));
}

static void text_is_utf8_without_control_bytes(void **state)
{
    assert_true(is_text("a\tb\né😀", strlen("a\tb\né😀")));
    assert_true(is_text("", 0));
    assert_false(is_text("a\0b", 3));
    assert_false(is_text("a\rb", 3));
    assert_false(is_text("\x1b[0m", 4));
    assert_false(is_text("\x7f", 1));
    assert_false(is_text("\xc2\x85", 2));
    assert_false(is_text("\xff", 1));
    assert_false(is_text("\xe2\x82", 2));
}

static void durations_are_shown_in_two_units_at_most(void **state)
{
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0, "0s"},       {-3, "0s"},
                 {0.85, "850ms"}, {0.0001, "1ms"},
                 {0.9999, "1s"},  {12, "12s"},
                 {59.6, "1m"},    {200, "3m20s"},
                 {7500, "2h5m"},  {3600, "1h"},
                 {90000, "1d1h"}, {86400, "1d"},
                 {NAN, "0s"},     {INFINITY, "11574074074d1h"}};
    char text[32];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        format_duration(cases[i].seconds, text, sizeof(text));
        assert_string_equal(text, cases[i].text);
    }
}

static void numbers_are_the_same_in_a_locale_with_a_comma(void **state)
{
    struct error error = ERROR_INIT;
    char text[32];
    double value;

    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "nl_NL.UTF-8"))
        skip();
    assert_int_equal(parse_double("1.5", 0, 2, &value, &error), 0);
    assert_true(value == 1.5);
    double_to_text(1.5, text);
    assert_string_equal(text, "1.5");
    (void)setlocale(LC_ALL, "C");
}

static void doubles_print_short_and_read_back(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        {0.1, "0.1"},    {1e-4, "0.0001"}, {1.0 / 3, "0.3333333333333333"},
        {1e22, "1e+22"}, {-2.5, "-2.5"},   {1.7976931348623157e308, "1.7976931348623157e+308"}};
    char text[32];

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        double_to_text(cases[i].value, text);
        assert_string_equal(text, cases[i].text);
        assert_true(text_to_double(text, NULL) == cases[i].value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_numbers_are_digits_within_bounds),
        cmocka_unit_test(reals_are_json_numbers_within_bounds),
        cmocka_unit_test(durations_read_as_people_write_them),
        cmocka_unit_test(sloppy_durations_are_refused_with_the_value_and_the_way_out),
        cmocka_unit_test(shares_are_exact_whether_written_as_percent_or_fraction),
        cmocka_unit_test(sizes_are_whole_with_binary_units),
        cmocka_unit_test(names_cannot_leave_their_folder_or_look_like_options),
        cmocka_unit_test(text_is_utf8_without_control_bytes),
        cmocka_unit_test(durations_are_shown_in_two_units_at_most),
        cmocka_unit_test(numbers_are_the_same_in_a_locale_with_a_comma),
        cmocka_unit_test(doubles_print_short_and_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
