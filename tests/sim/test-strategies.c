#include "scene.h"

#include <math.h>
#include <string.h>

#define NOISE "  noise: {silent: 0.0008, failed: 0.0002}\n"
#define GOOD "release:\n" SCENE_POLICY
#define BAD(how) "release:\n  harms: [{" how "}]\n" SCENE_POLICY

static struct sim_result run(const char *release, enum strategy strategy)
{
    char text[600];
    (void)snprintf(text, sizeof text, "fleet:\n  devices: 100000\n" NOISE "%s", release);
    return scene_run(text, strategy, 1);
}

static void a_good_release_reaches_everybody_with_each(void **state)
{
    for (enum strategy i = STRATEGY_MAESLANT; i < STRATEGY_COUNT; i++) {
        struct sim_result result = run(GOOD, i);
        assert_false(result.halted);
        assert_int_equal(result.harmed, 0);
        /* The fixed test leaves its baseline as it is. */
        assert_true(result.exposed >= (i == STRATEGY_FIXED_TEST ? 99400 : 100000));
        assert_false(isnan(result.completed_at));
    }
}

static void all_at_once_harms_all_that_can_be_harmed(void **state)
{
    struct sim_result result = run(BAD("probability: 1, shows: failed"), STRATEGY_ALL_AT_ONCE);
    assert_int_equal(result.harmed, 100000);
    assert_false(result.halted);
}

static void groups_pause_at_the_error_threshold_of_the_first_group(void **state)
{
    struct sim_result result =
        run(BAD("probability: 1, shows: failed, after: 20s"), STRATEGY_PERCENT_STAGES);
    assert_true(result.halted);
    assert_int_equal(result.exposed, 1000); /* the pause takes back nothing that was assigned */
    assert_int_equal(result.harmed, 1000);
}

static void groups_neither_halt_nor_go_on_when_devices_fall_silent(void **state)
{
    struct sim_result result =
        run(BAD("probability: 1, shows: silent, after: 20s"), STRATEGY_PERCENT_STAGES);
    assert_false(result.halted);
    assert_int_equal(result.exposed, 1000);
    assert_true(isnan(result.completed_at));
}

static void groups_let_harm_below_their_threshold_reach_everybody(void **state)
{
    struct sim_result result =
        run(BAD("probability: 0.3, shows: failed, after: 20s"), STRATEGY_PERCENT_STAGES);
    assert_false(result.halted);
    assert_in_range(result.harmed, 29000, 31000);
}

static void a_canary_goes_back_after_five_failed_checks(void **state)
{
    struct sim_result result =
        run(BAD("probability: 0.1, shows: failed, after: 20s"), STRATEGY_CANARY_THRESHOLD);
    assert_true(result.halted);
    assert_int_equal(result.exposed, 10000);
    assert_true(result.halted_at >= 5 * 900);
}

static void a_canary_lets_harm_below_one_per_cent_reach_everybody(void **state)
{
    struct sim_result result =
        run(BAD("probability: 0.005, shows: failed, after: 20s"), STRATEGY_CANARY_THRESHOLD);
    assert_false(result.halted);
    assert_in_range(result.harmed, 400, 600);
}

static void a_rate_grows_with_success_and_aborts_on_failures(void **state)
{
    struct sim_result good = run(GOOD, STRATEGY_RATE_ABORT);
    struct sim_result bad =
        run(BAD("probability: 1, shows: failed, after: 20s"), STRATEGY_RATE_ABORT);
    struct sim_result silent =
        run(BAD("probability: 1, shows: silent, after: 20s"), STRATEGY_RATE_ABORT);
    assert_true(good.completed_at > 100 * 60); /* never more than 1000 a minute */
    assert_true(bad.halted && bad.exposed < 500);
    assert_true(silent.halted && silent.exposed > bad.exposed && silent.exposed < 1500);
}

static void one_test_sees_large_harm_and_not_small(void **state)
{
    struct sim_result large =
        run(BAD("probability: 0.5, shows: failed, after: 20s"), STRATEGY_FIXED_TEST);
    struct sim_result small =
        run(BAD("probability: 0.002, shows: failed, after: 20s"), STRATEGY_FIXED_TEST);
    assert_true(large.halted && large.exposed <= 1100);
    assert_false(small.halted);
    assert_true(small.harmed > 100);
}

static void strategies_meet_the_same_devices_with_the_same_fate(void **state)
{
    struct sim_result once = run(BAD("probability: 0.2"), STRATEGY_ALL_AT_ONCE);
    struct sim_result groups = run(BAD("probability: 0.2"), STRATEGY_PERCENT_STAGES);
    assert_int_equal(once.harmed, groups.harmed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_release_reaches_everybody_with_each),
        cmocka_unit_test(all_at_once_harms_all_that_can_be_harmed),
        cmocka_unit_test(groups_pause_at_the_error_threshold_of_the_first_group),
        cmocka_unit_test(groups_neither_halt_nor_go_on_when_devices_fall_silent),
        cmocka_unit_test(groups_let_harm_below_their_threshold_reach_everybody),
        cmocka_unit_test(a_canary_goes_back_after_five_failed_checks),
        cmocka_unit_test(a_canary_lets_harm_below_one_per_cent_reach_everybody),
        cmocka_unit_test(a_rate_grows_with_success_and_aborts_on_failures),
        cmocka_unit_test(one_test_sees_large_harm_and_not_small),
        cmocka_unit_test(strategies_meet_the_same_devices_with_the_same_fate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
