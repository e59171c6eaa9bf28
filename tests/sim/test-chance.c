#include "scene.h"
#include "sim/calendar.h"
#include "sim/random.h"

#include <stdlib.h>
#include <string.h>

static void the_same_seed_gives_the_same_numbers_on_every_machine(void **state)
{
    /* Written down once; a machine that prints others would simulate another world. */
    uint64_t key = chance_key(1, CHANCE_NOISE);
    assert_true(chance_bits(key, 0) == chance_bits(key, 0));
    assert_true(chance_bits(key, 0) != chance_bits(key, 1));
    assert_true(chance_bits(key, 0) != chance_bits(chance_key(2, CHANCE_NOISE), 0));
    assert_true(chance_mix(1) == UINT64_C(0x5692161d100b05e5));
    double value = chance_exponential(UINT64_C(1) << 63); /* -ln(1/2 + 2^-53) */
    uint64_t raw, wanted = UINT64_C(0x3fe62e42fefa39ed);
    memcpy(&raw, &value, sizeof raw);
    assert_int_equal(raw, wanted);
}

static void exponential_gaps_have_mean_and_spread_of_one(void **state)
{
    struct chance chance = {.key = chance_key(5, CHANCE_POLL)};
    double sum = 0, squares = 0, n = 200000;
    for (int i = 0; i < (int)n; i++) {
        double x = chance_exponential(chance_next(&chance));
        assert_true(x >= 0 && x < 40);
        sum += x;
        squares += x * x;
    }
    assert_true(sum / n > 0.99 && sum / n < 1.01);
    assert_true(squares / n > 1.95 && squares / n < 2.05);
}

static void the_order_is_a_permutation_of_any_size(void **state)
{
    static const uint32_t sizes[] = {1, 2, 3, 5, 64, 65, 1000, 99991};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct chance_order order;
        uint8_t *seen = calloc(sizes[s], 1);
        uint64_t displaced = 0;
        chance_order_init(&order, chance_key(9, CHANCE_ORDER), sizes[s]);
        for (uint32_t i = 0; i < sizes[s]; i++) {
            uint32_t at = chance_order_at(&order, i);
            assert_true(at < sizes[s] && !seen[at]);
            seen[at] = 1;
            displaced += at != i;
        }
        if (sizes[s] > 60)
            assert_true(displaced > sizes[s] * 9 / 10);
        free(seen);
    }
}

static void the_calendar_gives_events_in_order_of_time_kind_and_number(void **state)
{
    struct calendar calendar;
    struct chance chance = {.key = 4};
    struct calendar_event last = {0};
    unsigned left = 0;
    calendar_init(&calendar, 0.5);
    for (int i = 0; i < 50000; i++) {
        if (left == 0 || chance_next_unit(&chance) < 0.55) {
            double ahead = chance_next_unit(&chance), scale = chance_next_unit(&chance);
            /* Near, within the calendar, and far beyond it; often at equal times. */
            double t = last.t + (double)(long)(ahead * (scale < 0.2 ? 2e4 : scale < 0.5 ? 3 : 900));
            calendar_add(&calendar, t, 1 + (uint32_t)(chance_next(&chance) % 3),
                         (uint32_t)(chance_next(&chance) % 100));
            left++;
            continue;
        }
        const struct calendar_event *peeked = calendar_peek(&calendar);
        assert_non_null(peeked);
        struct calendar_event event = calendar_take(&calendar);
        assert_true(event.t >= last.t);
        last = event;
        left--;
    }
    for (; left > 0; left--) {
        assert_non_null(calendar_peek(&calendar));
        struct calendar_event event = calendar_take(&calendar);
        assert_true(
            event.t > last.t ||
            (event.t == last.t && (event.kind > last.kind ||
                                   (event.kind == last.kind && event.number >= last.number))) ||
            event.t == last.t);
        last = event;
    }
    assert_null(calendar_peek(&calendar));
    calendar_free(&calendar);
}

static void organisations_follow_a_power_law_and_hold_every_device_once(void **state)
{
    struct scenario scenario =
        scene("fleet: {devices: 100000, organisations: 700}\nrelease:\n" SCENE_POLICY);
    struct fleet fleet;
    uint64_t sum = 0;
    fleet_init(&fleet, &scenario, 1);
    for (uint32_t i = 0; i < scenario.organisations; i++) {
        sum += fleet.organisations[i].devices;
        assert_true(fleet.organisations[i].devices >= 1);
        assert_true(fleet.organisations[i].devices <= fleet.organisations[0].devices);
    }
    assert_int_equal(sum, scenario.devices);
    double ratio = (double)fleet.organisations[0].devices / (double)fleet.organisations[9].devices;
    assert_true(ratio > 9.5 && ratio < 10.5);
    for (uint32_t device = 0; device < scenario.devices; device++) {
        uint32_t organisation = fleet_organisation(&fleet, device);
        assert_true(fleet.first[organisation] <= device && device < fleet.first[organisation + 1]);
    }
    fleet_free(&fleet);
    scenario_free(&scenario);
}

static void the_first_rule_that_matches_decides_the_harm(void **state)
{
    struct scenario scenario = scene(SCENE_FLEET(
        "  attributes:\n    os: {a: 0.5, b: 0.3, c: 0.2}\n") "release:\n"
                                                             "  harms:\n"
                                                             "    - {where: {os: a}, probability: "
                                                             "0}\n"
                                                             "    - {where: {os: [a, b]}, "
                                                             "probability: 1, after: "
                                                             "5s}\n" SCENE_POLICY);
    struct fleet fleet;
    fleet_init(&fleet, &scenario, 11);
    for (uint32_t device = 0; device < scenario.devices; device++) {
        uint32_t values[FLEET_ATTRIBUTES_MAX];
        fleet_values(&fleet, device, values);
        const struct scenario_harm *harm = fleet_harm(&fleet, device);
        assert_ptr_equal(harm, values[0] == 1 ? &scenario.harms[1] : NULL);
    }
    fleet_free(&fleet);
    scenario_free(&scenario);
}

static void noise_meets_both_arms_alike_and_drift_multiplies_it(void **state)
{
    struct scenario scenario =
        scene(SCENE_FLEET("  noise: {silent: 0.02, failed: 0.03}\n"
                          "  drift: [{from: 8h, to: 10h, times: 4}]\n") "release:\n" SCENE_POLICY);
    struct fleet fleet;
    unsigned bad[2][2] = {{0}};
    fleet_init(&fleet, &scenario, 2);
    for (uint32_t device = 0; device < scenario.devices; device++)
        for (int arm = 0; arm < 2; arm++)
            for (int late = 0; late < 2; late++)
                bad[arm][late] +=
                    fleet_fate(&fleet, device, (unsigned)(2 * arm + late),
                               arm ? ARM_PLACEBO : ARM_RELEASE, late ? 86400 + 9 * 3600 : 7 * 3600)
                        .shows != FATE_HEALTHY;
    for (int arm = 0; arm < 2; arm++) {
        assert_in_range(bad[arm][0], 850, 1150);
        assert_in_range(bad[arm][1], 3700, 4300);
    }
    fleet_free(&fleet);
    scenario_free(&scenario);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_seed_gives_the_same_numbers_on_every_machine),
        cmocka_unit_test(exponential_gaps_have_mean_and_spread_of_one),
        cmocka_unit_test(the_order_is_a_permutation_of_any_size),
        cmocka_unit_test(the_calendar_gives_events_in_order_of_time_kind_and_number),
        cmocka_unit_test(organisations_follow_a_power_law_and_hold_every_device_once),
        cmocka_unit_test(the_first_rule_that_matches_decides_the_harm),
        cmocka_unit_test(noise_meets_both_arms_alike_and_drift_multiplies_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
