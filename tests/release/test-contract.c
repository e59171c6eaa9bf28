#include "release/manifest.h"

#include "base/buf.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void versions_compare_number_by_number_then_text(void **state)
{
    /* in rising order */
    static const char *const versions[] = {
        "",
        "0.9",
        "1",
        "1+a",
        "1.0",
        "1.0-rc1",
        "1.0.1",
        "1.2",
        "1.9",
        "1.10",
        "1.10a",
        "1.10b",
        "1.100",
        "2",
        "2.a",
        "2a",
        "3.3.4-1+deb12u1",
        "3.3.4-1+deb12u3",
        "3.3.4-1+deb12u10",
        "20",
        "21",
        "18446744073709551616",
        "18446744073709551617",
        "a",
        "a1",
        "b",
    };

    for (size_t i = 0; i < ARRAY_SIZE(versions); i++)
        for (size_t j = 0; j < ARRAY_SIZE(versions); j++) {
            int expected = (i > j) - (i < j);

            if (version_compare(versions[i], versions[j]) != expected)
                fail_msg("\"%s\" against \"%s\" is not %d", versions[i], versions[j], expected);
        }
    assert_int_equal(version_compare("1.010", "1.10"), 0);
    assert_int_equal(version_compare("0", "000"), 0);
}

static void a_constraint_fits_what_it_says(void **state)
{
    static const struct {
        const char *constraint, *value;
        bool fits;
    } cases[] = {
        {"=3", "3", true},
        {"=3", "3.0", false},
        {"3", "3", true},
        {"3", "4", false},
        {">=20", "20", true},
        {">=20", "19", false},
        {">=1.9", "1.10", true},
        {"<=20", "20", true},
        {"<=20", "21", false},
        {">20", "20", false},
        {">20", "21", true},
        {"<20", "19", true},
        {"<20", "20", false},
        {">=1,<2", "1.5", true},
        {">=1,<2", "2", false},
        {">=1,<2", "0.9", false},
        {" >= 1 , < 2 ", "1.5", true},
        {">=1,<2,=1.5", "1.5", true},
        {"=1.0~rc1", "1.0~rc1", true},
        {"", "", false},
        {">=", "1", false},
    };

    for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
        if (constraint_fits(cases[i].constraint, cases[i].value) != cases[i].fits)
            fail_msg("\"%s\" for \"%s\" is not %d", cases[i].constraint, cases[i].value,
                     cases[i].fits);
}

static void what_is_no_constraint_is_refused(void **state)
{
    static const char *const bad[] = {"",    " ",     ",",      "=",   ">=",  "==1",
                                      "=>1", "!=1",   "~1.x y", "1,",  ",1",  "1,,2",
                                      "1 2", ">1;<2", "^1",     "1\n", "(1)", "ü"};
    static const char *const good[] = {"1", "=1", ">=1.0-rc1+b~2", "<a,>b", "1:2.3-4"};
    char longest[130];

    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (constraint_check(bad[i]) == 0)
            fail_msg("\"%s\" is accepted", bad[i]);
    for (size_t i = 0; i < ARRAY_SIZE(good); i++)
        if (constraint_check(good[i]) < 0)
            fail_msg("\"%s\" is refused", good[i]);
    memset(longest, '1', sizeof(longest));
    longest[128] = '\0';
    assert_int_equal(constraint_check(longest), 0);
    longest[128] = '1';
    longest[129] = '\0';
    assert_int_equal(constraint_check(longest), -EINVAL);
}

static void a_contract_that_does_not_fit_names_both_sides(void **state)
{
    struct pair_text need[] = {{(char *)"engine", (char *)">=2"},
                               {(char *)"fields", (char *)"<=20"}};
    struct pair_text has[] = {{(char *)"fields", (char *)"21"}, {(char *)"engine", (char *)"2.1"}};
    const struct manifest manifest = {.product = (char *)"sensor",
                                      .version = (char *)"291",
                                      .requires = need,
                                      .requires_count = 2};
    struct error error = ERROR_INIT;

    assert_int_equal(contract_check(&manifest, has, 2, &error), -ERANGE);
    assert_non_null(strstr(error.text, "sensor 291 requires fields <=20, this device provides 21"));
    has[0].value = (char *)"20";
    assert_int_equal(contract_check(&manifest, has, 2, &error), 0);
    assert_int_equal(contract_check(&manifest, has, 1, &error), -ENOENT);
    assert_non_null(strstr(error.text, "engine >=2"));
    assert_int_equal(contract_check(&manifest, NULL, 0, NULL), -ENOENT);
}

static void variables_are_replaced_once_and_unknown_ones_named(void **state)
{
    static const struct pair_text vars[] = {{(char *)"port", (char *)"8080"},
                                            {(char *)"slot", (char *)"/s"},
                                            {(char *)"sly", (char *)"${port}"},
                                            {(char *)"empty", (char *)""}};
    static const struct {
        const char *text, *expected;
    } good[] = {
        {"", ""},
        {"plain", "plain"},
        {"http://x:${port}/", "http://x:8080/"},
        {"${slot}${slot}/${port}", "/s/s/8080"},
        {"${sly}", "${port}"}, /* a value is never read again */
        {"a${empty}b", "ab"},
        {"$port $ {port} $$", "$port $ {port} $$"},
    };
    static const char *const malformed[] = {"${", "a${port", "${}", "${a b}", "${${port}}"};

    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        _cleanup_free_ char *text = NULL;
        struct error error = ERROR_INIT;

        assert_int_equal(substitute(good[i].text, vars, ARRAY_SIZE(vars), &text, &error), 0);
        assert_string_equal(text, good[i].expected);
    }
    for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
        char *text = NULL;
        struct error error = ERROR_INIT;

        assert_int_equal(substitute(malformed[i], vars, ARRAY_SIZE(vars), &text, &error), -EINVAL);
        assert_null(text);
    }
    char *text = NULL;
    struct error error = ERROR_INIT;

    assert_int_equal(substitute("x ${nowhere} y", vars, ARRAY_SIZE(vars), &text, &error), -ENOENT);
    assert_non_null(strstr(error.text, "nowhere"));
    assert_null(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_compare_number_by_number_then_text),
        cmocka_unit_test(a_constraint_fits_what_it_says),
        cmocka_unit_test(what_is_no_constraint_is_refused),
        cmocka_unit_test(a_contract_that_does_not_fit_names_both_sides),
        cmocka_unit_test(variables_are_replaced_once_and_unknown_ones_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
