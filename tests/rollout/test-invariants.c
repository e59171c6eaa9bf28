/* Invariants of DESIGN §3 that the engine alone can keep or break; each test tries to break its. */
#include "rig.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

static const char strict[] = "{\"class\":\"routine\",\"harm_budget\":%g,\"alpha\":%g,\"soak\":600,"
                             "\"deadline\":900,\"strata\":[\"os\"],\"organisation_share\":1}";

static void invariant_2_no_more_than_the_budget_is_exposed_before_any_evidence(void **state)
{
    char policy[512];
    double total_harmed = 0, total_budget = 0;
    for (uint64_t seed = 0; seed < 300; seed++) {
        double budget = 1 + (double)(seed % 7) * 1.5;
        snprintf(policy, sizeof policy, strict, budget, 1e-4);
        struct world_plan plan = {
            .policy = policy,
            .devices = 200,
            .strata = 1 + (unsigned)(seed % 4),
            .organisations = 1,
            .asks_per_soak = 10,
            .harm = 1,
            .soaks_max = 50,
        };
        struct world_result result;
        world_run(&plan, seed, &result);
        assert_true(result.exposed_before_evidence <= (uint64_t)budget);
        assert_int_equal(result.view.state, ROLLOUT_HALTED);
        /* Reports come one by one, and room that came back was given away again meanwhile. */
        assert_true(result.harmed <= (uint64_t)budget + 5);
        total_harmed += (double)result.harmed;
        total_budget += floor(budget);
    }
    print_message("harmed by a release that breaks everything: %.2f of the budget\n",
                  total_harmed / total_budget);
    assert_true(total_harmed <= 1.5 * total_budget);
}

static void invariant_2_more_than_the_budget_proven_harmed_is_always_halted(void **state)
{
    static const double harms[] = {0.02, 0.1, 0.5};
    char policy[512];
    for (uint64_t seed = 0; seed < 60; seed++) {
        snprintf(policy, sizeof policy, strict, 4.0, 1e-3);
        struct world_plan plan = {
            .policy = policy,
            .devices = 3000,
            .strata = 1,
            .organisations = 1,
            .asks_per_soak = 4,
            .noise = 0.001,
            .harm = harms[seed % 3],
            .soaks_max = 300,
        };
        struct world_result result;
        world_run(&plan, seed, &result);
        /* What is proven is true, and past the budget it has halted. */
        assert_true(result.view.proven_harm <= result.harmed);
        assert_true(result.view.proven_harm <= 5);
        if (result.view.proven_harm > 4 || seed % 3 > 0)
            assert_int_equal(result.view.state, ROLLOUT_HALTED);
    }
}

/* A world that is well but noisy: at alpha = 10 % nothing near a tenth of the harmless releases is
 * halted, and with spells in which a fifth of the fleet is dark none is. */
static void invariant_2_a_harmless_release_is_rarely_halted(void **state)
{
    static const struct world_plan worlds[] = {
        {.noise = 0.005},
        {.noise = 0.002, .drift = 5},
        {.noise = 0.002, .dark = 0.2},
        {.noise = 0.002, .late = 0.01, .decline = 0.05, .interrupt = 0.05, .server_outages = true},
    };
    char policy[512];
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        struct world_plan plan = worlds[i];
        unsigned halted = 0, finished = 0;
        snprintf(policy, sizeof policy, strict, 25.0, 1e-4);
        plan.policy = policy;
        plan.devices = 800;
        plan.strata = 2;
        plan.organisations = 1;
        plan.asks_per_soak = 2;
        plan.soaks_max = 300;
        for (uint64_t seed = 0; seed < 150; seed++) {
            struct world_result result;
            world_run(&plan, seed, &result);
            halted += result.view.state == ROLLOUT_HALTED;
            finished += result.finished;
        }
        print_message("world %zu: %u of 150 halted, %u finished\n", i, halted, finished);
        assert_true(halted <= 1);
        assert_true(finished >= 149);
    }
}

static void invariant_3_whoever_says_nothing_has_failed(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 50, "o", NULL, NULL);
    for (uint32_t device = 0; device < 50; device++)
        assert_granted(rig_begin(&rig, device));
    for (uint32_t device = 0; device < 50; device++)
        if (rollout_device_state(rig.rollout, device) == DEVICE_IN_PLACEBO)
            rig_outcome(&rig, device, OUTCOME_HEALTHY);
    rig_tick(&rig, 900);
    struct rollout_view view = rig_view(&rig);
    assert_int_equal(view.silent, 25);
    assert_int_equal(view.failed, 25);
    assert_int_equal(view.state, ROLLOUT_HALTED);
    assert_int_equal(view.in_flight, 0);
    rig_end(&rig);
}

static void invariant_3_the_servers_own_downtime_is_not_silence(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 50, "o", NULL, NULL);
    rig.t = 1;
    for (uint32_t device = 0; device < 50; device++)
        assert_granted(rig_begin(&rig, device));
    double down = 500;
    for (int outage = 0; outage < 20; outage++, down += 2001) {
        assert_int_equal(rig_event(&rig, &(struct rollout_event){.t = down + 2000,
                                                                 .type = EVENT_OUTAGE,
                                                                 .from = down,
                                                                 .to = down + 2000}),
                         0);
        rig_tick(&rig, down + 2001);
    }
    assert_null(rig_any(&rig, DECISION_SILENT));
    for (uint32_t device = 0; device < 50; device++)
        assert_int_equal(rig_outcome(&rig, device, OUTCOME_HEALTHY), 0);
    assert_int_equal(rig_view(&rig).healthy, 25);
    rig_end(&rig);
}

static void invariant_4_after_a_halt_nothing_but_reverts_is_granted(void **state)
{
    for (uint64_t seed = 1; seed < 200; seed++) {
        struct rig rig;
        uint64_t random = seed;
        rig_start(&rig, 10, "\"stages\":[{\"name\":\"a\",\"min_time\":60},{\"name\":\"b\"}]", NULL);
        rig_devices(&rig, 60, "o", NULL, NULL);
        rig.t = 1;
        for (uint32_t device = 0; device < 12; device++)
            rig_begin(&rig, device);
        for (uint32_t device = 0; device < 6; device++)
            rig_outcome(&rig, device, OUTCOME_HEALTHY);
        rig_person(&rig, EVENT_HALT, "ann", NULL, NULL);
        assert_non_null(rig_last(&rig, DECISION_HALT));
        size_t mark = rig.count;
        for (int i = 0; i < 200; i++) {
            struct rollout_event event = {
                .t = rig.t + 50 * world_unit(&random),
                .type = (enum rollout_event_type)(world_random(&random) % (EVENT_REVERTED + 1)),
                .device = (uint32_t)(world_random(&random) % 60),
                .outcome = (enum rollout_outcome)(world_random(&random) % 5),
                .by = "bob",
                .organisation = world_random(&random) % 2 ? "o" : NULL,
                .from = rig.t,
                .to = rig.t + 10,
            };
            (void)rig_event(&rig, &event);
        }
        for (size_t i = mark; i < rig.count; i++) {
            enum rollout_decision_type type = rig.decisions[i].type;
            assert_true(type == DECISION_NO || type == DECISION_REVERT || type == DECISION_WAIT ||
                        type == DECISION_SILENT);
            if (type == DECISION_NO)
                assert_int_equal(rig.decisions[i].reason, REASON_HALTED);
        }
        assert_int_equal(rig_view(&rig).state, ROLLOUT_HALTED);
        rig_end(&rig);
    }
}

static void invariant_4_the_halt_falls_at_the_very_event_that_proves_it(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "", NULL);
    rig_devices(&rig, 8, "o", NULL, NULL);
    uint32_t release[4];
    for (uint32_t i = 0; i < 4; i++)
        release[i] = rig_pair(&rig, 2 * i, 2 * i + 1, NULL);
    for (uint32_t i = 0; i < 4; i++) {
        rig.t = 10 + i;
        rig_outcome(&rig, release[i], OUTCOME_FAILED);
        assert_int_equal(rig_last(&rig, DECISION_HALT) != NULL, i == 3);
    }
    assert_true(rig_last(&rig, DECISION_HALT)->t == 13);
    assert_true(rig_view(&rig).halted_at == 13);
    rig_end(&rig);
}

static void invariant_8_the_same_events_give_the_same_decisions(void **state)
{
    uint8_t one[32], two[32];
    struct rig rig, again;
    uint64_t random = 99;
    const char *members = "\"stages\":[{\"name\":\"a\",\"min_settled\":5},{\"name\":\"b\"}]";
    rig_start(&rig, 10, members, NULL);
    rig_start(&again, 10, members, NULL);
    rig_devices(&rig, 60, "o", "os=a", NULL);
    rig_devices(&rig, 60, "p", "os=b", "web");
    rig_devices(&again, 60, "o", "os=a", NULL);
    rig_devices(&again, 60, "p", "os=b", "web");
    rig.t = 1;
    for (int i = 0; i < 5000; i++) {
        uint64_t kind = world_random(&random) % 100;
        struct rollout_event event = {
            .t = rig.t + 20 * world_unit(&random),
            .type = kind < 45   ? EVENT_BEGIN
                    : kind < 94 ? EVENT_OUTCOME
                    : kind < 97 ? EVENT_TICK
                    : kind < 98 ? EVENT_PAUSE
                                : EVENT_RESUME,
            .device = (uint32_t)(world_random(&random) % 120),
            .outcome = world_random(&random) % 9 ? OUTCOME_HEALTHY : OUTCOME_FAILED,
            .by = "ann",
        };
        (void)rig_event(&rig, &event);
    }
    for (size_t i = 0; i < rig.event_count; i++)
        (void)rig_event(&again, &rig.events[i]);
    rollout_fingerprint(rig.rollout, one);
    rollout_fingerprint(again.rollout, two);
    assert_memory_equal(one, two, 32);
    assert_int_equal(rig.count, again.count);
    for (size_t i = 0; i < rig.count; i++) {
        const struct rollout_decision *a = &rig.decisions[i], *b = &again.decisions[i];
        assert_true(a->t == b->t && a->type == b->type && a->device == b->device &&
                    a->pair == b->pair && a->reason == b->reason && a->deadline == b->deadline &&
                    a->because.log_e == b->because.log_e);
    }
    rig_end(&rig);
    rig_end(&again);
}

/* The digest of a fixed rollout. It changes when the rules change, and then on purpose; it must not
 * change with the compiler, its version or its options. */
static void invariant_8_every_compiler_computes_the_same_state(void **state)
{
    struct rig rig;
    uint8_t digest[32];
    char text[65];
    uint64_t random = 7;
    rig_start(&rig, 6.5, "\"tolerance\":{\"cap\":0.1},\"deadline\":\"10h\"", NULL);
    rig_devices(&rig, 200, "o", "os=a", NULL);
    rig_devices(&rig, 200, "o", "os=b", NULL);
    rig.t = 1;
    for (int i = 0; i < 8000; i++) {
        /* Drawn one by one: the order of evaluation is not left to the compiler. */
        bool asks = world_random(&random) % 2, fails = world_random(&random) % 60 == 0;
        uint32_t device = (uint32_t)(world_random(&random) % 400);
        (void)rig_event(&rig, &(struct rollout_event){
                                  .t = rig.t + 5 * world_unit(&random),
                                  .type = asks ? EVENT_BEGIN : EVENT_OUTCOME,
                                  .device = device,
                                  .outcome = fails ? OUTCOME_FAILED : OUTCOME_HEALTHY,
                              });
    }
    rollout_fingerprint(rig.rollout, digest);
    for (int i = 0; i < 32; i++)
        snprintf(text + 2 * i, 3, "%02x", digest[i]);
    assert_true(rig_view(&rig).settled > 100);
    assert_string_equal(text, "ac7758c2dbfd0ae80aa12b74d7d954ce813b93bb878f9c7fbd7b64f3542c8cad");
    rig_end(&rig);
}

/* Part f of the demo: a third of both arms drops off the network while a harmless release spreads
 * over 24 devices in stages of 4, 12 and all. */
static void invariant_10_a_third_of_both_arms_going_dark_stops_no_harmless_release(void **state)
{
    static const char policy[] =
        "{\"class\":\"routine\",\"harm_budget\":4,\"soak\":5,\"deadline\":20,\"strata\":[\"os\"],"
        "\"stages\":[{\"name\":\"four\",\"devices\":4},{\"name\":\"twelve\",\"devices\":12},"
        "{\"name\":\"all\"}]}";
    unsigned halted = 0, finished = 0;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        struct world_plan plan = {
            .policy = policy,
            .devices = 24,
            .strata = 1,
            .organisations = 1,
            .asks_per_soak = 25,
            .drop_at = 0.5 + (double)(seed % 40) / 4,
            .soaks_max = 400,
        };
        struct world_result result;
        world_run(&plan, seed, &result);
        halted += result.view.state == ROLLOUT_HALTED;
        finished += result.finished;
    }
    print_message("%u of 1000 halted, %u finished\n", halted, finished);
    assert_true(halted <= 10);
    assert_true(finished >= 990);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(invariant_2_no_more_than_the_budget_is_exposed_before_any_evidence),
        cmocka_unit_test(invariant_2_more_than_the_budget_proven_harmed_is_always_halted),
        cmocka_unit_test(invariant_2_a_harmless_release_is_rarely_halted),
        cmocka_unit_test(invariant_3_whoever_says_nothing_has_failed),
        cmocka_unit_test(invariant_3_the_servers_own_downtime_is_not_silence),
        cmocka_unit_test(invariant_4_after_a_halt_nothing_but_reverts_is_granted),
        cmocka_unit_test(invariant_4_the_halt_falls_at_the_very_event_that_proves_it),
        cmocka_unit_test(invariant_8_the_same_events_give_the_same_decisions),
        cmocka_unit_test(invariant_8_every_compiler_computes_the_same_state),
        cmocka_unit_test(invariant_10_a_third_of_both_arms_going_dark_stops_no_harmless_release),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
