#include "scene.h"

#include <string.h>

#define RELEASE "release:\n" SCENE_POLICY

static void assert_says(const char *text, const char *wanted)
{
    const char *said = scene_refused(text);
    if (!strstr(said, wanted))
        fail_msg("said: %s\nwanted: %s", said, wanted);
}

static void the_scenario_of_the_format_is_read_whole(void **state)
{
    struct scenario scenario = scene(
        "fleet:\n"
        "  devices: 8500000\n"
        "  organisations: 29000            # sizes: a power law\n"
        "  attributes:\n"
        "    os: {windows-11: 0.55, windows-10: 0.40, windows-7: 0.05}\n"
        "    engine: {\"7.11\": 0.97, \"7.10\": 0.03}\n"
        "  poll: 5m\n"
        "  online: 0.85\n"
        "  noise: {silent: 0.0008, failed: 0.0002}\n"
        "  drift: [{from: 8h, to: 10h, times: 5}]\n"
        "  outages: [{at: 2h, for: 30m, share: 0.2}]\n"
        "release:\n"
        "  harms:\n"
        "    - {where: {engine: \"7.11\"}, probability: 1.0, shows: silent, after: 20s, recovers: "
        "false}\n"
        "  policy: {class: routine, harm_budget: 25}\n"
        "liars: [{organisation: o3, says: failed, share: 1.0}]\n"
        "compare: [all-at-once, percent-stages, canary-threshold]\n");
    assert_int_equal(scenario.devices, 8500000);
    assert_int_equal(scenario.organisations, 29000);
    assert_int_equal(scenario.attribute_count, 2);
    assert_string_equal(scenario.attributes[1].values[0], "7.11");
    assert_true(scenario.poll == 300 && scenario.online == 0.85);
    assert_true(scenario.drifts[0].from == 28800 && scenario.drifts[0].times == 5);
    assert_true(scenario.outages[0].length == 1800 && scenario.outages[0].share == 0.2);
    assert_int_equal(scenario.harms[0].shows, SHOWS_SILENT);
    assert_true(scenario.harms[0].after == 20 && scenario.harms[0].where.count == 1);
    assert_int_equal(scenario.liars[0].organisation, 2);
    assert_true(scenario.compare[STRATEGY_ALL_AT_ONCE] &&
                scenario.compare[STRATEGY_CANARY_THRESHOLD] &&
                !scenario.compare[STRATEGY_FIXED_TEST]);
    assert_true(scenario.policy.harm_budget == 25);
    scenario_free(&scenario);
}

static void unknown_keys_are_refused_with_line_column_and_path(void **state)
{
    assert_says(SCENE_FLEET("  onlin: 0.85\n") RELEASE, "line 4, column ");
    assert_says(SCENE_FLEET("  onlin: 0.85\n") RELEASE, "fleet.onlin is not known here");
    assert_says(SCENE_FLEET("") RELEASE "extra: 1\n", "extra is not known here");
    assert_says(SCENE_FLEET("  noise: {silent: 0.1, loud: 0.1}\n") RELEASE, "fleet.noise.loud");
    assert_says(SCENE_FLEET("") "release:\n  policy: {class: routine, harm_budget: 25, hrm: 1}\n",
                "line 5, column ");
    assert_says(SCENE_FLEET("") "release:\n  policy: {class: routine, harm_budget: 25, hrm: 1}\n",
                "\"hrm\" is not known");
    assert_says(SCENE_FLEET("") "release:\n  harms: [{probabilty: 1}]\n" SCENE_POLICY,
                "release.harms[0].probabilty is not known");
}

static void shares_over_one_are_refused(void **state)
{
    assert_says(SCENE_FLEET("  attributes:\n    os: {a: 0.6, b: 0.5}\n") RELEASE,
                "line 5, column 9: fleet.attributes.os has shares that add up to 1.1");
    assert_says(SCENE_FLEET("  attributes:\n    os: {a: 1.6}\n") RELEASE,
                "fleet.attributes.os.a is 1.6: expected a share");
    assert_says(SCENE_FLEET("  online: 1.2\n") RELEASE, "fleet.online is 1.2");
    assert_says(SCENE_FLEET("  outages: [{at: 1h, for: 1m, share: 2}]\n") RELEASE,
                "fleet.outages[0].share is 2");
    assert_says(SCENE_FLEET("  attributes:\n    engine: {\"7.11\": -0.1}\n") RELEASE,
                "line 5, column ");
}

static void impossible_rates_are_refused(void **state)
{
    assert_says(SCENE_FLEET("  noise: {silent: 1.5}\n") RELEASE, "fleet.noise.silent is 1.5");
    assert_says(SCENE_FLEET("  noise: {silent: 0.6, failed: 0.6}\n") RELEASE,
                "fleet.noise has rates that add up to 1.2");
    assert_says(SCENE_FLEET("  noise: {failed: 0.3}\n  drift: [{from: 1h, to: 2h, times: 5}]\n")
                    RELEASE,
                "fleet.drift[0].times is 5");
    assert_says(SCENE_FLEET("  drift: [{from: 2h, to: 1h, times: 5}]\n") RELEASE,
                "fleet.drift[0].to is not after from");
    assert_says(SCENE_FLEET("") "release:\n  harms: [{probability: 1.1}]\n" SCENE_POLICY,
                "release.harms[0].probability is 1.1");
    assert_says(SCENE_FLEET("  poll: 0s\n") RELEASE, "fleet.poll is 0s");
    assert_says(SCENE_FLEET("  poll: 300\n") RELEASE, "fleet.poll is 300: expected a duration");
    assert_says("fleet: {devices: 10, organisations: 11}\n" RELEASE, "fleet.organisations is 11");
    assert_says("fleet: {devices: 0}\n" RELEASE, "fleet.devices is 0");
    assert_says(SCENE_FLEET("") "release:\n  policy: {class: routine, harm_budget: 0}\n",
                "release.policy.harm_budget");
}

static void names_that_nobody_has_are_refused(void **state)
{
    const char *fleet = SCENE_FLEET("  attributes:\n    os: {a: 1}\n");
    char text[600];
    (void)snprintf(text, sizeof text, "%srelease:\n  harms: [{where: {kernel: x}}]\n" SCENE_POLICY,
                   fleet);
    assert_says(text, "release.harms[0].where.kernel is no attribute");
    (void)snprintf(text, sizeof text, "%srelease:\n  harms: [{where: {os: b}}]\n" SCENE_POLICY,
                   fleet);
    assert_says(text, "release.harms[0].where.os is \"b\", which no device has");
    (void)snprintf(text, sizeof text, "%srelease:\n  harms: [{where: {os: 7.1}}]\n" SCENE_POLICY,
                   fleet);
    assert_says(text, "in quotes");
    assert_says(SCENE_FLEET("") RELEASE "liars: [{organisation: o51, says: failed}]\n",
                "expected o1 (the largest) to o50");
    assert_says(SCENE_FLEET("") RELEASE "liars: [{organisation: o1, says: maybe}]\n",
                "liars[0].says is \"maybe\"");
    assert_says(SCENE_FLEET("") RELEASE "compare: [at-once]\n",
                "compare[0] is \"at-once\": expected one of all-at-once, percent-stages");
}

static void what_is_missing_is_named(void **state)
{
    assert_says("release:\n" SCENE_POLICY, "has no fleet");
    assert_says("fleet: {devices: 10}\n", "has no release");
    assert_says("fleet: {devices: 10}\nrelease: {}\n", "release has no policy");
    assert_says("fleet: {organisations: 10}\n" RELEASE, "fleet has no devices");
    assert_says("[]\n", "expected a mapping");
    assert_says("a: [\n", "line ");
}

static void a_given_attribute_has_shares_for_each_value_of_the_other(void **state)
{
    struct scenario scenario = scene(SCENE_FLEET("  attributes:\n"
                                                 "    os: {linux: 0.5, windows: 0.5}\n"
                                                 "    kernel:\n"
                                                 "      given: os\n"
                                                 "      linux: {\"6.1\": 0.25, \"5.10\": 0.75}\n"
                                                 "      otherwise: {nt: 1}\n") RELEASE);
    struct fleet fleet;
    unsigned tux = 0, old = 0, nt = 0;
    fleet_init(&fleet, &scenario, 7);
    for (uint32_t device = 0; device < scenario.devices; device++) {
        uint32_t values[FLEET_ATTRIBUTES_MAX];
        fleet_values(&fleet, device, values);
        const char *os = scenario.attributes[0].values[values[0]];
        const char *kernel = scenario.attributes[1].values[values[1]];
        assert_int_equal(strcmp(os, "windows") == 0, strcmp(kernel, "nt") == 0);
        tux += strcmp(os, "linux") == 0;
        old += strcmp(kernel, "5.10") == 0;
        nt += strcmp(kernel, "nt") == 0;
    }
    assert_int_equal(tux + nt, scenario.devices);
    assert_in_range(tux, 9700, 10300);
    assert_in_range(old, 7250, 7750);
    fleet_free(&fleet);
    scenario_free(&scenario);

    assert_says(SCENE_FLEET("  attributes:\n    a: {given: b, x: {y: 1}}\n    b: {x: 1}\n") RELEASE,
                "fleet.attributes.a.given names no attribute above this one");
    assert_says(SCENE_FLEET("  attributes:\n    b: {x: 1}\n    a: {given: b, z: {y: 1}}\n") RELEASE,
                "fleet.attributes.a.z is no value of b");
}

static void shares_below_one_leave_devices_without_the_attribute(void **state)
{
    struct scenario scenario =
        scene(SCENE_FLEET("  attributes:\n    tpm: {\"2.0\": 0.25}\n") RELEASE);
    struct fleet fleet;
    unsigned without = 0;
    fleet_init(&fleet, &scenario, 3);
    for (uint32_t device = 0; device < scenario.devices; device++) {
        uint32_t values[FLEET_ATTRIBUTES_MAX];
        fleet_values(&fleet, device, values);
        without += values[0] == 1;
    }
    assert_in_range(without, 14700, 15300);
    fleet_free(&fleet);
    scenario_free(&scenario);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_scenario_of_the_format_is_read_whole),
        cmocka_unit_test(unknown_keys_are_refused_with_line_column_and_path),
        cmocka_unit_test(shares_over_one_are_refused),
        cmocka_unit_test(impossible_rates_are_refused),
        cmocka_unit_test(names_that_nobody_has_are_refused),
        cmocka_unit_test(what_is_missing_is_named),
        cmocka_unit_test(a_given_attribute_has_shares_for_each_value_of_the_other),
        cmocka_unit_test(shares_below_one_leave_devices_without_the_attribute),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
