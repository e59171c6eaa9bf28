#include "base/json.h"
#include "server/story.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define POLICY                                                                                     \
    "{\"class\": \"routine\", \"harm_budget\": 3, \"soak\": \"5s\", \"deadline\": \"20s\"}"
#define SEED "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static struct rollout *make(double t)
{
    struct rollout_start start = {.rollout = "r", .release = "x", .seed = SEED, .t = t};
    struct policy policy;
    struct rollout *fold = NULL;
    struct error error;
    json_t *value = NULL;

    assert_int_equal(json_parse(POLICY, sizeof POLICY - 1, &value, &error), 0);
    assert_int_equal(policy_parse(value, &policy, &error), 0);
    assert_int_equal(rollout_new(&policy, &start, &fold, &error), 0);
    policy_free(&policy);
    json_decref(value);
    return fold;
}

static void tick(struct story *story, struct rollout *fold, double t)
{
    struct rollout_event event = {.type = EVENT_TICK, .t = t, .device = UINT32_MAX};
    struct error error;

    story_figures(story, fold, 0, t);
    assert_int_equal(rollout_apply(fold, &event, NULL, NULL, &error), 0);
}

static double at(const json_t *points, size_t i)
{
    return json_number_value(json_object_get(json_array_get(points, i), "at")) / 1000;
}

static void a_long_story_keeps_its_beginning_and_its_end_in_bounded_space(void **state)
{
    struct rollout *fold = make(1000);
    struct story story = {0};
    double last = 1000;

    (void)state;
    for (int i = 0; i < 200000; i++)
        tick(&story, fold, last = 1000 + i * 0.7);
    json_t *points = story_points_json(&story, fold, 0, 0);
    size_t count = json_array_size(points);
    assert_in_range(count, STORY_POINTS / 2, STORY_POINTS + 1);
    assert_true(fabs(at(points, count - 1) - last) < 0.001);
    assert_true(at(points, 0) < 1000 + 2 * story.every);
    for (size_t i = 1; i < count; i++) {
        assert_true(at(points, i) > at(points, i - 1));
        assert_true(at(points, i) - at(points, i - 1) < 2 * story.every + 1);
    }
    json_decref(points);
    story_free(&story);
    rollout_free(fold);
}

static void only_what_is_newer_is_told_again(void **state)
{
    struct rollout *fold = make(1000);
    struct story story = {0};

    (void)state;
    for (int i = 1; i <= 100; i++)
        tick(&story, fold, 1000 + i);
    json_t *all = story_points_json(&story, fold, 0, 0);
    json_t *new = story_points_json(&story, fold, 0, 1090);
    json_t *none = story_points_json(&story, fold, 0, 1100);
    assert_int_equal(json_array_size(all), 100);
    assert_int_equal(json_array_size(new), 10);
    assert_true(at(new, 0) > 1090);
    assert_int_equal(json_array_size(none), 0);
    json_decref(all);
    json_decref(new);
    json_decref(none);
    story_free(&story);
    rollout_free(fold);
}

static void the_newest_failures_stay_newest_first(void **state)
{
    struct story story = {0};
    char device[16];

    (void)state;
    for (int i = 0; i < 3 * STORY_FAILURES; i++) {
        snprintf(device, sizeof device, "d%d", i);
        story_failure(&story, 1000 + i, device, "acme", "probe", ARM_RELEASE);
    }
    json_t *list = story_failures_json(&story);
    assert_int_equal(json_array_size(list), STORY_FAILURES);
    json_t *newest = json_array_get(list, 0), *oldest = json_array_get(list, STORY_FAILURES - 1);
    assert_string_equal(json_string_value(json_object_get(newest, "device")), "d149");
    assert_string_equal(json_string_value(json_object_get(oldest, "device")), "d100");
    json_decref(list);
    story_free(&story);
}

static void permits_are_no_moments_but_a_halt_is(void **state)
{
    struct rollout *fold = make(1000);
    struct story story = {0};
    struct rollout_decision permit = {.type = DECISION_PERMIT, .t = 1001, .stage = "all"};
    struct rollout_decision halt = {
        .type = DECISION_HALT,
        .t = 1002,
        .because = {.alarm = ALARM_PERSON, .by = "ann", .reason = "so"}};

    (void)state;
    story_decision(&story, fold, &permit);
    story_decision(&story, fold, &halt);
    json_t *list = story_moments_json(&story);
    assert_int_equal(json_array_size(list), 1);
    json_t *moment = json_array_get(list, 0), *because = json_object_get(moment, "because");
    assert_string_equal(json_string_value(json_object_get(moment, "decision")), "halt");
    assert_string_equal(json_string_value(json_object_get(because, "by")), "ann");
    assert_string_equal(json_string_value(json_object_get(because, "reason")), "so");
    for (int i = 0; i < 2 * STORY_MOMENTS; i++)
        story_decision(&story, fold, &halt);
    assert_int_equal(story.moment_count, STORY_MOMENTS);
    json_decref(list);
    story_free(&story);
    rollout_free(fold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_story_keeps_its_beginning_and_its_end_in_bounded_space),
        cmocka_unit_test(only_what_is_newer_is_told_again),
        cmocka_unit_test(the_newest_failures_stay_newest_first),
        cmocka_unit_test(permits_are_no_moments_but_a_halt_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
