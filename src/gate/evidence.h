/* Evidence against a release: `default-1` (absolute rates) and `split-1` (coin tosses of pairs), as
 * design/gate.md defines them. Pure functions of counts, O(1), mergeable by adding counts, valid at
 * every moment. Must never look at a clock or allocate. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define EVIDENCE_TERMS 24

/* The mixture of default-1, fixed by the policy's floor and never moved afterwards. */
struct rate_mixture {
    double log_rate[EVIDENCE_TERMS];
    double log_rest[EVIDENCE_TERMS]; /* ln(1 - rate) */
    double rate[EVIDENCE_TERMS];
};
void rate_mixture_init(struct rate_mixture *ret, double floor /* (0, 0.6) */);

/* ln E of default-1 against H0: rate ≤ tolerated, after n exposures begun of which k failed. */
double rate_log_evidence(const struct rate_mixture *mixture, uint64_t n, uint64_t k,
                         double tolerated);

/* ln e_h of split-1 against "at most `discount` devices were harmed". */
double split_log_evidence(uint64_t k_release, uint64_t k_placebo, uint64_t discount);

/* How many h = 0, 1, 2, … have e_h ≥ 2/alpha: the devices proven harmed, with confidence
 * 1 - alpha/2 at all moments at once. `hint` is an earlier answer (0 if none) that makes the search
 * O(log) when the counts moved little. */
uint64_t split_proven_harm(uint64_t k_release, uint64_t k_placebo, double alpha, uint64_t hint);

/* Numbers that decide are compared after rounding to 1e-9 (design/formats.md). */
double round_decision(double value);
bool log_at_least(double log_value, double log_threshold);
