/* The scenarios of examples/incidents come out as the words at their head say. argv: the folder,
 * and optionally "full" for fleets of their full size and several seeds. */
#include "scene.h"

#include "base/file.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static const char *folder;
static bool full;

/* What is looked at besides: nothing below is tuned to a seed. */
struct expected {
    const char *file;
    bool halted, completed;
    uint64_t harmed_most;
    double soaks_most;    /* until everybody has had the turn; 0: not said */
    double exposed_least; /* share of the fleet */
    const char *named;    /* in the sentence that says why */
};

static struct scenario load(const char *name, uint32_t devices)
{
    char path[600];
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct error error = ERROR_INIT;
    struct scenario scenario = {0};
    (void)snprintf(path, sizeof path, "%s/%s.yaml", folder, name);
    if (file_read(AT_FDCWD, path, 1 << 20, &text, &error) < 0 ||
        scenario_parse(text.data, text.len, &scenario, &error) < 0)
        fail_msg("%s: %s", name, error.text);
    if (!full && scenario.devices > devices) {
        scenario.organisations =
            (uint32_t)((uint64_t)scenario.organisations * devices / scenario.devices);
        scenario.devices = devices;
    }
    return scenario;
}

static void check(const struct expected *expected, const struct sim_result *result, double soak,
                  uint32_t devices, uint64_t seed)
{
    bool ok = result->halted == expected->halted && result->harmed <= expected->harmed_most &&
              (!expected->completed || !isnan(result->completed_at)) &&
              (expected->soaks_most == 0 || result->completed_at <= expected->soaks_most * soak) &&
              (double)result->exposed >= expected->exposed_least * devices &&
              (!expected->named || strstr(result->why, expected->named)) &&
              result->proven_harm <= result->harmed;
    if (!ok)
        fail_msg("%s, seed %llu: %llu exposed, %llu harmed, %s", expected->file,
                 (unsigned long long)seed, (unsigned long long)result->exposed,
                 (unsigned long long)result->harmed, result->why);
}

static void plays(const struct expected *expected, uint32_t devices)
{
    struct scenario scenario = load(expected->file, devices);
    struct fleet fleet;
    fleet_init(&fleet, &scenario, 1);
    for (uint64_t seed = 1; seed <= (full || expected->completed ? 1 : 5); seed++) {
        struct sim_result result;
        struct error error = ERROR_INIT;
        fleet_seed(&fleet, seed);
        if (sim_run(&fleet, STRATEGY_MAESLANT, seed, &result, NULL, NULL, &error) < 0)
            fail_msg("%s: %s", expected->file, error.text);
        check(expected, &result, scenario.policy.soak, scenario.devices, seed);
    }
    fleet_free(&fleet);
    scenario_free(&scenario);
}

static void crowdstrike_2024_harms_at_most_the_budget(void **state)
{
    plays(&(struct expected){.file = "2024-07-19-channel-file", .halted = true, .harmed_most = 25},
          8500000);
}

static void mcafee_2010_harms_at_most_the_budget(void **state)
{
    plays(&(struct expected){.file = "2010-04-21-dat-5958", .halted = true, .harmed_most = 25},
          2000000);
}

static void symantec_2007_is_found_by_its_slice(void **state)
{
    plays(&(struct expected){.file = "2007-05-18-chinese-windows",
                             .halted = true,
                             .harmed_most = 60,
                             .named = "locale=zh-CN"},
          1500000);
}

static void noise_of_one_in_ten_thousand_delays_nobody(void **state)
{
    plays(&(struct expected){.file = "noise-0.01-percent", .completed = true, .soaks_most = 35},
          200000);
}

static void noise_of_one_per_cent_halts_nothing(void **state)
{
    plays(&(struct expected){.file = "noise-1-percent", .completed = true}, 100000);
}

static void noise_of_five_per_cent_halts_nothing(void **state)
{
    plays(&(struct expected){.file = "noise-5-percent", .completed = true}, 40000);
}

static void a_slow_burn_is_seen(void **state)
{
    plays(&(struct expected){.file = "slow-burn", .halted = true, .harmed_most = full ? 150 : 200},
          8500000);
}

static void rare_hardware_is_found_by_its_slice(void **state)
{
    plays(&(struct expected){.file = "rare-hardware",
                             .halted = true,
                             .harmed_most = 50,
                             .named = "hardware=t14-gen3"},
          8500000);
}

static void harm_after_two_hours_is_evidence_too(void **state)
{
    plays(&(struct expected){.file = "late-harm", .halted = true, .harmed_most = UINT64_MAX},
          100000);
}

static void a_held_stage_contains_harm_after_two_hours(void **state)
{
    plays(&(struct expected){.file = "late-harm-staged", .halted = true, .harmed_most = 200},
          100000);
}

static void a_monday_morning_is_no_harm(void **state)
{
    plays(&(struct expected){.file = "monday-morning", .completed = true}, 100000);
}

static void a_liar_stops_nobody_but_itself(void **state)
{
    /* One device in thirty is the liar's own and waits. */
    plays(&(struct expected){.file = "liar-says-failed",
                             .exposed_least = 0.95,
                             .named = "o3 is stopped"},
          100000);
}

static void a_liar_hides_nothing_that_others_see(void **state)
{
    plays(&(struct expected){.file = "liar-says-healthy", .halted = true, .harmed_most = 60},
          1000000);
}

static void a_country_without_network_is_no_harm(void **state)
{
    plays(&(struct expected){.file = "country-offline", .completed = true}, 100000);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crowdstrike_2024_harms_at_most_the_budget),
        cmocka_unit_test(mcafee_2010_harms_at_most_the_budget),
        cmocka_unit_test(symantec_2007_is_found_by_its_slice),
        cmocka_unit_test(noise_of_one_in_ten_thousand_delays_nobody),
        cmocka_unit_test(noise_of_one_per_cent_halts_nothing),
        cmocka_unit_test(noise_of_five_per_cent_halts_nothing),
        cmocka_unit_test(a_slow_burn_is_seen),
        cmocka_unit_test(rare_hardware_is_found_by_its_slice),
        cmocka_unit_test(harm_after_two_hours_is_evidence_too),
        cmocka_unit_test(a_held_stage_contains_harm_after_two_hours),
        cmocka_unit_test(a_monday_morning_is_no_harm),
        cmocka_unit_test(a_liar_stops_nobody_but_itself),
        cmocka_unit_test(a_liar_hides_nothing_that_others_see),
        cmocka_unit_test(a_country_without_network_is_no_harm),
    };
    folder = argc > 1 ? argv[1] : "examples/incidents";
    full = argc > 2 && strcmp(argv[2], "full") == 0;
    if (argc > 3)
        cmocka_set_test_filter(argv[3]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
