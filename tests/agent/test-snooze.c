#include "check-support.h"

#include "agent/snooze.h"

#include <errno.h>

#define DAY 86400.0
#define NOW INT64_C(1800000000000)
#define HOUR INT64_C(3600000)

static char *folder;
static struct paths paths;

static int setup(void **state)
{
    folder = scratch_make();
    paths = (struct paths){.state = folder};
    return 0;
}

static int teardown(void **state)
{
    scratch_remove(&folder);
    return 0;
}

static void set(double seconds)
{
    struct error error = ERROR_INIT;

    if (snooze_set(&paths, seconds, DAY, "the exam is on", "ada", NOW, &error) < 0)
        fail_msg("%s", error.text);
}

static void a_snooze_lasts_as_long_as_was_asked(void **state)
{
    struct snooze snooze;

    assert_int_equal(snooze_until(&paths, DAY, NOW, false), 0);
    set(7200);
    assert_int_equal(snooze_until(&paths, DAY, NOW, false), NOW + 2 * HOUR);
    assert_int_equal(snooze_until(&paths, DAY, NOW + 2 * HOUR - 1, false), NOW + 2 * HOUR);
    assert_int_equal(snooze_until(&paths, DAY, NOW + 2 * HOUR, false), 0);
    assert_int_equal(snooze_load(&paths, DAY, NOW + 1, &snooze, NULL), 0);
    assert_string_equal(snooze.reason, "the exam is on");
    assert_string_equal(snooze.by, "ada");
}

static void an_emergency_is_not_snoozed(void **state)
{
    set(7200);
    assert_int_equal(snooze_until(&paths, DAY, NOW, true), 0);
}

static void an_end_ends_it_and_twice_is_no_error(void **state)
{
    set(7200);
    assert_int_equal(snooze_end(&paths, NULL), 0);
    assert_int_equal(snooze_until(&paths, DAY, NOW, false), 0);
    assert_int_equal(snooze_end(&paths, NULL), 0);
}

static void nothing_longer_than_the_bound_is_taken(void **state)
{
    struct error error = ERROR_INIT;

    assert_int_equal(snooze_set(&paths, DAY + 1, DAY, "x", "ada", NOW, &error), -ERANGE);
    assert_contains(error.text, "snooze_max in agent.yaml allows 1d");
    assert_int_equal(snooze_set(&paths, 1, 0, "x", "ada", NOW, &error), -EPERM);
    assert_int_equal(snooze_set(&paths, 0, DAY, "x", "ada", NOW, &error), -EINVAL);
    assert_int_equal(snooze_set(&paths, 10, DAY, "", "ada", NOW, &error), -EINVAL);
    assert_int_equal(snooze_set(&paths, 10, DAY, "two\nlines", "ada", NOW, &error), -EINVAL);
    assert_int_equal(snooze_until(&paths, DAY, NOW, false), 0);
}

static void a_bound_that_was_lowered_holds_for_what_was_asked_before(void **state)
{
    set(DAY);
    assert_int_equal(snooze_until(&paths, 3600, NOW, false), NOW + HOUR);
    assert_int_equal(snooze_until(&paths, 3600, NOW + HOUR, false), 0);
}

static void a_clock_that_jumps_does_not_make_it_last(void **state)
{
    set(7200);
    assert_int_equal(snooze_until(&paths, DAY, NOW + 365 * 24 * HOUR, false), 0);
    assert_int_equal(snooze_until(&paths, DAY, NOW - 365 * 24 * HOUR, false), 0);
    assert_int_equal(snooze_until(&paths, DAY, 0, false), 0);
}

static void a_damaged_file_snoozes_nothing_and_is_named(void **state)
{
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{\"until\":1}",
                                        "soon",
                                        "{\"until\":9e99,\"since\":0,\"reason\":\"\",\"by\":\"\"}",
                                        "{\"until\":-5,\"since\":0,\"reason\":\"\",\"by\":\"\"}"};
    struct error error = ERROR_INIT;
    struct snooze snooze;

    for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
        write_text(folder, "snooze", texts[i]);
        assert_int_equal(snooze_load(&paths, DAY, NOW, &snooze, &error), -EBADMSG);
        assert_contains(error.text, "snooze");
        assert_int_equal(snooze_until(&paths, DAY, NOW, false), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_snooze_lasts_as_long_as_was_asked, setup, teardown),
        cmocka_unit_test_setup_teardown(an_emergency_is_not_snoozed, setup, teardown),
        cmocka_unit_test_setup_teardown(an_end_ends_it_and_twice_is_no_error, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_longer_than_the_bound_is_taken, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bound_that_was_lowered_holds_for_what_was_asked_before,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_clock_that_jumps_does_not_make_it_last, setup, teardown),
        cmocka_unit_test_setup_teardown(a_damaged_file_snoozes_nothing_and_is_named, setup,
                                        teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
