#include "rollout/alarm-evidence.h"

#include <math.h>

#define WEIGHT_FIRST 0.5
#define WEIGHT_OTHERS (1.0 / 84)

double alarm_log_weight(uint32_t rank)
{
    if (rank == 0)
        return log(WEIGHT_FIRST);
    return log(WEIGHT_OTHERS / ((double)rank * ((double)rank + 1)));
}

static struct counts sum_of(struct counts a, struct counts b)
{
    return (struct counts){a.begun + b.begun, a.settled + b.settled, a.failed + b.failed};
}

struct counts alarm_counts(const struct rollout *rollout, uint32_t number, enum scope scope)
{
    const struct stratum *stratum = &rollout->strata[number];
    struct counts counts =
        scope == SCOPE_PAIRS ? stratum->paired : sum_of(stratum->paired, stratum->alone);
    return rollout->left_count > 0 ? quorum_counts(rollout, number, scope == SCOPE_PAIRS, counts)
                                   : counts;
}

struct counts alarm_pooled(const struct rollout *rollout, enum scope scope, enum service service,
                           double *ret_tolerated)
{
    struct counts sum = {0};
    double tolerated = 0;
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        struct counts counts = alarm_counts(rollout, rollout->ranked[i], scope);
        if ((service == IN_SERVICE && stratum->out_of_service) || counts.begun == 0)
            continue;
        sum = sum_of(sum, counts);
        tolerated = fmax(tolerated, stratum->tolerated);
    }
    *ret_tolerated = tolerated > 0 ? tolerated : rollout->policy.tolerance_cap;
    return sum;
}

double alarm_log_rate(const struct rollout *rollout, const struct counts *counts, double tolerated)
{
    return rate_log_evidence(&rollout->mixture, counts->begun, counts->failed, tolerated);
}

double alarm_log_evidence(const struct rollout *rollout)
{
    double tolerated;
    struct counts pooled = alarm_pooled(rollout, SCOPE_ALL, ANY_SERVICE, &tolerated);
    return alarm_log_rate(rollout, &pooled, tolerated);
}

/* At least as large as the evidence, for two logarithms: the likelihood of the best of all rates
 * over that of the rate tolerated. */
static double log_ceiling(const struct counts *counts, double tolerated)
{
    double n = (double)counts->begun, k = (double)counts->failed;
    if (k <= n * tolerated)
        return 0;
    double ceiling = k * log(k / n / tolerated);
    if (k < n)
        ceiling += (n - k) * log((1 - k / n) / (1 - tolerated));
    return ceiling;
}

/* The weighted mean of alarm A, over components that are in service and have a failure (the rest
 * is left out, which only lowers it). `ret_accused` is the component that weighs most. */
double alarm_log_mean(const struct rollout *rollout, enum scope scope, enum service service,
                      bool with_excused, uint32_t *ret_accused)
{
    double tolerated, best = -INFINITY, sum = 0;
    struct counts pooled = alarm_pooled(rollout, scope, service, &tolerated);
    *ret_accused = NONE;
    if (pooled.failed == 0)
        return -INFINITY;

    double ceiling = log_ceiling(&pooled, tolerated);
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        struct counts counts = alarm_counts(rollout, rollout->ranked[i], scope);
        if ((service == ANY_SERVICE || !stratum->out_of_service) && counts.failed > 0)
            ceiling = fmax(ceiling, log_ceiling(&counts, stratum->tolerated));
    }
    if (ceiling < rollout->log_threshold - 0.1)
        return ceiling;

    if (with_excused || !rollout->excused) {
        best = log(WEIGHT_POOLED) + alarm_log_rate(rollout, &pooled, tolerated);
        sum = 1; /* in multiples of exp(best) */
    }
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        struct counts counts = alarm_counts(rollout, rollout->ranked[i], scope);
        if ((service == IN_SERVICE && stratum->out_of_service) || counts.failed == 0 ||
            (stratum->excused && !with_excused))
            continue;
        double term =
            alarm_log_weight(stratum->rank) + alarm_log_rate(rollout, &counts, stratum->tolerated);
        if (term > best) {
            sum = sum * exp(best - term) + 1;
            best = term;
            *ret_accused = rollout->ranked[i];
        } else {
            sum += exp(term - best);
        }
    }
    return best + log(sum);
}
