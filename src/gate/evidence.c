#include "gate/evidence.h"

#include <assert.h>
#include <math.h>

/* Both mixtures: 24 alternatives of this weight each, and the extreme one with the rest. */
#define WEIGHT (0.8 / EVIDENCE_TERMS)
#define WEIGHT_EXTREME 0.2

#define RATE_FIRST_TIMES_FLOOR 1.5
#define RATE_LAST 0.9

double round_decision(double value)
{
    /* Beyond 2^53 / 1e9 a double has no digits left to round. */
    if (!isfinite(value) || fabs(value) > 9e6)
        return value;
    return nearbyint(value * 1e9) / 1e9;
}

bool log_at_least(double log_value, double log_threshold)
{
    return round_decision(log_value) >= round_decision(log_threshold);
}

/* ln Σ exp(term), over terms of which those of -INFINITY count as nothing. */
static double log_sum(const double *term, unsigned count)
{
    double top = -INFINITY;
    for (unsigned i = 0; i < count; i++)
        top = fmax(top, term[i]);
    if (top == -INFINITY)
        return top;
    double sum = 0;
    for (unsigned i = 0; i < count; i++)
        if (term[i] - top > -50) /* smaller ones are below the last digit of the sum */
            sum += exp(term[i] - top);
    /* cppcheck-suppress invalidFunctionArg ; the largest term gave the sum 1 */
    return top + log(sum);
}

/* The j-th of 24 points in geometric progression from `first` to `last`. */
static double progression(double first, double last, unsigned j)
{
    return first * pow(last / first, (double)j / (EVIDENCE_TERMS - 1));
}

void rate_mixture_init(struct rate_mixture *ret, double floor)
{
    assert(floor > 0 && RATE_FIRST_TIMES_FLOOR * floor <= RATE_LAST);
    for (unsigned j = 0; j < EVIDENCE_TERMS; j++) {
        double rate = progression(RATE_FIRST_TIMES_FLOOR * floor, RATE_LAST, j);
        ret->rate[j] = rate;
        ret->log_rate[j] = log(rate);
        ret->log_rest[j] = log1p(-rate);
    }
}

/* k ln p + (n - k) ln(1 - p) with 0 ln 0 = 0. */
static double log_likelihood(double n, double k, double p)
{
    double sum = 0;
    if (k > 0)
        sum += k * log(p);
    if (n > k)
        sum += (n - k) * log1p(-p);
    return sum;
}

double rate_log_evidence(const struct rate_mixture *mixture, uint64_t n, uint64_t k,
                         double tolerated)
{
    assert(k <= n && tolerated > 0 && tolerated < 1);
    if (n == 0)
        return 0;

    double failed = (double)k, rest = (double)(n - k);
    double allowed = fmin(tolerated, failed / (double)n);
    double null = log_likelihood((double)n, failed, allowed);
    double term[EVIDENCE_TERMS + 1];
    for (unsigned j = 0; j < EVIDENCE_TERMS; j++)
        term[j] = mixture->rate[j] <= tolerated ? -INFINITY
                                                : log(WEIGHT) + failed * mixture->log_rate[j] +
                                                      rest * mixture->log_rest[j] - null;
    term[EVIDENCE_TERMS] = k == n ? log(WEIGHT_EXTREME) - null : -INFINITY;
    return log_sum(term, EVIDENCE_TERMS + 1);
}

/* ln(2λ/(λ+1)) and ln(2/(λ+1)) of the 24 hazard ratios λ from 1.05 to 1000. Constants of the
 * method, written out so that every machine has the same bits. */
static const double split_gain[EVIDENCE_TERMS] = {
    0.024097551579060503, 0.15852628714419886, 0.27145043746338987, 0.3643563380324786,
    0.4393533300135061,   0.49888958252115123, 0.545484542004964,   0.5815245744130655,
    0.609136920593481,    0.6301336155675855,  0.6460061729381444,  0.6579508886539774,
    0.6669087093914068,   0.6736089376816393,  0.6786106359873058,  0.6823388416283994,
    0.6851147095889488,   0.6871797880449072,  0.6887151292405487,  0.6898560948805228,
    0.690703694746229,    0.6913331982116366,  0.691800634922356,   0.6921476802268618,
};
static const double split_loss[EVIDENCE_TERMS] = {
    -0.0246926125903715, -0.18847975158230726, -0.3737714758201904, -0.5790814498081759,
    -0.8023003323842224, -1.0409799544336515,  -1.2926008695069129, -1.5547767116558855,
    -1.825380240032544,  -2.1025994196155136,  -2.384942736802029,  -2.67121389564327,
    -2.9604719494629146, -3.2519875957297564,  -3.5452017719811644, -3.8396894408971445,
    -4.13512944749367,   -4.431280243594785,   -4.727960776956218,  -5.025035685873318,
    -5.322403960564686,  -5.619990331656352,   -5.917738769502707,  -6.215607598755275,
};

/* ln Σ wⱼ (2λⱼ/(λⱼ+1))^gains (2/(λⱼ+1))^losses */
static double split_log(uint64_t gains, uint64_t losses)
{
    double term[EVIDENCE_TERMS + 1];
    for (unsigned j = 0; j < EVIDENCE_TERMS; j++)
        term[j] = log(WEIGHT) + (double)gains * split_gain[j] + (double)losses * split_loss[j];
    term[EVIDENCE_TERMS] = losses == 0 ? log(WEIGHT_EXTREME) + (double)gains * log(2) : -INFINITY;
    return log_sum(term, EVIDENCE_TERMS + 1);
}

double split_log_evidence(uint64_t k_release, uint64_t k_placebo, uint64_t discount)
{
    return split_log(k_release > discount ? k_release - discount : 0, k_placebo);
}

uint64_t split_proven_harm(uint64_t k_release, uint64_t k_placebo, double alpha, uint64_t hint)
{
    assert(alpha > 0 && alpha < 1);
    /* e_h ≥ 2/alpha asks for some number of gains k_release - h, the same for every h; `enough`
     * below is an upper bound of the smallest such number, `few` a lower bound (exclusive). */
    double threshold = log(2 / alpha);
    uint64_t guess = hint < k_release ? k_release - hint + 1 : 1;
    uint64_t few = 0, enough = guess > k_release ? k_release : guess;

    if (k_release == 0)
        return 0;
    for (uint64_t step = 1; !log_at_least(split_log(enough, k_placebo), threshold); step *= 2) {
        if (enough == k_release)
            return 0;
        few = enough;
        enough = step < k_release - enough ? enough + step : k_release;
    }
    for (uint64_t step = 1; enough - few > 1; step *= 2) {
        uint64_t probe = step < enough - few ? enough - step : few + 1;
        if (log_at_least(split_log(probe, k_placebo), threshold)) {
            enough = probe;
        } else {
            few = probe;
            break;
        }
    }
    while (enough - few > 1) {
        uint64_t middle = few + (enough - few) / 2;
        if (log_at_least(split_log(middle, k_placebo), threshold))
            enough = middle;
        else
            few = middle;
    }
    return k_release - enough + 1;
}
