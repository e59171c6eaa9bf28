#include "rig.h"

#include "base/buf.h"
#include "base/encode.h"

#include <string.h>

static void devices_asking_one_after_the_other_form_pairs_in_order(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 10, "o", NULL, NULL);
    for (uint32_t device = 0; device < 10; device++) {
        const struct rollout_decision *decision = rig_begin(&rig, device);
        assert_granted(decision);
        assert_int_equal(decision->pair, device / 2 + 1);
        assert_true(decision->deadline == 900);
    }
    assert_int_equal(rig_view(&rig).pairs_open, 5);
    rig_end(&rig);
}

static void the_coin_is_the_hash_of_the_seed_and_the_number_of_the_pair(void **state)
{
    struct rig rig;
    bool seen[2] = {false, false};
    rig_start(&rig, 100, "", NULL);
    rig_devices(&rig, 80, "o", NULL, NULL);
    for (uint32_t pair = 1; pair <= 40; pair++) {
        _cleanup_free_ char *text = xasprintf("maeslant coin v1\n%s\n%u", RIG_SEED, pair);
        uint8_t digest[SHA256_SIZE];
        sha256(text, strlen(text), digest);
        uint32_t first = 2 * (pair - 1);
        uint32_t release = rig_pair(&rig, first, first + 1, NULL);
        assert_int_equal(release == first, digest[0] & 1);
        seen[digest[0] & 1] = true;
    }
    assert_true(seen[0] && seen[1]);
    rig_end(&rig);
}

static void a_placebo_gets_the_release_outside_pairs_once_its_pair_has_closed(void **state)
{
    struct rig rig;
    uint32_t placebo;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 2, "o", NULL, NULL);
    uint32_t release = rig_pair(&rig, 0, 1, &placebo);

    assert_refused(rig_begin(&rig, placebo), REASON_OPEN_PERMIT);
    rig_outcome(&rig, placebo, OUTCOME_HEALTHY);
    assert_refused(rig_begin(&rig, placebo), REASON_PAIR_OPEN);
    rig_outcome(&rig, release, OUTCOME_HEALTHY);
    const struct rollout_decision *decision = rig_begin(&rig, placebo);
    assert_int_equal(decision->type, DECISION_PERMIT);
    assert_int_equal(decision->pair, 0);
    rig_outcome(&rig, placebo, OUTCOME_HEALTHY);
    assert_refused(rig_begin(&rig, placebo), REASON_ALREADY);
    assert_refused(rig_begin(&rig, release), REASON_ALREADY);
    assert_int_equal(rig_view(&rig).settled, 2);
    assert_int_equal(rig_view(&rig).placebo_settled, 1);
    rig_end(&rig);
}

static void
a_half_open_pair_closes_with_its_own_coin_when_its_first_device_has_settled(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 40, "o", NULL, NULL);
    uint64_t k_release = 0, k_placebo = 0;
    for (uint32_t device = 0; device < 20; device++) {
        const struct rollout_decision *decision = rig_begin(&rig, device);
        assert_granted(decision);
        assert_int_equal(decision->pair, device + 1);
        *(decision->arm == ARM_RELEASE ? &k_release : &k_placebo) += 1;
        assert_true(rig_view(&rig).window_used > 0);
        rig_outcome(&rig, device, OUTCOME_FAILED);
        struct rollout_view view = rig_view(&rig);
        assert_int_equal(view.pairs_open, 0);
        assert_true(view.window_used == 0);
        assert_int_equal(view.k_release, k_release);
        assert_int_equal(view.k_placebo, k_placebo);
        if (view.state != ROLLOUT_RUNNING)
            break;
    }
    assert_true(k_release > 0 && k_placebo > 0);
    rig_end(&rig);
}

static void only_the_first_failure_of_a_pair_counts_against_the_release(void **state)
{
    struct rig rig;
    uint32_t placebo;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 4, "o", NULL, NULL);

    uint32_t release = rig_pair(&rig, 0, 1, &placebo);
    rig_outcome(&rig, placebo, OUTCOME_FAILED);
    rig_outcome(&rig, release, OUTCOME_FAILED);
    assert_int_equal(rig_view(&rig).k_release, 0);
    assert_int_equal(rig_view(&rig).k_placebo, 1);

    release = rig_pair(&rig, 2, 3, &placebo);
    rig_outcome(&rig, release, OUTCOME_FAILED);
    rig_outcome(&rig, placebo, OUTCOME_FAILED);
    assert_int_equal(rig_view(&rig).k_release, 1);
    assert_int_equal(rig_view(&rig).k_placebo, 2);
    rig_end(&rig);
}

static void a_release_outside_pairs_is_no_toss(void **state)
{
    struct rig rig;
    uint32_t placebo;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 2, "o", NULL, NULL);
    uint32_t release = rig_pair(&rig, 0, 1, &placebo);
    rig_outcome(&rig, placebo, OUTCOME_HEALTHY);
    rig_outcome(&rig, release, OUTCOME_HEALTHY);
    assert_granted(rig_begin(&rig, placebo));
    rig_outcome(&rig, placebo, OUTCOME_FAILED);
    assert_int_equal(rig_view(&rig).failed, 1);
    assert_int_equal(rig_view(&rig).k_release, 0);
    assert_true(rig_view(&rig).log_split == 0 || fabs(rig_view(&rig).log_split) < 1e-12);
    rig_end(&rig);
}

static void a_declined_exposure_leaves_the_counts_as_if_it_had_never_begun(void **state)
{
    struct rig rig;
    uint32_t placebo;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 4, "o", NULL, NULL);
    uint32_t release = rig_pair(&rig, 0, 1, &placebo);
    rig_outcome(&rig, release, OUTCOME_DECLINED);
    struct rollout_view view = rig_view(&rig);
    assert_int_equal(view.permits, 0);
    assert_int_equal(view.in_flight, 0);
    assert_int_equal(view.declined, 1);
    assert_int_equal(rollout_device_state(rig.rollout, release), DEVICE_NEW);
    /* Its pair stays, with the room, until the other has settled. */
    assert_int_equal(view.pairs_open, 1);
    assert_true(view.window_used == 1);
    /* It may ask again, and then is the first of the next pair. */
    assert_int_equal(rig_begin(&rig, release)->pair, 2);
    rig_outcome(&rig, release, OUTCOME_DECLINED);
    rig_outcome(&rig, placebo, OUTCOME_HEALTHY);
    view = rig_view(&rig);
    assert_int_equal(view.pairs_open, 0);
    assert_true(view.window_used == 0);
    assert_true(view.log_e == 0); /* n = 0: nothing has begun */
    rig_end(&rig);
}

static void pairs_stay_within_a_stratum(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 2, "o", "os=a,engine=1", NULL);
    rig_devices(&rig, 2, "o", "os=b,engine=1", NULL);
    rig_devices(&rig, 2, "o", "os=a,engine=1,locale=nl", NULL); /* locale makes no stratum */
    assert_int_equal(rig_begin(&rig, 0)->pair, 1);
    assert_int_equal(rig_begin(&rig, 2)->pair, 2);
    assert_int_equal(rig_begin(&rig, 4)->pair, 1);
    assert_int_equal(rig_begin(&rig, 3)->pair, 2);
    assert_int_equal(rig_begin(&rig, 5)->pair, 3);
    rig_end(&rig);
}

static void without_placebos_there_are_no_pairs_and_alarm_a_alone_halts(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "\"placebo\":\"none\"", NULL);
    rig_devices(&rig, 25, "o", NULL, NULL);
    for (uint32_t device = 0; device < 25; device++) {
        const struct rollout_decision *decision = rig_begin(&rig, device);
        assert_int_equal(decision->type, DECISION_PERMIT);
        assert_int_equal(decision->pair, 0);
    }
    uint32_t failed = 0;
    while (rig_view(&rig).state == ROLLOUT_RUNNING)
        rig_outcome(&rig, failed++, OUTCOME_FAILED);
    const struct rollout_decision *halt = rig_last(&rig, DECISION_HALT);
    assert_non_null(halt);
    assert_int_equal(halt->because.alarm, ALARM_ABSOLUTE);
    assert_int_equal(halt->because.n, 25);
    assert_int_equal(halt->because.k, failed);
    assert_true(halt->because.tolerated == 0.01);
    assert_true(halt->because.log_e >= log(2e4));
    assert_string_equal(halt->because.slice, "all");
    assert_int_equal(halt->because.k_release, 0);
    rig_end(&rig);
}

/* The first partners of many pairs have reported, the second not yet: whatever the coins are, the
 * next device gets the same answer, at the same price, in the same stage. */
static void nothing_that_others_see_depends_on_the_coins_of_open_pairs(void **state)
{
    static const char digits[] = "0123456789abcdef";
    double used = -1, cost = -1;
    for (int variant = 0; variant < 16; variant++) {
        char seed[65] = RIG_SEED;
        struct rig rig;
        seed[5] = digits[variant];
        rig_start_seed(&rig, 6, "\"stages\":[{\"name\":\"a\",\"min_settled\":3},{\"name\":\"b\"}]",
                       NULL, seed);
        rig_devices(&rig, 20, "o", NULL, NULL);
        for (uint32_t device = 0; device < 12; device++)
            assert_granted(rig_begin(&rig, device));
        for (uint32_t device = 0; device < 12; device += 2)
            rig_outcome(&rig, device, device == 4 ? OUTCOME_DECLINED : OUTCOME_HEALTHY);
        struct rollout_view view = rig_view(&rig);
        if (variant == 0) {
            used = view.window_used;
            cost = view.cost;
        }
        assert_true(view.window_used == used && view.cost == cost && used == 6);
        assert_int_equal(view.stage_index, 0);
        assert_refused(rig_begin(&rig, 12), REASON_WINDOW);
        rig_end(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_asking_one_after_the_other_form_pairs_in_order),
        cmocka_unit_test(the_coin_is_the_hash_of_the_seed_and_the_number_of_the_pair),
        cmocka_unit_test(a_placebo_gets_the_release_outside_pairs_once_its_pair_has_closed),
        cmocka_unit_test(
            a_half_open_pair_closes_with_its_own_coin_when_its_first_device_has_settled),
        cmocka_unit_test(only_the_first_failure_of_a_pair_counts_against_the_release),
        cmocka_unit_test(a_release_outside_pairs_is_no_toss),
        cmocka_unit_test(a_declined_exposure_leaves_the_counts_as_if_it_had_never_begun),
        cmocka_unit_test(pairs_stay_within_a_stratum),
        cmocka_unit_test(without_placebos_there_are_no_pairs_and_alarm_a_alone_halts),
        cmocka_unit_test(nothing_that_others_see_depends_on_the_coins_of_open_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
