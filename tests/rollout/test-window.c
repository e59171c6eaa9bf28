#include "rig.h"

#include "base/buf.h"
#include "base/encode.h"

#include <string.h>

/* Everybody asks; returns how many were granted. */
static unsigned ask_all(struct rig *rig, uint32_t first, uint32_t count)
{
    unsigned granted = 0;
    for (uint32_t device = first; device < first + count; device++)
        granted += rig_granted(rig_begin(rig, device));
    return granted;
}

static void answer_all(struct rig *rig, uint32_t first, uint32_t count,
                       enum rollout_outcome outcome)
{
    for (uint32_t device = first; device < first + count; device++) {
        enum rollout_device_state now = rollout_device_state(rig->rollout, device);
        if (now == DEVICE_IN_RELEASE || now == DEVICE_IN_PLACEBO)
            rig_outcome(rig, device, outcome);
    }
}

static void with_no_evidence_no_more_than_the_whole_devices_of_the_budget_are_exposed(void **state)
{
    const double budgets[] = {1, 1.999999, 2.5, 4, 25};
    for (size_t i = 0; i < 5; i++) {
        struct rig rig;
        rig_start(&rig, budgets[i], "", NULL);
        rig_devices(&rig, 100, "o", "os=a", NULL);
        rig_devices(&rig, 100, "o", "os=b", NULL);
        ask_all(&rig, 0, 200);
        assert_int_equal(rig_view(&rig).permits, (uint64_t)budgets[i]);
        assert_int_equal(rig_view(&rig).placebos, (uint64_t)budgets[i]);
        assert_refused(rig_begin(&rig, 99), REASON_WINDOW);
        rig_end(&rig);
    }
}

static void room_is_given_back_when_both_partners_have_settled(void **state)
{
    struct rig rig;
    uint32_t placebo;
    rig_start(&rig, 1, "", NULL);
    rig_devices(&rig, 3, "o", NULL, NULL);
    uint32_t release = rig_pair(&rig, 0, 1, &placebo);
    rig_outcome(&rig, release, OUTCOME_HEALTHY);
    assert_refused(rig_begin(&rig, 2), REASON_WINDOW);
    rig_outcome(&rig, placebo, OUTCOME_HEALTHY);
    assert_granted(rig_begin(&rig, 2));
    rig_end(&rig);
}

static void clean_soaks_make_permits_cheaper_and_the_window_grows_by_itself(void **state)
{
    struct rig rig;
    uint64_t last = 0;
    int soak = 0;
    rig_start(&rig, 4, "", NULL);
    rig_devices(&rig, 4000, "o", NULL, NULL);
    for (; rig_view(&rig).settled < 4000 && soak < 40; soak++) {
        ask_all(&rig, 0, 4000);
        struct rollout_view view = rig_view(&rig);
        if (view.settled + view.in_flight < 1500) /* enough left that have not had their turn */
            assert_true(view.in_flight >= last);
        assert_true(view.window_used <= 4 + 1e-9);
        last = view.in_flight;
        answer_all(&rig, 0, 4000, OUTCOME_HEALTHY);
    }
    assert_in_range(soak, 5, 25);
    assert_true(rig_view(&rig).cost < 0.01);
    rig_end(&rig);
}

static void a_new_stratum_is_expensive_however_well_the_others_do(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "", NULL);
    rig_devices(&rig, 2000, "o", "os=a", NULL);
    rig_devices(&rig, 100, "o", "os=b", NULL);
    for (int i = 0; i < 6; i++) {
        ask_all(&rig, 0, 2000);
        answer_all(&rig, 0, 2000, OUTCOME_HEALTHY);
    }
    assert_true(rig_view(&rig).cost < 0.5);
    rig.t += 1000;                                 /* nobody else waits */
    assert_int_equal(ask_all(&rig, 2000, 100), 8); /* four pairs at a whole device each */
    assert_true(rig_view(&rig).window_used == 4);
    rig_end(&rig);
}

static void strata_that_wait_share_the_budget_in_equal_parts(void **state)
{
    struct rig rig;
    rig_start(&rig, 4, "", NULL);
    rig_devices(&rig, 100, "o", "os=a", NULL);
    rig_devices(&rig, 100, "o", "os=b", NULL);
    /* The first stratum takes all there is; then both wait. */
    assert_int_equal(ask_all(&rig, 0, 100), 8);
    assert_refused(rig_begin(&rig, 100), REASON_WINDOW);
    /* As room comes back, it is the other's until it has its half. */
    for (uint32_t pair = 0; pair < 2; pair++) {
        answer_all(&rig, 2 * pair, 2, OUTCOME_HEALTHY);
        assert_refused(rig_begin(&rig, 50), REASON_WINDOW);
        assert_granted(rig_begin(&rig, 100 + 2 * pair));
        assert_granted(rig_begin(&rig, 101 + 2 * pair));
        rig_begin(&rig, 150);
    }
    /* Now each has its half, and the next room goes to whoever asks first. */
    answer_all(&rig, 4, 2, OUTCOME_HEALTHY);
    assert_granted(rig_begin(&rig, 50));
    rig_end(&rig);
}

static void a_stratum_that_stopped_asking_is_not_waited_for(void **state)
{
    struct rig rig;
    rig_start(&rig, 2, "", NULL);
    rig_devices(&rig, 100, "o", "os=a", NULL);
    rig_devices(&rig, 100, "o", "os=b", NULL);
    assert_int_equal(ask_all(&rig, 0, 4), 4);
    assert_refused(rig_begin(&rig, 100), REASON_WINDOW);
    answer_all(&rig, 0, 2, OUTCOME_HEALTHY);
    assert_refused(rig_begin(&rig, 4), REASON_WINDOW); /* b has nothing yet, a its half */
    rig.t += 130;
    assert_granted(rig_begin(&rig, 4));
    rig_end(&rig);
}

static void an_organisation_has_a_budget_of_its_own(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", "small=40,large=500");
    rig_devices(&rig, 40, "small", NULL, NULL);
    rig_devices(&rig, 500, "large", NULL, NULL);
    /* One release at stake: a pair within the organisation costs it once. */
    assert_int_equal(ask_all(&rig, 0, 40), 2);
    assert_refused(rig_begin(&rig, 10), REASON_ORGANISATION_BUDGET);
    assert_int_equal(ask_all(&rig, 40, 500), 10);
    assert_refused(rig_begin(&rig, 300), REASON_ORGANISATION_BUDGET);
    rig_end(&rig);
}

static void a_pair_counts_in_the_organisation_of_each_partner(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", "a=10,b=10,c=10");
    rig_devices(&rig, 10, "a", NULL, NULL);
    rig_devices(&rig, 10, "b", NULL, NULL);
    rig_devices(&rig, 10, "c", NULL, NULL);
    assert_granted(rig_begin(&rig, 0));
    assert_granted(rig_begin(&rig, 10)); /* joins a's pair */
    assert_refused(rig_begin(&rig, 1), REASON_ORGANISATION_BUDGET);
    assert_refused(rig_begin(&rig, 11), REASON_ORGANISATION_BUDGET);
    assert_granted(rig_begin(&rig, 20));
    assert_refused(rig_begin(&rig, 12), REASON_ORGANISATION_BUDGET); /* nor may it join */
    rig_outcome(&rig, 0, OUTCOME_HEALTHY);
    assert_refused(rig_begin(&rig, 12), REASON_ORGANISATION_BUDGET);
    rig_outcome(&rig, 10, OUTCOME_HEALTHY);
    assert_granted(rig_begin(&rig, 12));
    rig_end(&rig);
}

static void no_two_devices_of_an_availability_group_are_in_trial_at_once(void **state)
{
    struct rig rig;
    rig_start(&rig, 25, "", NULL);
    rig_devices(&rig, 2, "o", NULL, "web");
    rig_devices(&rig, 1, "other", NULL, "web"); /* another organisation's group */
    assert_granted(rig_begin(&rig, 0));
    assert_refused(rig_begin(&rig, 1), REASON_GROUP);
    assert_granted(rig_begin(&rig, 2));
    rig_outcome(&rig, 0, OUTCOME_INTERRUPTED);
    assert_refused(rig_begin(&rig, 1), REASON_GROUP);
    rig_outcome(&rig, 0, OUTCOME_HEALTHY);
    assert_granted(rig_begin(&rig, 1));
    rig_end(&rig);
}

static void a_place_in_the_share_is_the_hash_of_release_and_device(void **state)
{
    struct rig rig;
    unsigned inside = 0;
    rig_start(&rig, 1000, "\"stages\":[{\"name\":\"canary\",\"share\":\"10%\"}]", NULL);
    for (int i = 0; i < 1000; i++) {
        char id[32];
        snprintf(id, sizeof id, "device-%d", i);
        _cleanup_free_ char *text = xasprintf("maeslant share v1\nrelease-1\n%s", id);
        uint8_t digest[SHA256_SIZE];
        sha256(text, strlen(text), digest);
        double place = 0;
        for (int byte = 7; byte >= 0; byte--)
            place = (place + digest[byte]) / 256;
        uint32_t device = rollout_device_add(
            rig.rollout, &(struct rollout_device){.id = id, .organisation = "o"});
        const struct rollout_decision *decision = rig_begin(&rig, device);
        if (place < 0.1) {
            inside++;
            assert_granted(decision);
        } else {
            assert_refused(decision, REASON_STAGE_SHARE);
        }
    }
    assert_in_range(inside, 70, 130);
    rig_end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_no_evidence_no_more_than_the_whole_devices_of_the_budget_are_exposed),
        cmocka_unit_test(room_is_given_back_when_both_partners_have_settled),
        cmocka_unit_test(clean_soaks_make_permits_cheaper_and_the_window_grows_by_itself),
        cmocka_unit_test(a_new_stratum_is_expensive_however_well_the_others_do),
        cmocka_unit_test(strata_that_wait_share_the_budget_in_equal_parts),
        cmocka_unit_test(a_stratum_that_stopped_asking_is_not_waited_for),
        cmocka_unit_test(an_organisation_has_a_budget_of_its_own),
        cmocka_unit_test(a_pair_counts_in_the_organisation_of_each_partner),
        cmocka_unit_test(no_two_devices_of_an_availability_group_are_in_trial_at_once),
        cmocka_unit_test(a_place_in_the_share_is_the_hash_of_release_and_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
