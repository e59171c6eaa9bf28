/* Alarm A's evidence as the rest of the alarms asks for it: counts of one stratum or of all, and
 * the weighted mean of what they say. For alarm.c and alarm-evidence.c. */
#pragma once

#include "rollout/internal.h"

/* Weights of alarm A's mean, fixed in advance (docs/rollout.md has the proof): all strata together
 * and the first stratum one half each, the others 1/84 in all. They add up to a little more than 1,
 * which the slack of alarm C pays for. */
#define WEIGHT_POOLED 0.5
double alarm_log_weight(uint32_t rank); /* of a stratum, in order of first begin */

/* Which exposures of the release arm alarm A looks at. */
enum scope { SCOPE_ALL, SCOPE_PAIRS };

/* Strata where A measures against the cap, or all of them. */
enum service { IN_SERVICE, ANY_SERVICE };

struct counts alarm_counts(const struct rollout *rollout, uint32_t number, enum scope scope);
struct counts alarm_pooled(const struct rollout *rollout, enum scope scope, enum service service,
                           double *ret_tolerated);
double alarm_log_rate(const struct rollout *rollout, const struct counts *counts, double tolerated);
double alarm_log_mean(const struct rollout *rollout, enum scope scope, enum service service,
                      bool with_excused, uint32_t *ret_accused);
