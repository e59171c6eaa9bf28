#include "gate/bound.h"
#include "vectors.h"

static void bounds_match_their_reference_values(void **state)
{
    json_t *root = vectors_load("vectors.json"), *vector;
    size_t i;
    json_array_foreach(json_object_get(root, "bounds"), i, vector)
    {
        uint64_t n = vector_count(vector, "n"), k = vector_count(vector, "k");
        double alpha = vector_number(vector, "alpha");
        double lower = vector_number(vector, "lower"), upper = vector_number(vector, "upper");
        assert_near(vector, bound_upper(n, k, alpha), upper);
        assert_near(vector, bound_lower(n, k, alpha), lower);
        /* Bounds are often tiny: hold them to 1e-9 of themselves too. */
        assert_true(fabs(bound_upper(n, k, alpha) - upper) <= 1e-9 * upper);
        assert_true(fabs(bound_lower(n, k, alpha) - lower) <= 1e-9 * lower);
    }
    assert_true(i >= 30);
    json_decref(root);
}

/* ln M(p) - ln(1/alpha) by the definition, in the widest type there is. */
static long double excess(uint64_t n, uint64_t k, double alpha, long double p)
{
    long double a = (long double)k + 0.5L, b = (long double)(n - k) + 0.5L;
    long double sum = lgammal(a) + lgammal(b) - lgammal(a + b) - logl(acosl(-1)) + logl(alpha);
    if (k > 0)
        sum -= (long double)k * logl(p);
    if (n > k)
        sum -= (long double)(n - k) * log1pl(-p);
    return sum;
}

static void bounds_are_the_roots_rounded_outwards(void **state)
{
    const double alphas[] = {0.5, 0.01, 1e-4, 1e-9};
    for (size_t a = 0; a < 4; a++) {
        for (uint64_t n = 1; n < 20000; n = n + 1 + n / 3) {
            for (uint64_t k = 0; k <= n; k = k + 1 + k / 2) {
                double upper = bound_upper(n, k, alphas[a]), lower = bound_lower(n, k, alphas[a]);
                double mean = (double)k / (double)n;
                assert_true(lower <= mean && mean <= upper && lower >= 0 && upper <= 1);
                if (k < n) {
                    assert_true(excess(n, k, alphas[a], upper) >= 0);
                    assert_true(excess(n, k, alphas[a], upper * (1 - 2e-12L)) <= 0);
                }
                if (k > 0) {
                    assert_true(excess(n, k, alphas[a], lower) >= 0);
                    long double inner = lower * (1 + 2e-12L);
                    assert_true(inner >= 1 || excess(n, k, alphas[a], inner) <= 0);
                }
            }
        }
    }
}

static void nothing_is_known_without_data(void **state)
{
    assert_true(bound_upper(0, 0, 0.01) == 1);
    assert_true(bound_lower(0, 0, 0.01) == 0);
}

static void bounds_tighten_with_every_healthy_device(void **state)
{
    for (uint64_t k = 0; k < 5; k++) {
        double last = 1.0000001;
        for (uint64_t n = k + 1; n < 100000000; n = n + 1 + n / 9) {
            double upper = bound_upper(n, k, 0.01);
            assert_true(upper < last);
            last = upper;
        }
    }
}

static void bounds_survive_the_largest_counts(void **state)
{
    uint64_t n = UINT64_C(1) << 40;
    for (uint64_t k = 1; k < n; k *= 2) {
        double mean = (double)k / (double)n;
        assert_true(bound_upper(n, k, 0.01) > mean && bound_upper(n, k, 0.01) < mean * 30);
        assert_true(bound_lower(n, k, 0.01) < mean && bound_lower(n, k, 0.01) > 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_match_their_reference_values),
        cmocka_unit_test(bounds_are_the_roots_rounded_outwards),
        cmocka_unit_test(nothing_is_known_without_data),
        cmocka_unit_test(bounds_tighten_with_every_healthy_device),
        cmocka_unit_test(bounds_survive_the_largest_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
