#include "rig.h"

#include "gate/evidence.h"

/* Pairs of the devices from `first` on: the release fails, the placebo is healthy. */
static uint32_t harm_pairs(struct rig *rig, uint32_t first, unsigned pairs)
{
    for (unsigned i = 0; i < pairs; i++, first += 2) {
        uint32_t placebo, release = rig_pair(rig, first, first + 1, &placebo);
        rig_outcome(rig, release, OUTCOME_FAILED);
        if (rig_view(rig).state == ROLLOUT_HALTED)
            return first + 2;
        rig_outcome(rig, placebo, OUTCOME_HEALTHY);
    }
    return first;
}

/* Opens `pairs` pairs at once and lets their releases fail: three are a pause, E_A is high and e_0
 * is not. */
static void pause_environment(struct rig *rig)
{
    uint32_t release[3], placebo[3];
    for (uint32_t i = 0; i < 3; i++)
        release[i] = rig_pair(rig, 2 * i, 2 * i + 1, &placebo[i]);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(rig_view(rig).state, ROLLOUT_RUNNING);
        rig_outcome(rig, release[i], OUTCOME_FAILED);
    }
    assert_int_equal(rig_view(rig).state, ROLLOUT_PAUSED);
    const struct rollout_decision *pause = rig_last(rig, DECISION_PAUSE);
    assert_non_null(pause);
    assert_int_equal(pause->because.alarm, ALARM_ENVIRONMENT);
    assert_string_equal(pause->because.slice, "all");
    assert_int_equal(pause->because.n, 3);
    assert_int_equal(pause->because.k, 3);
    assert_true(pause->because.log_e >= log(2e4));
    for (uint32_t i = 0; i < 3; i++)
        rig_outcome(rig, placebo[i], OUTCOME_HEALTHY);
    assert_int_equal(rig_view(rig).state, ROLLOUT_PAUSED);
}

static void alarm_c_halts_at_the_event_at_which_more_than_the_budget_is_proven_harmed(void **state)
{
    for (unsigned budget = 1; budget < 6; budget += 2) {
        struct rig rig;
        /* A cap of 59 % keeps alarm A out of it. */
        rig_start(&rig, budget, "\"tolerance\":{\"cap\":0.59,\"ratio\":1000}", NULL);
        rig_devices(&rig, 200, "o", NULL, NULL);
        harm_pairs(&rig, 0, 100);
        const struct rollout_decision *halt = rig_last(&rig, DECISION_HALT);
        assert_non_null(halt);
        assert_int_equal(halt->because.alarm, ALARM_PROVEN_HARM);
        assert_int_equal(halt->because.proven_harm, budget + 1);
        uint64_t k = halt->because.k_release;
        assert_true(split_log_evidence(k, 0, budget) >= log(2e4));
        assert_true(split_log_evidence(k - 1, 0, budget) < log(2e4));
        assert_int_equal(rig_view(&rig).failed, k);
        rig_end(&rig);
    }
}

static void alarm_a_halts_when_the_placebos_do_not_fail_in_the_same_way(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "", NULL);
    rig_devices(&rig, 8, "o", NULL, NULL);
    uint32_t release[4];
    for (uint32_t i = 0; i < 4; i++)
        release[i] = rig_pair(&rig, 2 * i, 2 * i + 1, NULL);
    for (uint32_t i = 0; i < 4; i++)
        rig_outcome(&rig, release[i], OUTCOME_FAILED);
    /* E_A reaches 2/alpha and e_0 ten at the fourth failure. */
    const struct rollout_decision *halt = rig_last(&rig, DECISION_HALT);
    assert_non_null(halt);
    assert_int_equal(halt->because.alarm, ALARM_ABSOLUTE);
    assert_int_equal(halt->because.n, 4);
    assert_int_equal(halt->because.k_release, 4);
    struct rate_mixture mixture;
    rate_mixture_init(&mixture, 1e-4);
    assert_true(halt->because.log_e == rate_log_evidence(&mixture, 4, 4, 0.01));
    assert_true(rig_view(&rig).log_split >= log(10));
    rig_end(&rig);
}

static void absolute_evidence_without_the_coins_pauses_and_calls_for_a_control_check(void **state)
{
    struct rig rig;
    rig_start(&rig, 3, "", NULL);
    rig_devices(&rig, 40, "o", NULL, NULL);
    pause_environment(&rig);

    /* Ten placebos outside pairs, and no more; no releases. */
    for (uint32_t device = 10; device < 20; device++) {
        const struct rollout_decision *decision = rig_begin(&rig, device);
        assert_int_equal(decision->type, DECISION_PLACEBO);
        assert_int_equal(decision->pair, 0);
    }
    assert_refused(rig_begin(&rig, 20), REASON_PAUSED);
    for (uint32_t device = 10; device < 19; device++)
        rig_outcome(&rig, device, OUTCOME_HEALTHY);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_PAUSED);
    /* A control placebo is not the device's turn. */
    assert_int_equal(rollout_device_state(rig.rollout, 10), DEVICE_NEW);
    rig_outcome(&rig, 19, OUTCOME_HEALTHY);
    const struct rollout_decision *halt = rig_last(&rig, DECISION_HALT);
    assert_non_null(halt);
    assert_int_equal(halt->because.alarm, ALARM_ABSOLUTE);
    rig_end(&rig);
}

static void a_pause_that_nobody_is_left_to_check_ends_by_itself(void **state)
{
    struct rig rig;
    rig_start(&rig, 3, "", NULL);
    rig_devices(&rig, 40, "o", NULL, NULL);
    pause_environment(&rig);
    double ends = rollout_next_tick(rig.rollout);
    assert_true(isfinite(ends) && ends > rig.t);
    rig_tick(&rig, ends - 1);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_PAUSED);

    /* A placebo for the check shows that somebody is there: the wait begins anew. */
    assert_int_equal(rig_begin(&rig, 20)->type, DECISION_PLACEBO);
    rig_outcome(&rig, 20, OUTCOME_HEALTHY);
    rig_tick(&rig, ends);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_PAUSED);
    rig_tick(&rig, rollout_next_tick(rig.rollout));
    assert_non_null(rig_last(&rig, DECISION_RESUME));
    assert_int_equal(rig_view(&rig).state, ROLLOUT_RUNNING);
    rig_tick(&rig, rig.t + 1e6);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_RUNNING);
    rig_end(&rig);
}

static void placebos_that_fail_take_alarm_a_out_of_service_and_the_rollout_goes_on(void **state)
{
    struct rig rig;
    rig_start(&rig, 3, "", NULL);
    rig_devices(&rig, 60, "o", NULL, NULL);
    pause_environment(&rig);
    for (uint32_t device = 10; rig_view(&rig).state == ROLLOUT_PAUSED; device++) {
        assert_int_equal(rig_begin(&rig, device)->type, DECISION_PLACEBO);
        rig_outcome(&rig, device, OUTCOME_FAILED);
        assert_true(device < 16);
    }
    const struct rollout_decision *resume = rig_last(&rig, DECISION_RESUME);
    assert_non_null(resume);
    assert_int_equal(resume->because.alarm, ALARM_ENVIRONMENT);
    assert_true(rig_view(&rig).k_placebo >= 2);
    /* Alarm A is silent from here on; the same failures again change nothing. */
    for (uint32_t i = 0; i < 3; i++) {
        uint32_t placebo, release = rig_pair(&rig, 20 + 2 * i, 21 + 2 * i, &placebo);
        rig_outcome(&rig, placebo, OUTCOME_FAILED);
        rig_outcome(&rig, release, OUTCOME_FAILED);
        assert_int_equal(rig_view(&rig).state, ROLLOUT_RUNNING);
    }
    rig_end(&rig);
}

static void placebos_that_fail_just_as_often_never_let_it_come_to_a_pause(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "", NULL);
    rig_devices(&rig, 8, "o", NULL, NULL);
    for (uint32_t i = 0; i < 4; i++)
        rig_pair(&rig, 2 * i, 2 * i + 1, NULL);
    rig_tick(&rig, 1000); /* all of them silent */
    assert_null(rig_any(&rig, DECISION_PAUSE));
    assert_null(rig_any(&rig, DECISION_HALT));
    assert_int_equal(rig_view(&rig).state, ROLLOUT_RUNNING);
    rig_end(&rig);
}

static void coins_that_decide_during_the_pause_halt(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "\"tolerance\":{\"cap\":0.001}", NULL);
    rig_devices(&rig, 8, "o", NULL, NULL);
    uint32_t release[4];
    for (uint32_t i = 0; i < 4; i++)
        release[i] = rig_pair(&rig, 2 * i, 2 * i + 1, NULL);
    for (uint32_t i = 0; i < 3; i++)
        rig_outcome(&rig, release[i], OUTCOME_FAILED);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_PAUSED);
    rig_outcome(&rig, release[3], OUTCOME_FAILED);
    assert_int_equal(rig_last(&rig, DECISION_HALT)->because.alarm, ALARM_ABSOLUTE);
    rig_end(&rig);
}

static void a_person_ends_the_pause_and_the_same_evidence_does_not_pause_again(void **state)
{
    struct rig rig;
    rig_start(&rig, 3, "", NULL);
    rig_devices(&rig, 40, "o", NULL, NULL);
    pause_environment(&rig);
    rig_person(&rig, EVENT_RESUME, "ann", NULL, NULL);
    assert_int_equal(rig_last(&rig, DECISION_RESUME)->because.alarm, ALARM_PERSON);
    assert_string_equal(rig_last(&rig, DECISION_RESUME)->because.by, "ann");
    uint32_t release = rig_pair(&rig, 10, 11, NULL);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_RUNNING);
    /* But when the coins speak too, it is a halt. */
    rig_outcome(&rig, release, OUTCOME_FAILED);
    assert_int_equal(rig_last(&rig, DECISION_HALT)->because.alarm, ALARM_ABSOLUTE);
    rig_end(&rig);
}

/* All have been in clean pairs; then the releases outside pairs fail together, at an hour at which
 * no placebo is out. The check finds the world well again: no halt, but pairs once more. */
static void failures_outside_pairs_send_the_devices_back_into_pairs(void **state)
{
    struct rig rig;
    uint32_t placebo[20];
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 60, "o", NULL, NULL);
    for (uint32_t i = 0; i < 20; i++)
        rig_pair(&rig, 2 * i, 2 * i + 1, &placebo[i]);
    for (uint32_t device = 0; device < 40; device++)
        rig_outcome(&rig, device, OUTCOME_HEALTHY);
    for (uint32_t i = 0; i < 12; i++)
        assert_int_equal(rig_begin(&rig, placebo[i])->pair, 0);
    for (uint32_t i = 0; rig_view(&rig).state == ROLLOUT_RUNNING; i++)
        rig_outcome(&rig, placebo[i], OUTCOME_FAILED);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_PAUSED);
    for (uint32_t device = 40; device < 50; device++)
        assert_int_equal(rig_begin(&rig, device)->type, DECISION_PLACEBO);
    for (uint32_t device = 40; device < 50; device++)
        rig_outcome(&rig, device, OUTCOME_HEALTHY);
    assert_non_null(rig_last(&rig, DECISION_RESUME));
    assert_int_equal(rig_view(&rig).state, ROLLOUT_RUNNING);
    const struct rollout_decision *again = rig_begin(&rig, placebo[18]);
    assert_granted(again);
    assert_int_equal(again->pair, 21);
    rig_end(&rig);
}

static void a_stratum_that_fails_is_named(void **state)
{
    struct rig rig;
    rig_start(&rig, 100, "", NULL);
    rig_devices(&rig, 100, "o", "os=good", NULL);
    rig_devices(&rig, 100, "o", "os=bad", NULL);
    for (uint32_t device = 0; device < 100; device++)
        assert_granted(rig_begin(&rig, device));
    for (uint32_t device = 0; device < 100; device++)
        rig_outcome(&rig, device, OUTCOME_HEALTHY);
    for (uint32_t device = 100; device < 140; device++)
        assert_granted(rig_begin(&rig, device));
    for (uint32_t device = 100; rig_view(&rig).state == ROLLOUT_RUNNING; device++) {
        bool release = rollout_device_state(rig.rollout, device) == DEVICE_IN_RELEASE;
        rig_outcome(&rig, device, release ? OUTCOME_FAILED : OUTCOME_HEALTHY);
    }
    const struct rollout_decision *decision = rig_any(&rig, DECISION_HALT);
    if (!decision)
        decision = rig_any(&rig, DECISION_PAUSE);
    assert_non_null(decision);
    assert_string_equal(decision->because.slice, "os=bad");
    assert_true(decision->because.k <= 7 && decision->because.n == 20);
    rig_end(&rig);
}

static void after_a_halt_the_tosses_no_longer_count(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 50, "o", NULL, NULL);
    for (uint32_t i = 0; i < 25; i++)
        rig_pair(&rig, 2 * i, 2 * i + 1, NULL);
    rig_person(&rig, EVENT_HALT, "ann", NULL, NULL);
    rig_tick(&rig, 1000);
    assert_int_equal(rig_view(&rig).failed, 25);
    assert_int_equal(rig_view(&rig).k_release, 0);
    assert_int_equal(rig_view(&rig).k_placebo, 0);
    rig_end(&rig);
}

static void confirmed_devices_that_regress_halt_where_the_cap_does_not_explain_it(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 40, "o", NULL, NULL);
    for (uint32_t i = 0; i < 20; i++) {
        uint32_t placebo, release = rig_pair(&rig, 2 * i, 2 * i + 1, &placebo);
        rig_outcome(&rig, release, OUTCOME_HEALTHY);
        rig_outcome(&rig, placebo, OUTCOME_HEALTHY);
    }
    for (uint32_t device = 0; rig_view(&rig).state == ROLLOUT_RUNNING; device++)
        if (rollout_device_state(rig.rollout, device) == DEVICE_HEALTHY)
            rig_outcome(&rig, device, OUTCOME_REGRESSED);
    const struct rollout_decision *halt = rig_last(&rig, DECISION_HALT);
    assert_non_null(halt);
    assert_int_equal(halt->because.alarm, ALARM_ABSOLUTE);
    assert_string_equal(halt->because.slice, "in the watch");
    assert_int_equal(halt->because.n, 20);
    assert_true(halt->because.k >= 6 && halt->because.k <= 10);
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alarm_c_halts_at_the_event_at_which_more_than_the_budget_is_proven_harmed),
        cmocka_unit_test(alarm_a_halts_when_the_placebos_do_not_fail_in_the_same_way),
        cmocka_unit_test(absolute_evidence_without_the_coins_pauses_and_calls_for_a_control_check),
        cmocka_unit_test(a_pause_that_nobody_is_left_to_check_ends_by_itself),
        cmocka_unit_test(placebos_that_fail_take_alarm_a_out_of_service_and_the_rollout_goes_on),
        cmocka_unit_test(placebos_that_fail_just_as_often_never_let_it_come_to_a_pause),
        cmocka_unit_test(coins_that_decide_during_the_pause_halt),
        cmocka_unit_test(a_person_ends_the_pause_and_the_same_evidence_does_not_pause_again),
        cmocka_unit_test(failures_outside_pairs_send_the_devices_back_into_pairs),
        cmocka_unit_test(a_stratum_that_fails_is_named),
        cmocka_unit_test(after_a_halt_the_tosses_no_longer_count),
        cmocka_unit_test(confirmed_devices_that_regress_halt_where_the_cap_does_not_explain_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
