/* Invariant 2 by simulation, through the whole engine: a harmless release is halted with
 * probability at most alpha whatever the fleet's own noise is, looked at after every single report;
 * and a release that does harm is still stopped in the same fleets. ROLLOUTS is set by the build: a
 * few in the fast suite, at least 10 000 a world in the slow one. */
#include "rig.h"
#include "world.h"

#include <stdlib.h>

#ifndef ROLLOUTS
#define ROLLOUTS 400
#endif
#define BREAKING (ROLLOUTS < 200 ? 40 : 200)

static const double noises[] = {1e-4, 0.01, 0.02, 0.03, 0.05, 0.1};

static const struct weather {
    const char *name;
    struct world_plan plan;
} weathers[] = {
    {"calm", {.drift = 0}},
    {"drift", {.drift = 5}},
    {"outages", {.dark = 0.2}},
    {"correlated", {.burst = 0.01, .crowding = 1}},
};

static void plan_init(struct world_plan *plan, char policy[static 512], double budget, double alpha)
{
    (void)snprintf(policy, 512,
                   "{\"class\":\"routine\",\"harm_budget\":%g,\"alpha\":%g,\"soak\":600,"
                   "\"deadline\":900,\"strata\":[\"os\"],\"organisation_share\":1}",
                   budget, alpha);
    plan->policy = policy;
    plan->devices = 300;
    plan->strata = 1;
    plan->organisations = 1;
    plan->asks_per_soak = 2;
    plan->soaks_max = 400;
}

static double share_of_halts(const struct weather *weather, double noise, double alpha,
                             unsigned rollouts)
{
    char policy[512];
    struct world_plan plan = weather->plan;
    unsigned halted = 0, paused = 0, finished = 0;
    plan.noise = plan.drift > 0 ? noise / 3 : noise; /* the same mean */
    plan_init(&plan, policy, 25, alpha);
    for (unsigned seed = 0; seed < rollouts; seed++) {
        struct world_result result;
        world_run(&plan, 1000003 * (uint64_t)seed + 7, &result);
        halted += result.view.state == ROLLOUT_HALTED;
        paused += result.paused;
        finished += result.finished;
    }
    print_message("alpha %-6g noise %5g %% %-10s halted %6.3f %%, paused %5.1f %%, finished "
                  "%5.1f %%\n",
                  alpha, 100 * noise, weather->name, 100.0 * halted / rollouts,
                  100.0 * paused / rollouts, 100.0 * finished / rollouts);
    return (double)halted / rollouts;
}

/* With a true share at the bound, the observed one passes in all but one of 700 worlds. */
static double allowed(double alpha, unsigned rollouts)
{
    return alpha + 3 * sqrt(alpha * (1 - alpha) / rollouts);
}

static void a_harmless_release_is_halted_with_probability_at_most_5_percent(void **state)
{
    bool held = true;
    for (size_t i = 0; i < sizeof weathers / sizeof *weathers; i++)
        for (size_t j = 0; j < sizeof noises / sizeof *noises; j++)
            held &=
                share_of_halts(&weathers[i], noises[j], 0.05, ROLLOUTS) <= allowed(0.05, ROLLOUTS);
    assert_true(held);
}

/* Four failures of the release and none of a placebo halt at once, as the design wants it, and a
 * noise far above the cap brings that about by itself in a rollout of a few hundred: there, and in
 * weather that breaks several devices at once, the bound is 1.5 %. */
static void at_an_alpha_of_1_in_10000_it_is_halted_as_rarely_below_the_cap(void **state)
{
    bool held = true;
    for (size_t i = 0; i < sizeof weathers / sizeof *weathers; i++)
        for (size_t j = 0; j < sizeof noises / sizeof *noises; j++)
            held &= share_of_halts(&weathers[i], noises[j], 1e-4, ROLLOUTS) <=
                    allowed(i == 0 && noises[j] <= 0.02 ? 1e-4 : 0.015, ROLLOUTS);
    assert_true(held);
}

static double mean_harmed(double budget, double noise, double harm, unsigned rollouts)
{
    char policy[512];
    struct world_plan plan = {.noise = noise, .harm = harm};
    double harmed = 0;
    unsigned halted = 0;
    plan_init(&plan, policy, budget, 1e-4);
    plan.devices = 8000;
    plan.asks_per_soak = 0.5;
    plan.soaks_max = 3000;
    for (unsigned seed = 0; seed < rollouts; seed++) {
        struct world_result result;
        world_run(&plan, 1000003 * (uint64_t)seed + 11, &result);
        harmed += (double)result.harmed;
        halted += result.view.state == ROLLOUT_HALTED;
    }
    print_message("H %2g noise %5g %% harm %5g %%: %7.1f harmed, %3.0f %% halted\n", budget,
                  100 * noise, 100 * harm, harmed / rollouts, 100.0 * halted / rollouts);
    return halted == rollouts ? harmed / rollouts : INFINITY;
}

static void
a_release_that_breaks_everything_is_stopped_at_about_the_budget_in_any_noise(void **state)
{
    bool held = true;
    for (size_t j = 0; j < sizeof noises / sizeof *noises; j++) {
        held &= mean_harmed(25, noises[j], 1, BREAKING / 4) <= 35;
        /* Where every tenth placebo fails, four failures are no proof: the coins need sixteen. */
        held &= mean_harmed(4, noises[j], 1, BREAKING) <= (noises[j] < 0.1 ? 11 : 20);
    }
    assert_true(held);
}

static void the_harm_of_smaller_failures(void **state)
{
    if (!getenv("MEASURE"))
        skip();
    static const double harms[] = {0.1, 0.02, 0.005};
    for (size_t i = 0; i < sizeof harms / sizeof *harms; i++)
        for (size_t j = 0; j < sizeof noises / sizeof *noises; j++)
            for (int small = 0; small < 2; small++)
                mean_harmed(small ? 4 : 25, noises[j], harms[i], 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_harmless_release_is_halted_with_probability_at_most_5_percent),
        cmocka_unit_test(at_an_alpha_of_1_in_10000_it_is_halted_as_rarely_below_the_cap),
        cmocka_unit_test(
            a_release_that_breaks_everything_is_stopped_at_about_the_budget_in_any_noise),
        cmocka_unit_test(the_harm_of_smaller_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
