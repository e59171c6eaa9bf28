/* Invariant 9: one organisation can neither stop nor force the others. */
#include "rig.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

#define ORGANISATIONS 5
#define EACH 400

enum lie { LIE_NONE, LIE_FAILED, LIE_HEALTHY };

struct ending {
    struct rollout_view view;
    uint64_t harmed;
    char slice[64];
    enum rollout_alarm alarm;
    struct rollout_organisation_view list[ORGANISATIONS];
};

/* Organisation o0 lies about each of its devices that had the release. */
static struct ending run(uint64_t seed, double harm, enum lie lie, const char *policy)
{
    struct ending ending = {0};
    struct rig rig;
    uint64_t random = seed;
    char text[65];
    world_seed_text(seed, text);
    rig_start_seed(&rig, lie == LIE_HEALTHY && harm == 0.4 ? 400 : 25, policy,
                   "o0=400,o1=400,o2=400,o3=400,o4=400", text);
    for (uint32_t i = 0; i < ORGANISATIONS * EACH; i++) {
        char name[8] = {'o', (char)('0' + i % ORGANISATIONS)};
        rig_devices(&rig, 1, name, "os=linux", NULL);
    }
    for (uint32_t first = 0; first < ORGANISATIONS * EACH; first += 20) {
        rig.t += 60;
        for (int round = 0; round < 2; round++) {
            for (uint32_t i = first; i < first + 20; i++)
                rig_event(&rig, &(struct rollout_event){.type = EVENT_BEGIN, .device = i});
            for (uint32_t i = first; i < first + 20; i++) {
                enum rollout_device_state state = rollout_device_state(rig.rollout, i);
                if (state != DEVICE_IN_RELEASE && state != DEVICE_IN_PLACEBO)
                    continue;
                bool release = state == DEVICE_IN_RELEASE, liar = i % ORGANISATIONS == 0;
                bool fails = (release && world_unit(&random) < harm) || world_unit(&random) < 0.001;
                ending.harmed += fails && release;
                if (liar && lie != LIE_NONE && release)
                    fails = lie == LIE_FAILED;
                rig_outcome(&rig, i, fails ? OUTCOME_FAILED : OUTCOME_HEALTHY);
            }
        }
    }
    ending.view = rig_view(&rig);
    if (getenv("MEASURE"))
        print_message(
            "harm %g lie %d: state %d alarm %d, harmed %d, %d of %d, coins %d to %d, proven "
            "%d, window %g cost %g\n",
            harm, (int)lie, (int)ending.view.state, (int)ending.view.because.alarm,
            (int)ending.harmed, (int)ending.view.failed, (int)ending.view.settled,
            (int)ending.view.k_release, (int)ending.view.k_placebo, (int)ending.view.proven_harm,
            ending.view.window_used, ending.view.cost);
    ending.alarm = ending.view.because.alarm;
    (void)snprintf(ending.slice, sizeof ending.slice, "%s", ending.view.because.slice);
    assert_int_equal(rollout_organisations(rig.rollout, ending.list, ORGANISATIONS), ORGANISATIONS);
    for (int i = 0; i < ORGANISATIONS; i++)
        ending.list[i].name = NULL; /* they go with the rollout */
    rig_end(&rig);
    return ending;
}

static void one_that_cries_failed_pauses_and_calls_a_person_but_halts_nobody(void **state)
{
    unsigned paused = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct ending ending = run(seed, 0, LIE_FAILED, "\"quorum\":1,\"strata\":[\"os\"]");
        /* Where a device of others failed by itself as well, it is stopped without a pause. */
        assert_int_not_equal(ending.view.state, ROLLOUT_HALTED);
        if (ending.view.state == ROLLOUT_PAUSED) {
            assert_int_equal(ending.alarm, ALARM_ORGANISATION);
            assert_string_equal(ending.slice, "organisation=o0");
        }
        paused += ending.view.state == ROLLOUT_PAUSED;
        assert_true(ending.list[0].stopped);
        assert_true(ending.list[0].k <= 25);
        for (int i = 1; i < ORGANISATIONS; i++)
            assert_false(ending.list[i].stopped);
    }
    assert_true(paused >= 10);
}

static void one_that_says_healthy_hides_nothing_and_is_named(void **state)
{
    unsigned named = 0, halted = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct ending ending = run(seed, 1, LIE_HEALTHY, "\"quorum\":1,\"strata\":[\"os\"]");
        assert_int_equal(ending.view.state, ROLLOUT_HALTED);
        assert_true(ending.harmed <= 30);
        ending =
            run(seed, 0.1, LIE_HEALTHY, "\"quorum\":1,\"strata\":[\"os\"],\"on_halt\":\"keep\"");
        halted += ending.view.state == ROLLOUT_HALTED;
        assert_true(ending.harmed <= 80);
    }
    assert_true(halted >= 18);
    /* Where nothing halts, half of the others' devices fail and the liar's never do. */
    for (uint64_t seed = 0; seed < 5; seed++) {
        struct ending ending = run(seed, 0.4, LIE_HEALTHY,
                                   "\"quorum\":1,\"strata\":[\"os\"],\"alpha\":1e-3,\"tolerance\":{"
                                   "\"cap\":0.59,\"ratio\":1000}");
        named += ending.list[0].too_healthy;
        for (int i = 1; i < ORGANISATIONS; i++)
            assert_false(ending.list[i].too_healthy);
    }
    assert_int_equal(named, 5);
}

static void harm_that_all_see_halts_all_soon(void **state)
{
    double harmed = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct ending ending = run(seed, 1, LIE_NONE, "\"quorum\":1,\"strata\":[\"os\"]");
        assert_int_equal(ending.view.state, ROLLOUT_HALTED);
        assert_true(ending.harmed <= 30);
        harmed += (double)ending.harmed;
    }
    print_message("harmed until a quorum halts: %.1f\n", harmed / 20);
}

static void a_person_lets_the_others_go_on_and_the_accused_stays_stopped(void **state)
{
    struct rig rig;
    rig_start(&rig, 8, "\"strata\":[\"os\"],\"quorum\":1", "o0=100,o1=100");
    uint32_t first = rig_devices(&rig, 40, "o0", "os=linux", NULL);
    uint32_t others = rig_devices(&rig, 40, "o1", "os=linux", NULL);
    for (uint32_t at = first; rig_view(&rig).state == ROLLOUT_RUNNING; at += 2) {
        uint32_t placebo, release = rig_pair(&rig, at, at + 1, &placebo);
        rig_outcome(&rig, placebo, OUTCOME_HEALTHY);
        rig_outcome(&rig, release, OUTCOME_FAILED);
        assert_true(at < first + 30);
    }
    if (rig_view(&rig).because.alarm == ALARM_ENVIRONMENT) /* the check finds the world well */
        for (uint32_t i = others; i < others + 10; i++) {
            rig_begin(&rig, i);
            rig_outcome(&rig, i, OUTCOME_HEALTHY);
        }
    assert_int_equal(rig_view(&rig).state, ROLLOUT_PAUSED);
    assert_int_equal(rig_view(&rig).because.alarm, ALARM_ORGANISATION);
    assert_refused(rig_begin(&rig, others + 11), REASON_PAUSED);
    rig_person(&rig, EVENT_RESUME, "ann", NULL, NULL);
    assert_granted(rig_begin(&rig, others + 11));
    assert_refused(rig_begin(&rig, first + 39), REASON_HOLD);
    rig_end(&rig);
}

static void a_rollout_of_one_organisation_halts_at_once(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "", "o=8");
    rig_devices(&rig, 8, "o", NULL, NULL);
    uint32_t release[4];
    release[0] = rig_pair(&rig, 0, 1, NULL);
    rig_outcome(&rig, release[0], OUTCOME_FAILED);
    for (uint32_t i = 1; i < 4; i++) {
        for (uint32_t d = 0; d < 8; d++)
            if (rollout_device_state(rig.rollout, d) == DEVICE_IN_PLACEBO)
                rig_outcome(&rig, d, OUTCOME_HEALTHY);
        release[i] = rig_pair(&rig, 2 * i, 2 * i + 1, NULL);
        rig_outcome(&rig, release[i], OUTCOME_FAILED);
        if (rig_view(&rig).state != ROLLOUT_RUNNING)
            break;
    }
    assert_int_not_equal(rig_view(&rig).because.alarm, ALARM_ORGANISATION);
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_that_cries_failed_pauses_and_calls_a_person_but_halts_nobody),
        cmocka_unit_test(one_that_says_healthy_hides_nothing_and_is_named),
        cmocka_unit_test(harm_that_all_see_halts_all_soon),
        cmocka_unit_test(a_person_lets_the_others_go_on_and_the_accused_stays_stopped),
        cmocka_unit_test(a_rollout_of_one_organisation_halts_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
