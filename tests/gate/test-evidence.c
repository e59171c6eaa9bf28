#include "gate/evidence.h"
#include "vectors.h"

#include <string.h>

static void default_1_matches_its_reference_values(void **state)
{
    json_t *root = vectors_load("vectors.json"), *vector;
    size_t i;
    assert_string_equal(json_string_value(json_object_get(root, "mixture")), "default-1");
    json_array_foreach(json_object_get(root, "evidence"), i, vector)
    {
        struct rate_mixture mixture;
        rate_mixture_init(&mixture, vector_number(vector, "floor"));
        assert_near(vector,
                    rate_log_evidence(&mixture, vector_count(vector, "n"),
                                      vector_count(vector, "k"),
                                      vector_number(vector, "tolerated")),
                    vector_number(vector, "log_e"));
    }
    assert_true(i >= 60);
    json_decref(root);
}

static void split_1_matches_its_reference_values(void **state)
{
    json_t *root = vectors_load("split.json"), *vector;
    size_t i;
    assert_string_equal(json_string_value(json_object_get(root, "mixture")), "split-1");
    json_array_foreach(json_object_get(root, "evidence"), i, vector) assert_near(
        vector,
        split_log_evidence(vector_count(vector, "k_release"), vector_count(vector, "k_placebo"),
                           vector_count(vector, "discount")),
        vector_number(vector, "log_e"));
    assert_true(i >= 40);
    json_decref(root);
}

/* The sums over the definition, term by term, in the widest type there is. */
static void split_1_is_the_sum_that_the_design_defines(void **state)
{
    for (uint64_t gains = 0; gains < 60; gains += 7) {
        for (uint64_t losses = 0; losses < 60; losses += 5) {
            long double sum = losses == 0 ? 0.2L * powl(2, (long double)gains) : 0;
            for (int j = 0; j < 24; j++) {
                long double ratio = 1.05L * powl(1000 / 1.05L, j / 23.0L);
                sum += 0.8L / 24 * powl(2 * ratio / (ratio + 1), (long double)gains) *
                       powl(2 / (ratio + 1), (long double)losses);
            }
            double found = split_log_evidence(gains + 3, losses, 3);
            assert_true(fabs(found - (double)logl(sum)) <= 1e-12 * fmax(1, fabs(found)));
        }
    }
}

static void proven_harm_counts_the_refuted_numbers_one_by_one(void **state)
{
    const double alphas[] = {0.5, 0.05, 1e-4};
    for (size_t a = 0; a < 3; a++) {
        for (uint64_t release = 0; release < 90; release += release < 30 ? 1 : 7) {
            for (uint64_t placebo = 0; placebo < 20; placebo++) {
                uint64_t want = 0;
                while (log_at_least(split_log_evidence(release, placebo, want), log(2 / alphas[a])))
                    want++;
                for (uint64_t hint = 0; hint < 100; hint += 9)
                    assert_int_equal(split_proven_harm(release, placebo, alphas[a], hint), want);
            }
        }
    }
}

static void proven_harm_never_exceeds_the_failures_of_the_release(void **state)
{
    uint64_t last = 0;
    for (uint64_t k = 0; k < 3000; k++) {
        uint64_t proven = split_proven_harm(k, 5, 1e-4, last);
        assert_true(proven <= k && proven >= last && proven <= last + 1);
        last = proven;
    }
    assert_int_equal(split_proven_harm(9000000, 0, 1e-4, 0),
                     split_proven_harm(9000000, 0, 1e-4, 8999990));
}

static void evidence_of_rates_falls_with_every_healthy_device(void **state)
{
    struct rate_mixture mixture;
    rate_mixture_init(&mixture, 1e-4);
    for (uint64_t k = 0; k < 40; k += 3) {
        double last = INFINITY;
        for (uint64_t n = k ? k : 1; n < 4000; n = n + 1 + n / 16) {
            double found = rate_log_evidence(&mixture, n, k, 0.01);
            assert_true(found < last);
            last = found;
        }
    }
}

static void evidence_of_rates_survives_the_largest_counts(void **state)
{
    struct rate_mixture mixture;
    rate_mixture_init(&mixture, 1e-6);
    uint64_t n = UINT64_C(1) << 40;
    assert_true(isfinite(rate_log_evidence(&mixture, n, 0, 0.01)));
    assert_true(isfinite(rate_log_evidence(&mixture, n, n, 0.01)));
    assert_true(isfinite(split_log_evidence(n, n, 0)));
    assert_true(isfinite(split_log_evidence(0, n, 0)));
}

static void numbers_that_decide_are_rounded_to_a_billionth(void **state)
{
    assert_true(round_decision(0.1234567891234) == 0.123456789);
    assert_true(log_at_least(9.9034875520, 9.9034875524));
    assert_false(log_at_least(9.903487551, 9.903487553));
    assert_true(round_decision(1e300) == 1e300);
    assert_true(isinf(round_decision(INFINITY)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(default_1_matches_its_reference_values),
        cmocka_unit_test(split_1_matches_its_reference_values),
        cmocka_unit_test(split_1_is_the_sum_that_the_design_defines),
        cmocka_unit_test(proven_harm_counts_the_refuted_numbers_one_by_one),
        cmocka_unit_test(proven_harm_never_exceeds_the_failures_of_the_release),
        cmocka_unit_test(evidence_of_rates_falls_with_every_healthy_device),
        cmocka_unit_test(evidence_of_rates_survives_the_largest_counts),
        cmocka_unit_test(numbers_that_decide_are_rounded_to_a_billionth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
