#include "rig.h"

static void silence_is_failure_in_order_of_deadline(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 6, "o", NULL, NULL);
    for (uint32_t device = 0; device < 6; device++) {
        rig.t = 10.0 * device + 1;
        assert_granted(rig_begin(&rig, device));
    }
    rig_tick(&rig, 951);
    assert_int_equal(rig.count - rig.mark, 6);
    for (uint32_t device = 0; device < 6; device++) {
        const struct rollout_decision *silent = &rig.decisions[rig.mark + device];
        assert_int_equal(silent->type, DECISION_SILENT);
        assert_int_equal(silent->device, device);
        assert_int_equal(silent->pair, device / 2 + 1);
    }
    struct rollout_view view = rig_view(&rig);
    assert_int_equal(view.failed, 3);
    assert_int_equal(view.silent, 3);
    assert_int_equal(view.placebo_failed, 3);
    assert_int_equal(view.k_placebo, 3);
    rig_end(&rig);
}

static void a_report_at_the_deadline_is_in_time_and_a_later_one_changes_nothing(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 2, "o", NULL, NULL);
    rig.t = 5;
    rig_pair(&rig, 0, 1, NULL);
    rig.t = 905;
    assert_int_equal(rig_outcome(&rig, 0, OUTCOME_HEALTHY), 0);
    assert_non_null(rig_last(&rig, DECISION_SILENT)); /* the other one's */
    assert_int_equal(rig_last(&rig, DECISION_SILENT)->device, 1);

    struct rollout_view before = rig_view(&rig);
    rig.t = 906;
    assert_int_equal(rig_outcome(&rig, 1, OUTCOME_HEALTHY), -ETIME);
    struct rollout_view after = rig_view(&rig);
    assert_int_equal(after.late, 1);
    assert_int_equal(after.failed + after.placebo_failed, before.failed + before.placebo_failed);
    assert_true(after.log_split == before.log_split && after.log_e == before.log_e);
    rig_end(&rig);
}

static void a_late_report_lets_its_own_deadline_pass_first(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 1, "o", NULL, NULL);
    assert_granted(rig_begin(&rig, 0));
    rig.t = 2000;
    assert_int_equal(rig_outcome(&rig, 0, OUTCOME_HEALTHY), -ETIME);
    assert_non_null(rig_last(&rig, DECISION_SILENT));
    rig_end(&rig);
}

static void an_announced_interruption_is_no_failure_and_the_third_one_is(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 2, "o", NULL, NULL);
    rig_pair(&rig, 0, 1, NULL);
    rig.t = 100;
    rig_outcome(&rig, 0, OUTCOME_INTERRUPTED);
    rig_tick(&rig, 5000);                      /* long past its first deadline */
    assert_int_equal(rig.count - rig.mark, 1); /* the other one's silence */
    assert_int_equal(rig_last(&rig, DECISION_SILENT)->device, 1);
    assert_true(rollout_next_tick(rig.rollout) == 100 + 86400);
    assert_int_equal(rig_view(&rig).interrupted, 1);
    rig_outcome(&rig, 0, OUTCOME_INTERRUPTED);
    rig.t = 6000;
    assert_true(rollout_next_tick(rig.rollout) == 5000 + 86400);
    rig_outcome(&rig, 0, OUTCOME_INTERRUPTED);
    assert_non_null(rig_last(&rig, DECISION_SILENT));
    assert_int_equal(rig_last(&rig, DECISION_SILENT)->device, 0);
    rig_end(&rig);
}

static void an_interrupted_device_settles_like_any_other(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 2, "o", NULL, NULL);
    uint32_t placebo, release = rig_pair(&rig, 0, 1, &placebo);
    rig_outcome(&rig, release, OUTCOME_INTERRUPTED);
    rig_outcome(&rig, placebo, OUTCOME_INTERRUPTED);
    rig.t = 80000;
    rig_outcome(&rig, release, OUTCOME_HEALTHY);
    rig_outcome(&rig, placebo, OUTCOME_FAILED);
    assert_int_equal(rig_view(&rig).healthy, 1);
    assert_int_equal(rig_view(&rig).k_placebo, 1);
    assert_true(isinf(rollout_next_tick(rig.rollout)));
    rig_end(&rig);
}

static void an_interruption_lasts_no_longer_than_the_policy_says(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "\"interrupted_for\":\"1h\"", NULL);
    rig_devices(&rig, 1, "o", NULL, NULL);
    assert_granted(rig_begin(&rig, 0));
    rig.t = 60;
    rig_outcome(&rig, 0, OUTCOME_INTERRUPTED);
    rig_tick(&rig, 3659);
    assert_null(rig_last(&rig, DECISION_SILENT));
    rig_tick(&rig, 3660);
    assert_non_null(rig_last(&rig, DECISION_SILENT));
    rig_end(&rig);
}

static void the_servers_own_downtime_moves_the_open_deadlines(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 4, "o", NULL, NULL);
    rig.t = 1;
    rig_pair(&rig, 0, 1, NULL);
    rig.t = 700;
    rig_pair(&rig, 2, 3, NULL);
    /* Down from 800 to 5000: nobody is silent, and everybody has the time that was left. */
    assert_int_equal(rig_event(&rig,
                               &(struct rollout_event){
                                   .t = 5000, .type = EVENT_OUTAGE, .from = 800, .to = 5000}),
                     0);
    assert_int_equal(rig.count, rig.mark);
    assert_true(rollout_next_tick(rig.rollout) == 901 + 4200);
    rig_tick(&rig, 5100);
    assert_int_equal(rig.count, rig.mark);
    rig_tick(&rig, 5101);
    assert_int_equal(rig.count - rig.mark, 2);
    rig_tick(&rig, 1600 + 4200);
    assert_int_equal(rig.count - rig.mark, 2);
    rig_end(&rig);
}

static void a_deadline_that_passed_before_the_outage_is_not_moved(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 1, "o", NULL, NULL);
    assert_granted(rig_begin(&rig, 0));
    assert_int_equal(rig_event(&rig,
                               &(struct rollout_event){
                                   .t = 3000, .type = EVENT_OUTAGE, .from = 1000, .to = 3000}),
                     0);
    assert_non_null(rig_last(&rig, DECISION_SILENT));
    rig_end(&rig);
}

static void what_cannot_be_is_refused_with_a_reason_and_changes_nothing(void **state)
{
    struct rig rig;
    uint8_t before[32], after[32];
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 3, "o", NULL, NULL);
    rig.t = 100;
    rig_pair(&rig, 0, 1, NULL);
    rig_outcome(&rig, 0, OUTCOME_HEALTHY);
    rollout_fingerprint(rig.rollout, before);
    const struct {
        struct rollout_event event;
        int code;
    } wrong[] = {
        {{.t = 99, .type = EVENT_TICK}, -EINVAL},
        {{.t = NAN, .type = EVENT_TICK}, -EINVAL},
        {{.t = 5000, .type = EVENT_BEGIN, .device = 3}, -EINVAL},
        {{.t = 5000, .type = EVENT_OUTCOME, .device = 2}, -ENOENT},
        {{.t = 5000, .type = EVENT_OUTCOME, .device = 0}, -EALREADY},
        {{.t = 5000, .type = EVENT_OUTCOME, .device = 1, .outcome = 99}, -EINVAL},
        {{.t = 5000, .type = EVENT_OUTCOME, .device = 1, .outcome = OUTCOME_REGRESSED}, -EINVAL},
        {{.t = 5000, .type = EVENT_OUTCOME, .device = 2, .outcome = OUTCOME_REGRESSED}, -ENOENT},
        {{.t = 5000, .type = EVENT_HOLD, .by = "x"}, -EINVAL},
        {{.t = 5000, .type = EVENT_APPROVE, .by = "x", .stage = "nowhere"}, -EINVAL},
        {{.t = 5000, .type = EVENT_APPROVE}, -EINVAL},
        {{.t = 5000, .type = EVENT_OUTAGE, .from = 10, .to = 9}, -EINVAL},
        {{.t = 5000, .type = EVENT_REVERT, .device = 0}, -EINVAL},
        {{.t = 5000, .type = EVENT_REVERTED, .device = 1}, -EINVAL},
        {{.t = 5000, .type = EVENT_REVERTED, .device = 2}, -ENOENT},
        {{.t = 5000, .type = (enum rollout_event_type)77}, -EINVAL},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        rig.error.text[0] = '\0';
        size_t count = rig.count;
        assert_int_equal(rig_event(&rig, &wrong[i].event), wrong[i].code);
        assert_true(rig.error.text[0] != '\0');
        assert_int_equal(rig.count, count);
        rollout_fingerprint(rig.rollout, after);
        assert_memory_equal(before, after, 32);
    }
    rig_end(&rig);
}

static void a_rollout_that_cannot_start_says_why(void **state)
{
    struct policy policy;
    struct error error = ERROR_INIT;
    struct rollout *rollout = NULL;
    struct rollout_organisation twice[] = {{"a", 1}, {"a", 2}};
    json_t *value = json_pack("{s:s,s:i}", "class", "routine", "harm_budget", 1);
    assert_int_equal(policy_parse(value, &policy, &error), 0);
    json_decref(value);
    struct rollout_start start = {.rollout = "r", .release = "x", .seed = "short"};
    assert_int_equal(rollout_new(&policy, &start, &rollout, &error), -EINVAL);
    assert_string_equal(error.text, "the seed of rollout r is \"short\": expected 64 lower-case "
                                    "hex digits");
    start.seed = RIG_SEED;
    start.organisations = twice;
    start.organisation_count = 2;
    assert_int_equal(rollout_new(&policy, &start, &rollout, &error), -EINVAL);
    start.organisation_count = 1;
    start.release = "";
    assert_int_equal(rollout_new(&policy, &start, &rollout, &error), -EINVAL);
    policy_free(&policy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_is_failure_in_order_of_deadline),
        cmocka_unit_test(a_report_at_the_deadline_is_in_time_and_a_later_one_changes_nothing),
        cmocka_unit_test(a_late_report_lets_its_own_deadline_pass_first),
        cmocka_unit_test(an_announced_interruption_is_no_failure_and_the_third_one_is),
        cmocka_unit_test(an_interrupted_device_settles_like_any_other),
        cmocka_unit_test(an_interruption_lasts_no_longer_than_the_policy_says),
        cmocka_unit_test(the_servers_own_downtime_moves_the_open_deadlines),
        cmocka_unit_test(a_deadline_that_passed_before_the_outage_is_not_moved),
        cmocka_unit_test(what_cannot_be_is_refused_with_a_reason_and_changes_nothing),
        cmocka_unit_test(a_rollout_that_cannot_start_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
