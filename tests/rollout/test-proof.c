/* The proof of split-1 repeated by simulation, through the whole engine: with a harmless release,
 * in a world as bad as it likes, e_0 reaches 40 with probability at most 1/40. */
#include "rig.h"
#include "world.h"

#include <stdlib.h>

#define ROLLOUTS 20000
#define EVIDENCE 40.0

static const char policy[] =
    "{\"class\":\"routine\",\"harm_budget\":40,\"alpha\":1e-6,\"soak\":600,\"deadline\":900,"
    "\"tolerance\":{\"cap\":0.59,\"ratio\":1000},\"strata\":[\"os\"]}";

static const struct world_plan storm = {
    .policy = policy,
    .devices = 160,
    .strata = 2,
    .organisations = 1,
    .asks_per_soak = 1,
    .noise = 0.04,
    .drift = 5,
    .crowding = 1,
    .dark = 0.5,
    .late = 0.1,
    .decline = 0.03,
    .interrupt = 0.03,
    .server_outages = true,
    .soaks_max = 40,
};

static bool log_at_least_reached(double log_split)
{
    return log_split >= log(EVIDENCE) - 1e-9;
}

static double share_of_alarms(const struct world_plan *plan, uint64_t seed, int rollouts)
{
    uint64_t events = 0, alarms = 0, tosses = 0;
    for (int i = 0; i < rollouts; i++) {
        struct world_result result;
        world_run(plan, seed + (uint64_t)i, &result);
        alarms += log_at_least_reached(result.sup_log_split);
        events += result.events;
        tosses += result.view.k_release + result.view.k_placebo;
    }
    double share = (double)alarms / rollouts;
    print_message("%d rollouts, %.1f events and %.1f tosses each: e_0 reached %g in %.2f %%\n",
                  rollouts, (double)events / rollouts, (double)tosses / rollouts, EVIDENCE,
                  100 * share);
    return share;
}

/* Observed over ROLLOUTS seeds that never change. With a true share at the bound of 2.5 % the
 * observed one has a standard error of 0.11 %, so what passes here is a true share below 2.8 % at
 * three standard errors; it is well below, because e_0 jumps over 40 and rollouts end. */
static void harmless_releases_in_a_storm_reach_evidence_of_40_in_at_most_one_of_40(void **state)
{
    assert_true(share_of_alarms(&storm, 1, ROLLOUTS) <= 0.025);
}

/* The same test must notice when partners are not treated alike: half of the placebos' failures
 * forgiven is no harm of the release, and looks like it. */
static void the_test_fails_when_partners_are_treated_differently(void **state)
{
    struct world_plan unfair = storm;
    unfair.kind = 0.5;
    assert_true(share_of_alarms(&unfair, 1, ROLLOUTS / 20) > 0.05);
}

static void a_release_that_harms_every_second_device_is_found_in_the_same_storm(void **state)
{
    struct world_plan harmful = storm;
    harmful.harm = 0.5;
    assert_true(share_of_alarms(&harmful, 1, ROLLOUTS / 100) > 0.3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(harmless_releases_in_a_storm_reach_evidence_of_40_in_at_most_one_of_40),
        cmocka_unit_test(the_test_fails_when_partners_are_treated_differently),
        cmocka_unit_test(a_release_that_harms_every_second_device_is_found_in_the_same_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
