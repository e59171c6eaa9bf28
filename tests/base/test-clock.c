#include "support.h"

#include "base/clock.h"

#include <signal.h>
#include <sys/time.h>

static void times_are_utc_with_milliseconds(void **state)
{
    char text[25];

    clock_format(1795572058123, text);
    assert_string_equal(text, "2026-11-25T02:00:58.123Z");
    clock_format(0, text);
    assert_string_equal(text, "1970-01-01T00:00:00.000Z");
}

static void times_before_1970_round_down(void **state)
{
    char text[25];

    clock_format(-1, text);
    assert_string_equal(text, "1969-12-31T23:59:59.999Z");
}

static void absurd_times_stay_within_four_digit_years(void **state)
{
    char text[25];

    clock_format(INT64_MAX, text);
    assert_string_equal(text, "9999-12-31T23:59:59.999Z");
    clock_format(INT64_MIN, text);
    assert_string_equal(text, "0001-01-01T00:00:00.000Z");
}

static void nothing(int sig)
{
    (void)sig;
}

static void sleep_goes_on_after_a_signal(void **state)
{
    const struct sigaction action = {.sa_handler = nothing};
    const struct itimerval soon = {.it_value = {.tv_usec = 10000}};
    double before = clock_now(CLOCK_MONOTONIC);

    assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    clock_sleep(0.06);
    assert_true(clock_now(CLOCK_MONOTONIC) - before >= 0.06);
}

static void negative_and_undefined_sleeps_return_at_once(void **state)
{
    double before = clock_now(CLOCK_MONOTONIC);

    clock_sleep(-5);
    clock_sleep(0);
    clock_sleep((double)__builtin_nanf(""));
    assert_true(clock_now(CLOCK_MONOTONIC) - before < 1);
}

static void both_readings_agree(void **state)
{
    int64_t ms = clock_ms(CLOCK_REALTIME);
    double s = clock_now(CLOCK_REALTIME);

    assert_true(s * 1000 >= (double)ms && s * 1000 < (double)ms + 1000);
}

static void the_boot_id_is_the_kernels_unless_a_test_gives_one(void **state)
{
    char id[37];

    assert_int_equal(unsetenv("MAESLANT_BOOT_ID"), 0);
    assert_int_equal(boot_id(id), 0);
    assert_int_equal(strlen(id), 36);
    assert_int_equal(id[8], '-');
    assert_int_equal(setenv("MAESLANT_BOOT_ID", "boot-2", 1), 0);
    assert_int_equal(boot_id(id), 0);
    assert_string_equal(id, "boot-2");
    assert_int_equal(setenv("MAESLANT_BOOT_ID", "1234567890123456789012345678901234567", 1), 0);
    assert_int_equal(boot_id(id), -EINVAL);
    assert_int_equal(setenv("MAESLANT_BOOT_ID", "", 1), 0);
    assert_int_equal(boot_id(id), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_utc_with_milliseconds),
        cmocka_unit_test(times_before_1970_round_down),
        cmocka_unit_test(absurd_times_stay_within_four_digit_years),
        cmocka_unit_test(sleep_goes_on_after_a_signal),
        cmocka_unit_test(negative_and_undefined_sleeps_return_at_once),
        cmocka_unit_test(both_readings_agree),
        cmocka_unit_test(the_boot_id_is_the_kernels_unless_a_test_gives_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
