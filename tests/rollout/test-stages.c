#include "rig.h"

#include <string.h>

static void settle_all(struct rig *rig, uint32_t count)
{
    for (uint32_t device = 0; device < count; device++) {
        enum rollout_device_state now = rollout_device_state(rig->rollout, device);
        if (now == DEVICE_IN_RELEASE || now == DEVICE_IN_PLACEBO)
            rig_outcome(rig, device, OUTCOME_HEALTHY);
    }
}

/* Rounds in which everybody asks and everybody is healthy. */
static void rounds(struct rig *rig, uint32_t count, int number)
{
    for (int i = 0; i < number; i++) {
        for (uint32_t device = 0; device < count; device++)
            rig_begin(rig, device);
        settle_all(rig, count);
        rig->t += 100;
    }
}

static void the_first_stage_opens_at_the_first_event(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "\"stages\":[{\"name\":\"canary\"}]", NULL);
    assert_true(rollout_next_tick(rig.rollout) == 0);
    rig_tick(&rig, 7);
    assert_int_equal(rig.count, 1);
    assert_int_equal(rig.decisions[0].type, DECISION_OPEN);
    assert_string_equal(rig.decisions[0].stage, "canary");
    assert_true(rig_view(&rig).stage_opened_at == 7);
    rig_end(&rig);
}

static void a_stage_opens_on_settled_evidence_time_and_approval(void **state)
{
    struct rig rig;
    rig_start(&rig, 25,
              "\"stages\":[{\"name\":\"a\",\"min_settled\":3,\"min_time\":\"1h\"},"
              "{\"name\":\"b\",\"approval\":true}]",
              NULL);
    rig_devices(&rig, 100, "o", NULL, NULL);
    rig_tick(&rig, 10);
    for (uint32_t pair = 0; pair < 3; pair++) {
        assert_true(isinf(rollout_next_tick(rig.rollout)));
        rig_pair(&rig, 2 * pair, 2 * pair + 1, NULL);
        rig_outcome(&rig, 2 * pair, OUTCOME_HEALTHY);
        rig_outcome(&rig, 2 * pair + 1, OUTCOME_HEALTHY);
    }
    rig_tick(&rig, 3700);
    assert_int_equal(rig_view(&rig).stage_index, 0);
    rig_person(&rig, EVENT_APPROVE, "ann", NULL, NULL);
    assert_string_equal(rig_last(&rig, DECISION_OPEN)->stage, "b");
    rig_end(&rig);
}

static void a_slice_left_out_gets_no_permit_and_a_device_that_leaves_the_slice_does(void **state)
{
    static const struct rollout_attribute old[] = {{"kernel", "5.4"}, {"os", "linux"}};
    static const struct rollout_attribute acme[] = {{"organisation", "acme"}};
    static const struct rollout_slice excluded[] = {{old, 2}, {acme, 1}, {acme, 0}};
    struct rollout_attribute attributes[] = {{"os", "linux"}, {"kernel", "5.4"}};
    struct rollout_start start = {.rollout = "r",
                                  .release = "v1",
                                  .seed = RIG_SEED,
                                  .excluded = excluded,
                                  .excluded_count = 3};
    struct rollout_device device = {.id = "d", .organisation = "beta", .attributes = attributes};
    json_t *object = json_pack("{s:s, s:i}", "class", "routine", "harm_budget", 4);
    struct policy policy;
    struct rig rig = {0};

    assert_int_equal(policy_parse(object, &policy, &rig.error), 0);
    assert_int_equal(rollout_new(&policy, &start, &rig.rollout, &rig.error), -EINVAL);
    assert_non_null(strstr(rig.error.text, "excluded[2]"));
    start.excluded_count = 2;
    assert_int_equal(rollout_new(&policy, &start, &rig.rollout, &rig.error), 0);
    policy_free(&policy);
    json_decref(object);

    device.attribute_count = 2;
    rollout_device_add(rig.rollout, &device);
    assert_refused(rig_begin(&rig, 0), REASON_EXCLUDED);
    assert_int_equal(rig_last(&rig, DECISION_NO)->device, 0);
    attributes[1].value = "6.1";
    rollout_device_update(rig.rollout, 0, &device);
    assert_granted(rig_begin(&rig, 0));
    device.attribute_count = 1; /* it does not say which kernel */
    rollout_device_add(rig.rollout, &device);
    assert_granted(rig_begin(&rig, 1));
    device.organisation = "acme";
    rollout_device_add(rig.rollout, &device);
    assert_refused(rig_begin(&rig, 2), REASON_EXCLUDED);
    rig_end(&rig);
}

static void time_alone_opens_a_stage_before_the_event_that_brings_it(void **state)
{
    struct rig rig;
    rig_start(&rig, 25,
              "\"stages\":[{\"name\":\"a\",\"organisations\":[\"acme\"],\"min_time\":\"1h\"},"
              "{\"name\":\"b\"}]",
              NULL);
    rig_devices(&rig, 2, "other", NULL, NULL);
    assert_refused(rig_begin(&rig, 0), REASON_STAGE_ORGANISATION);
    assert_true(rollout_next_tick(rig.rollout) == 3600);
    rig.t = 3600;
    assert_granted(rig_begin(&rig, 0));
    rig_end(&rig);
}

static void no_stage_opens_while_the_rollout_is_paused(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "\"stages\":[{\"name\":\"a\",\"min_time\":\"1h\"},{\"name\":\"b\"}]", NULL);
    rig_tick(&rig, 1);
    rig_person(&rig, EVENT_PAUSE, "ann", NULL, NULL);
    rig_tick(&rig, 4000);
    assert_int_equal(rig_view(&rig).stage_index, 0);
    rig_person(&rig, EVENT_RESUME, "ann", NULL, NULL);
    assert_int_equal(rig_view(&rig).stage_index, 1);
    rig_end(&rig);
}

static void a_cap_of_devices_counts_releases_since_the_start(void **state)
{
    struct rig rig;
    rig_start(&rig, 100,
              "\"stages\":[{\"name\":\"four\",\"devices\":4},{\"name\":\"twelve\",\"devices\":12},"
              "{\"name\":\"all\"}]",
              NULL);
    rig_devices(&rig, 40, "o", NULL, NULL);
    unsigned granted = 0;
    for (uint32_t device = 0; device < 40; device++)
        granted += rig_granted(rig_begin(&rig, device));
    assert_int_equal(granted, 8);
    assert_int_equal(rig_view(&rig).permits, 4);
    assert_refused(rig_begin(&rig, 20), REASON_STAGE_FULL);
    /* The cap is also what has to settle, when nothing else is said; of the twelve, four have. */
    settle_all(&rig, 40);
    assert_int_equal(rig_view(&rig).stage_index, 1);
    for (uint32_t device = 0; device < 40; device++)
        rig_begin(&rig, device);
    assert_int_equal(rig_view(&rig).permits, 12);
    settle_all(&rig, 40);
    assert_int_equal(rig_view(&rig).stage_index, 2);
    rig_end(&rig);
}

static void a_stage_never_asks_for_more_than_the_fleet_can_give(void **state)
{
    struct rig rig;
    rig_start(&rig, 25,
              "\"organisation_share\":1,\"stages\":[{\"name\":\"internal\",\"organisations\":"
              "[\"acme\"],\"min_settled\":1000},{\"name\":\"broad\"}]",
              "acme=6,other=4");
    rig_devices(&rig, 6, "acme", NULL, NULL);
    rig_devices(&rig, 4, "other", NULL, NULL);
    rounds(&rig, 10, 3);
    assert_int_equal(rig_view(&rig).stage_index, 1);
    rounds(&rig, 10, 3);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_DONE);
    rig_end(&rig);
}

static void a_rollout_is_done_when_every_device_of_every_organisation_has_settled(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "\"organisation_share\":1", "a=5,b=6");
    rig_devices(&rig, 5, "a", NULL, NULL);
    rig_devices(&rig, 6, "b", NULL, NULL);
    for (int i = 0; i < 5 && rig_view(&rig).state == ROLLOUT_RUNNING; i++)
        rounds(&rig, 11, 1);
    assert_int_equal(rig_view(&rig).state, ROLLOUT_DONE);
    assert_int_equal(rig_view(&rig).settled, 11);
    assert_non_null(rig_any(&rig, DECISION_DONE));
    /* A device that enrols afterwards still gets it. */
    assert_granted(rig_begin(&rig, rig_devices(&rig, 1, "a", NULL, NULL)));
    rig_end(&rig);
}

static void a_rollout_starts_when_as_many_persons_as_its_policy_asks_for_approved(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "\"approvals\":{\"start\":2}", NULL);
    rig_devices(&rig, 1, "o", NULL, NULL);
    rig.t = 1;
    assert_refused(rig_begin(&rig, 0), REASON_NOT_STARTED);
    rig_person(&rig, EVENT_APPROVE, "ann", NULL, NULL);
    rig_person(&rig, EVENT_APPROVE, "ann", NULL, "start");
    assert_refused(rig_begin(&rig, 0), REASON_NOT_STARTED);
    rig_person(&rig, EVENT_APPROVE, "bob", NULL, "start");
    assert_non_null(rig_last(&rig, DECISION_OPEN));
    assert_granted(rig_begin(&rig, 0));
    rig_end(&rig);
}

static void a_pause_gives_no_permits_and_reverts_nothing(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "", NULL);
    rig_devices(&rig, 4, "o", NULL, NULL);
    rig_pair(&rig, 0, 1, NULL);
    rig_person(&rig, EVENT_PAUSE, "ann", NULL, NULL);
    const struct rollout_decision *pause = rig_last(&rig, DECISION_PAUSE);
    assert_int_equal(pause->because.alarm, ALARM_PERSON);
    assert_string_equal(pause->because.by, "ann");
    assert_string_equal(pause->because.reason, "a test");
    assert_refused(rig_begin(&rig, 2), REASON_PAUSED);
    rig_outcome(&rig, 0, OUTCOME_HEALTHY);
    assert_int_equal(rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 1}),
                     -EINVAL);
    rig_person(&rig, EVENT_RESUME, "bob", NULL, NULL);
    assert_int_equal(rig_last(&rig, DECISION_RESUME)->because.alarm, ALARM_PERSON);
    assert_granted(rig_begin(&rig, 2));
    rig_end(&rig);
}

static void a_hold_stops_one_organisation_and_nobody_else(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 2, "a", NULL, NULL);
    rig_devices(&rig, 2, "b", NULL, NULL);
    rig.t = 1;
    rig_person(&rig, EVENT_HOLD, "ann", "a", NULL);
    assert_refused(rig_begin(&rig, 0), REASON_HOLD);
    assert_granted(rig_begin(&rig, 2));
    assert_int_equal(rig_view(&rig).state, ROLLOUT_RUNNING);
    rig_person(&rig, EVENT_RESUME, "ann", "a", NULL);
    assert_granted(rig_begin(&rig, 0));
    rig_person(&rig, EVENT_PAUSE, "bob", "b", NULL);
    assert_refused(rig_begin(&rig, 3), REASON_HOLD);
    assert_granted(rig_begin(&rig, 1));
    rig_end(&rig);
}

static void after_a_halt_confirmed_devices_revert_one_of_a_group_at_a_time(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "\"placebo\":\"none\"", NULL);
    rig_devices(&rig, 2, "o", NULL, "web");
    rig_devices(&rig, 1, "o", NULL, NULL);
    rig.t = 1;
    for (uint32_t device = 0; device < 3; device++) {
        assert_granted(rig_begin(&rig, device));
        rig_outcome(&rig, device, OUTCOME_HEALTHY);
    }
    rig_person(&rig, EVENT_HALT, "ann", NULL, NULL);
    const struct rollout_event ask[2] = {{.type = EVENT_REVERT, .device = 0},
                                         {.type = EVENT_REVERT, .device = 1}};
    rig_event(&rig, &ask[0]);
    assert_int_equal(rig_last(&rig, DECISION_REVERT)->device, 0);
    rig_event(&rig, &ask[1]);
    assert_refused(rig_last(&rig, DECISION_WAIT), REASON_GROUP);
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 2});
    assert_non_null(rig_last(&rig, DECISION_REVERT));
    assert_true(rig_view(&rig).reverts_open == 2);
    /* The same again is the same permit. */
    rig_event(&rig, &ask[0]);
    assert_non_null(rig_last(&rig, DECISION_REVERT));
    assert_true(rig_view(&rig).reverts_open == 2);

    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERTED, .device = 0});
    assert_int_equal(rollout_device_state(rig.rollout, 0), DEVICE_REVERTED);
    rig_event(&rig, &ask[1]);
    assert_non_null(rig_last(&rig, DECISION_REVERT));
    rig_end(&rig);
}

static void a_revert_permit_lapses_after_five_minutes(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "\"placebo\":\"none\"", NULL);
    rig_devices(&rig, 2, "o", NULL, "web");
    rig.t = 1;
    for (uint32_t device = 0; device < 2; device++) {
        assert_granted(rig_begin(&rig, device));
        rig_outcome(&rig, device, OUTCOME_HEALTHY);
    }
    rig_person(&rig, EVENT_HALT, "ann", NULL, NULL);
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 0});
    rig.t = 300;
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 1});
    assert_non_null(rig_last(&rig, DECISION_WAIT));
    rig.t = 301;
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 1});
    assert_non_null(rig_last(&rig, DECISION_REVERT));
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 0});
    assert_non_null(rig_last(&rig, DECISION_WAIT));
    rig_end(&rig);
}

static void a_trial_of_the_group_makes_a_revert_wait(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "\"placebo\":\"none\"", NULL);
    rig_devices(&rig, 2, "o", NULL, "web");
    rig.t = 1;
    assert_granted(rig_begin(&rig, 0));
    rig_outcome(&rig, 0, OUTCOME_HEALTHY);
    assert_granted(rig_begin(&rig, 1));
    rig_person(&rig, EVENT_HALT, "ann", NULL, NULL);
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 0});
    assert_refused(rig_last(&rig, DECISION_WAIT), REASON_GROUP);
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 1});
    assert_non_null(rig_last(&rig, DECISION_REVERT)); /* it is the trial itself */
    rig_outcome(&rig, 1, OUTCOME_FAILED);
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERTED, .device = 1});
    rig_event(&rig, &(struct rollout_event){.type = EVENT_REVERT, .device = 0});
    assert_non_null(rig_last(&rig, DECISION_REVERT));
    rig_end(&rig);
}

static void a_device_that_regresses_counts_as_failed(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "\"placebo\":\"none\"", NULL);
    rig_devices(&rig, 1, "o", NULL, NULL);
    rig.t = 1;
    assert_granted(rig_begin(&rig, 0));
    rig_outcome(&rig, 0, OUTCOME_HEALTHY);
    assert_int_equal(rig_outcome(&rig, 0, OUTCOME_REGRESSED), 0);
    struct rollout_view view = rig_view(&rig);
    assert_int_equal(view.regressed, 1);
    assert_int_equal(view.failed, 1);
    assert_int_equal(view.healthy, 0);
    assert_int_equal(view.settled, 1);
    assert_int_equal(rollout_device_state(rig.rollout, 0), DEVICE_FAILED);
    assert_refused(rig_begin(&rig, 0), REASON_FAILED_BEFORE);
    rig_end(&rig);
}

static void every_reason_has_a_code_and_a_sentence(void **state)
{
    for (int reason = 0; reason < REASON_COUNT; reason++) {
        assert_true(strlen(rollout_reason_code((enum rollout_reason)reason)) > 2);
        const char *sentence = rollout_reason_sentence((enum rollout_reason)reason);
        assert_int_equal(sentence[strlen(sentence) - 1], '.');
    }
    assert_string_equal(rollout_alarm_code(ALARM_PROVEN_HARM), "proven-harm");
    assert_string_equal(rollout_alarm_code(ALARM_PERSON), "person");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_stage_opens_at_the_first_event),
        cmocka_unit_test(a_slice_left_out_gets_no_permit_and_a_device_that_leaves_the_slice_does),
        cmocka_unit_test(a_stage_opens_on_settled_evidence_time_and_approval),
        cmocka_unit_test(time_alone_opens_a_stage_before_the_event_that_brings_it),
        cmocka_unit_test(no_stage_opens_while_the_rollout_is_paused),
        cmocka_unit_test(a_cap_of_devices_counts_releases_since_the_start),
        cmocka_unit_test(a_stage_never_asks_for_more_than_the_fleet_can_give),
        cmocka_unit_test(a_rollout_is_done_when_every_device_of_every_organisation_has_settled),
        cmocka_unit_test(a_rollout_starts_when_as_many_persons_as_its_policy_asks_for_approved),
        cmocka_unit_test(a_pause_gives_no_permits_and_reverts_nothing),
        cmocka_unit_test(a_hold_stops_one_organisation_and_nobody_else),
        cmocka_unit_test(after_a_halt_confirmed_devices_revert_one_of_a_group_at_a_time),
        cmocka_unit_test(a_revert_permit_lapses_after_five_minutes),
        cmocka_unit_test(a_trial_of_the_group_makes_a_revert_wait),
        cmocka_unit_test(a_device_that_regresses_counts_as_failed),
        cmocka_unit_test(every_reason_has_a_code_and_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
