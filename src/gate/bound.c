#include "gate/bound.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

/* Rounding of the root goes outwards by this much, which covers the arithmetic's own error. */
#define OUTWARDS 5e-13

/* What Stirling's formula leaves out of ln Γ(x), for x ≥ 1/2:
 * ln Γ(x) = (x - 1/2) ln x - x + ln(2π)/2 + stirling_rest(x). */
static double stirling_rest(double x)
{
    double shifted = 0;
    for (; x < 12; x++) /* the recurrence Γ(x + 1) = x Γ(x), to where the series is exact */
        shifted += (x + 0.5) * log1p(1 / x) - 1;
    double inverse = 1 / x, square = inverse * inverse;
    double series =
        inverse * (1.0 / 12 -
                   square * (1.0 / 360 - square * (1.0 / 1260 -
                                                   square * (1.0 / 1680 - square * (1.0 / 1188)))));
    return shifted + series;
}

/* The martingale at p, minus ln(1/alpha), written so that the large terms cancel before they are
 * added: with a = k + 1/2, b = n - k + 1/2 and s = n + 1,
 * lnB(a, b) = k ln(a/s) + (n - k) ln(b/s) - ln(s)/2 + ln(2π)/2 + rests. */
struct excess {
    double n, k, constant;
    double log_share, log_rest; /* ln(a/s), ln(b/s) */
};

static void excess_init(struct excess *ret, uint64_t n, uint64_t k, double alpha)
{
    double a = (double)k + 0.5, b = (double)(n - k) + 0.5, s = (double)n + 1;
    ret->n = (double)n;
    ret->k = (double)k;
    ret->log_share = a < b ? log(a / s) : log1p(-b / s);
    ret->log_rest = a < b ? log1p(-a / s) : log(b / s);
    ret->constant = 0.5 * log(2 * M_PI / s) + stirling_rest(a) + stirling_rest(b) -
                    stirling_rest(s) - log(M_PI) /* lnB(½,½) */ + log(alpha);
}

/* The excess at odds p : q, where q = 1 - p is given apart because it may be tiny. */
static double excess_at(const struct excess *excess, double p, double q)
{
    double sum = excess->constant;
    if (excess->k > 0)
        sum += excess->k * (excess->log_share - (p < 0.5 ? log(p) : log1p(-q)));
    if (excess->n > excess->k)
        sum += (excess->n - excess->k) * (excess->log_rest - (p < 0.5 ? log1p(-p) : log(q)));
    return sum;
}

/* The root above k/n for 0 < k < n. The excess is convex in p: Newton's steps from above stay
 * above, and a bracket catches the others. */
static double root_above(const struct excess *excess)
{
    double low = excess->k / excess->n, high = 1;
    double depth = -excess_at(excess, low, 1 - low);
    if (depth <= 0)
        return low;
    /* Wilson's bound with z² = 2 · depth is the first guess. */
    double z2 = 2 * depth, n = excess->n;
    double p =
        (low + z2 / (2 * n) + sqrt(z2 * (low * (1 - low) + z2 / (4 * n)) / n)) / (1 + z2 / n);

    for (int step = 0; step < 200; step++) {
        if (!(p > low && p < high))
            p = low + (high - low) / 2;
        double value = excess_at(excess, p, 1 - p);
        double slope = (excess->n - excess->k) / (1 - p) - excess->k / p;
        if (value > 0)
            high = p;
        else
            low = p;
        double next = p - value / slope;
        if (fabs(next - p) <= 1e-15 * p || high - low <= 1e-15 * high)
            return fmin(fmax(next, low), high);
        p = next;
    }
    return high;
}

double bound_upper(uint64_t n, uint64_t k, double alpha)
{
    assert(k <= n && alpha > 0 && alpha < 1);
    if (n == k)
        return 1;
    struct excess excess;
    excess_init(&excess, n, k, alpha);
    double p;
    if (k == 0) /* constant + n (log_rest - ln(1 - p)) = 0 */
        p = -expm1(excess.constant / excess.n + excess.log_rest);
    else
        p = root_above(&excess);
    return fmin(1, p * (1 + OUTWARDS));
}

double bound_lower(uint64_t n, uint64_t k, double alpha)
{
    assert(k <= n && alpha > 0 && alpha < 1);
    if (k == 0)
        return 0;
    /* The lower bound of the failures is the upper bound of the others, turned round; solved here
     * in p itself, because 1 - p would lose the digits of a small bound. */
    struct excess excess;
    excess_init(&excess, n, k, alpha);
    if (k == n)
        return exp(excess.constant / excess.n + excess.log_share) * (1 - OUTWARDS);

    double low = 0, high = excess.k / excess.n;
    double depth = -excess_at(&excess, high, 1 - high);
    if (depth <= 0)
        return high * (1 - OUTWARDS);
    double z2 = 2 * depth, mean = high;
    double p = (mean + z2 / (2 * excess.n) -
                sqrt(z2 * (mean * (1 - mean) + z2 / (4 * excess.n)) / excess.n)) /
               (1 + z2 / excess.n);
    /* Newton in ln p, in which a small root is no harder than a large one. */
    for (int step = 0; step < 200; step++) {
        if (!(p > low && p < high))
            p = low > 0 ? sqrt(low) * sqrt(high) : high / 16;
        double value = excess_at(&excess, p, 1 - p);
        double slope = (excess.n - excess.k) * p / (1 - p) - excess.k; /* d/d ln p */
        if (value > 0)
            low = p;
        else
            high = p;
        double move = -value / slope;
        double next = p * exp(move);
        if (fabs(move) <= 1e-15 || high - low <= 1e-15 * high) {
            p = fmin(fmax(next, low), high);
            break;
        }
        p = next;
    }
    return p * (1 - OUTWARDS);
}
