#include "scene.h"

#include <math.h>
#include <string.h>

#define NOISE "  noise: {silent: 0.0008, failed: 0.0002}\n"
#define GOOD "release:\n" SCENE_POLICY
#define BAD(how) "release:\n  harms: [{" how "}]\n" SCENE_POLICY

static void the_same_seed_gives_the_same_run(void **state)
{
    const char *text = SCENE_FLEET(NOISE "  online: 0.8\n") BAD("probability: 0.02");
    for (enum strategy i = STRATEGY_MAESLANT; i < STRATEGY_COUNT; i++) {
        struct sim_result a = scene_run(text, i, 5), b = scene_run(text, i, 5);
        struct sim_result c = scene_run(text, i, 6);
        assert_int_equal(a.exposed, b.exposed);
        assert_int_equal(a.harmed, b.harmed);
        assert_string_equal(a.why, b.why);
        assert_memory_equal(&a.ended_at, &b.ended_at, sizeof a.ended_at);
        assert_true(a.exposed != c.exposed || a.harmed != c.harmed || a.ended_at != c.ended_at);
    }
}

static void a_good_release_reaches_everybody_and_harms_nobody(void **state)
{
    struct sim_result result =
        scene_run(SCENE_FLEET(NOISE "  online: 0.85\n") GOOD, STRATEGY_MAESLANT, 1);
    assert_false(result.halted);
    assert_int_equal(result.harmed, 0);
    assert_int_equal(result.exposed, 20000);
    assert_true(result.completed_at > 600 && result.completed_at < 86400);
    assert_true(result.ended_at > 80000); /* those that come back late in the day */
}

static void devices_ask_at_most_twice_for_each_grant(void **state)
{
    struct sim_result result = scene_run(SCENE_FLEET(NOISE) GOOD, STRATEGY_MAESLANT, 3);
    assert_true(result.asks <= 2 * result.grants);
}

static void without_evidence_at_most_the_budget_is_exposed(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sim_result result =
            scene_run(SCENE_FLEET("") BAD("probability: 1, shows: silent, after: 20s"),
                      STRATEGY_MAESLANT, seed);
        assert_true(result.halted && !result.false_halt);
        /* A silent one gives its room back at the moment of its deadline, before the halt. */
        assert_true(result.harmed <= 25 && result.exposed <= 50);
        assert_true(result.halted_at <= 900.5 + 60);
    }
}

static void failures_that_report_halt_before_everybody_in_flight_is_harmed(void **state)
{
    struct sim_result result = scene_run(
        SCENE_FLEET("") BAD("probability: 1, shows: failed, after: 20s"), STRATEGY_MAESLANT, 1);
    assert_true(result.halted && result.halted_at < 120);
    assert_true(result.harmed <= 25);
}

static void noise_is_not_harm(void **state)
{
    struct sim_result result = scene_run(
        SCENE_FLEET("  noise: {silent: 0.004, failed: 0.004}\n") GOOD, STRATEGY_MAESLANT, 2);
    assert_int_equal(result.harmed, 0);
    assert_false(result.halted);
}

static void proven_harm_is_never_more_than_true_harm(void **state)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sim_result result =
            scene_run(SCENE_FLEET(NOISE) BAD("probability: 0.03, shows: failed, after: 1m"),
                      STRATEGY_MAESLANT, seed);
        assert_true(result.proven_harm <= result.harmed);
    }
}

static void an_outage_silences_both_arms_and_halts_nothing(void **state)
{
    struct sim_result result =
        scene_run(SCENE_FLEET(NOISE "  outages: [{at: 30m, for: 40m, share: 0.3}]\n") GOOD,
                  STRATEGY_MAESLANT, 4);
    assert_false(result.halted);
    assert_false(isnan(result.completed_at));
    assert_int_equal(result.exposed, 20000);
}

static void devices_are_told_what_stage_they_wait_for(void **state)
{
    struct sim_result result = scene_run(
        SCENE_FLEET(NOISE) "release:\n"
                           "  policy:\n"
                           "    class: routine\n"
                           "    harm_budget: 25\n"
                           "    stages:\n"
                           "      - {name: first, organisations: [o1], min_settled: 20}\n"
                           "      - {name: canary, share: 1%, min_settled: 50, min_time: 1h}\n"
                           "      - {name: broad, share: 100%, approval: true}\n",
        STRATEGY_MAESLANT, 8);
    assert_false(result.halted);
    assert_int_equal(result.exposed, 20000);
    assert_true(result.completed_at > 3600);
}

static void an_emergency_with_its_approvals_goes_on(void **state)
{
    struct sim_result result =
        scene_run(SCENE_FLEET(NOISE) "release:\n  policy: {class: emergency, harm_budget: 100}\n",
                  STRATEGY_MAESLANT, 8);
    assert_int_equal(result.exposed, 20000);
}

static void restarts_without_end_count_as_silence(void **state)
{
    struct sim_result result =
        scene_run(SCENE_FLEET("") BAD("probability: 1, shows: interrupted, after: 30s"),
                  STRATEGY_MAESLANT, 1);
    assert_true(result.halted && result.harmed <= 25);
}

static void a_thread_of_harm_that_never_shows_is_counted(void **state)
{
    struct sim_result result = scene_run(
        SCENE_FLEET("") BAD("probability: 0.5, shows: healthy, after: 30s"), STRATEGY_MAESLANT, 1);
    assert_false(result.halted);
    assert_in_range(result.harmed, 9500, 10500);
}

static void devices_that_recover_need_no_repair(void **state)
{
    struct sim_result result =
        scene_run(SCENE_FLEET("") BAD("probability: 1, recovers: true"), STRATEGY_ALL_AT_ONCE, 1);
    assert_int_equal(result.harmed, 20000);
    assert_int_equal(result.repairs, 0);
}

static void a_trace_keeps_its_size_and_ends_at_the_end(void **state)
{
    struct scenario scenario = scene(SCENE_FLEET(NOISE "  online: 0.85\n") GOOD);
    struct fleet fleet;
    struct sim_result result;
    static struct sim_trace trace;
    fleet_init(&fleet, &scenario, 1);
    assert_int_equal(sim_run(&fleet, STRATEGY_MAESLANT, 1, &result, &trace, NULL, NULL), 0);
    assert_in_range(trace.count, 200, SIM_SAMPLES - 1);
    for (size_t i = 1; i < trace.count; i++) {
        assert_true(trace.samples[i].t >= trace.samples[i - 1].t);
        assert_true(trace.samples[i].exposed >= trace.samples[i - 1].exposed);
    }
    assert_true(trace.samples[trace.count - 1].exposed == (double)result.exposed);
    fleet_free(&fleet);
    scenario_free(&scenario);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_run),
        cmocka_unit_test(a_good_release_reaches_everybody_and_harms_nobody),
        cmocka_unit_test(devices_ask_at_most_twice_for_each_grant),
        cmocka_unit_test(without_evidence_at_most_the_budget_is_exposed),
        cmocka_unit_test(failures_that_report_halt_before_everybody_in_flight_is_harmed),
        cmocka_unit_test(noise_is_not_harm),
        cmocka_unit_test(proven_harm_is_never_more_than_true_harm),
        cmocka_unit_test(an_outage_silences_both_arms_and_halts_nothing),
        cmocka_unit_test(devices_are_told_what_stage_they_wait_for),
        cmocka_unit_test(an_emergency_with_its_approvals_goes_on),
        cmocka_unit_test(restarts_without_end_count_as_silence),
        cmocka_unit_test(a_thread_of_harm_that_never_shows_is_counted),
        cmocka_unit_test(devices_that_recover_need_no_repair),
        cmocka_unit_test(a_trace_keeps_its_size_and_ends_at_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
