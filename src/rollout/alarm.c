#include "base/buf.h"
#include "rollout/internal.h"

#include <math.h>

/* Weights of alarm A's mean, fixed in advance (docs/rollout.md has the proof): all strata together
 * and the first stratum one half each, the others 1/42 in all. They add up to a little more than 1,
 * which the slack of alarm C pays for. */
#define WEIGHT_POOLED 0.5
#define WEIGHT_FIRST 0.5
#define WEIGHT_OTHERS (1.0 / 42)

static double log_weight(uint32_t rank)
{
    if (rank == 0)
        return log(WEIGHT_FIRST);
    return log(WEIGHT_OTHERS / ((double)rank * ((double)rank + 1)));
}

static struct counts sum_of(struct counts a, struct counts b)
{
    return (struct counts){a.begun + b.begun, a.settled + b.settled, a.failed + b.failed};
}

/* Which exposures of the release arm alarm A looks at. */
enum scope { SCOPE_ALL, SCOPE_PAIRS };

static struct counts counts_of(const struct stratum *stratum, enum scope scope)
{
    return scope == SCOPE_PAIRS ? stratum->paired : sum_of(stratum->paired, stratum->alone);
}

static struct counts pooled_counts(const struct rollout *rollout, enum scope scope, bool in_service,
                                   double *ret_tolerated)
{
    struct counts sum = {0};
    double tolerated = 0;
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        struct counts counts = counts_of(stratum, scope);
        if ((in_service && stratum->out_of_service) || counts.begun == 0)
            continue;
        sum = sum_of(sum, counts);
        tolerated = fmax(tolerated, stratum->tolerated);
    }
    *ret_tolerated = tolerated > 0 ? tolerated : rollout->policy.tolerance_cap;
    return sum;
}

static double log_evidence(const struct rollout *rollout, const struct counts *counts,
                           double tolerated)
{
    return rate_log_evidence(&rollout->mixture, counts->begun, counts->failed, tolerated);
}

double alarm_log_evidence(const struct rollout *rollout)
{
    double tolerated;
    struct counts pooled = pooled_counts(rollout, SCOPE_ALL, false, &tolerated);
    return log_evidence(rollout, &pooled, tolerated);
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
static double log_mean(const struct rollout *rollout, enum scope scope, bool with_excused,
                       uint32_t *ret_accused)
{
    double tolerated, best = -INFINITY, sum = 0;
    struct counts pooled = pooled_counts(rollout, scope, true, &tolerated);
    *ret_accused = NONE;
    if (pooled.failed == 0)
        return -INFINITY;

    double ceiling = log_ceiling(&pooled, tolerated);
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        struct counts counts = counts_of(stratum, scope);
        if (!stratum->out_of_service && counts.failed > 0)
            ceiling = fmax(ceiling, log_ceiling(&counts, stratum->tolerated));
    }
    if (ceiling < rollout->log_threshold - 0.1)
        return ceiling;

    if (with_excused || !rollout->excused) {
        best = log(WEIGHT_POOLED) + log_evidence(rollout, &pooled, tolerated);
        sum = 1; /* in multiples of exp(best) */
    }
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        struct counts counts = counts_of(stratum, scope);
        if (stratum->out_of_service || counts.failed == 0 || (stratum->excused && !with_excused))
            continue;
        double term =
            log_weight(stratum->rank) + log_evidence(rollout, &counts, stratum->tolerated);
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

static void set_because(struct rollout *rollout, enum rollout_alarm alarm, uint32_t slice,
                        const char *by, const char *reason)
{
    struct rollout_because *because = &rollout->because;
    double tolerated;
    struct counts counts = pooled_counts(rollout, SCOPE_ALL, false, &tolerated);
    if (slice != NONE) {
        counts = counts_of(&rollout->strata[slice], SCOPE_ALL);
        tolerated = rollout->strata[slice].tolerated;
    }
    free(rollout->because_by);
    free(rollout->because_reason);
    rollout->because_by = by ? xstrdup(by) : NULL;
    rollout->because_reason = reason ? xstrdup(reason) : NULL;
    *because = (struct rollout_because){
        .alarm = alarm,
        .slice = alarm == ALARM_PERSON ? ""
                 : slice == NONE       ? "all"
                                       : rollout->stratum_names.text[slice],
        .n = counts.begun,
        .k = counts.failed,
        .tolerated = tolerated,
        .log_e = log_evidence(rollout, &counts, tolerated),
        .k_release = rollout->k_release,
        .k_placebo = rollout->k_placebo,
        .proven_harm = rollout->proven_harm,
        .by = rollout->because_by,
        .reason = rollout->because_reason,
    };
}

static void announce(struct rollout *rollout, enum rollout_decision_type type)
{
    emit(rollout, &(struct rollout_decision){.type = type, .because = rollout->because});
}

void alarm_halt(struct rollout *rollout, enum rollout_alarm alarm, uint32_t slice, const char *by,
                const char *reason)
{
    if (rollout->halted)
        return;
    rollout->halted = true;
    rollout->halted_at = rollout->now;
    set_because(rollout, alarm, slice, by, reason);
    announce(rollout, DECISION_HALT);
}

void alarm_pause_person(struct rollout *rollout, const char *by, const char *reason)
{
    if (rollout->halted || rollout->paused_person)
        return;
    rollout->paused_person = true;
    set_because(rollout, ALARM_PERSON, NONE, by, reason);
    announce(rollout, DECISION_PAUSE);
}

static void excuse(struct rollout *rollout, uint32_t accused)
{
    if (accused != NONE) {
        rollout->strata[accused].excused = true;
        return;
    }
    rollout->excused = true;
    for (uint32_t i = 0; i < rollout->ranked_count; i++)
        if (rollout->strata[rollout->ranked[i]].arm[ARM_RELEASE].failed > 0)
            rollout->strata[rollout->ranked[i]].excused = true;
}

void alarm_resume_person(struct rollout *rollout, const char *by, const char *reason)
{
    if (rollout->halted || (!rollout->paused_person && !rollout->paused_environment))
        return;
    if (rollout->paused_environment)
        excuse(rollout, rollout->accused);
    rollout->paused_person = rollout->paused_environment = false;
    set_because(rollout, ALARM_PERSON, NONE, by, reason);
    announce(rollout, DECISION_RESUME);
}

static bool release_fails_apart(const struct rollout *rollout)
{
    return log_at_least(split_log_evidence(rollout->k_release, rollout->k_placebo, 0),
                        log(ENVIRONMENT_ODDS));
}

/* The placebos' own evidence against the cap, of one stratum or of all in service. */
static bool placebos_fail(const struct rollout *rollout, uint32_t accused)
{
    struct counts sum = {0};
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        if (accused == NONE ? stratum->out_of_service : rollout->ranked[i] != accused)
            continue;
        sum.begun += stratum->arm[ARM_PLACEBO].begun;
        sum.failed += stratum->arm[ARM_PLACEBO].failed;
    }
    return log_at_least(log_evidence(rollout, &sum, rollout->policy.tolerance_cap),
                        log(ENVIRONMENT_ODDS));
}

/* Takes alarm A out of service where the placebos fail by themselves. When all strata together
 * stand accused, those whose own placebos say so go first, and all of them only if none does. */
static bool take_out_of_service(struct rollout *rollout, uint32_t accused)
{
    bool any = false;
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        uint32_t number = rollout->ranked[i];
        struct stratum *stratum = &rollout->strata[number];
        if ((accused != NONE && accused != number) || stratum->out_of_service ||
            stratum->arm[ARM_RELEASE].failed == 0 || !placebos_fail(rollout, number))
            continue;
        stratum->out_of_service = any = true;
    }
    if (!any && accused == NONE && placebos_fail(rollout, NONE)) {
        for (uint32_t i = 0; i < rollout->ranked_count; i++)
            rollout->strata[rollout->ranked[i]].out_of_service = true;
        any = true;
    }
    return any;
}

static void pause_for_environment(struct rollout *rollout, uint32_t accused)
{
    rollout->paused_environment = true;
    rollout->accused = accused;
    rollout->check++;
    rollout->check_moved_at = rollout->now;
    rollout->check_open = rollout->check_clean = rollout->check_failed = 0;
    set_because(rollout, ALARM_ENVIRONMENT, accused, NULL, NULL);
    announce(rollout, DECISION_PAUSE);
}

/* Alarm A. */
static void check_absolute(struct rollout *rollout)
{
    uint32_t accused;
    while (log_at_least(log_mean(rollout, SCOPE_ALL, true, &accused), rollout->log_threshold)) {
        if (!rollout->policy.placebo_pairs || release_fails_apart(rollout)) {
            alarm_halt(rollout, ALARM_ABSOLUTE, accused, NULL, NULL);
            return;
        }
        if (rollout->paused_environment ||
            !log_at_least(log_mean(rollout, SCOPE_ALL, false, &accused), rollout->log_threshold))
            return;
        if (!take_out_of_service(rollout, accused)) {
            pause_for_environment(rollout, accused);
            return;
        }
    }
}

static void resume_from_environment(struct rollout *rollout)
{
    rollout->paused_environment = false;
    set_because(rollout, ALARM_ENVIRONMENT, rollout->accused, NULL, NULL);
    announce(rollout, DECISION_RESUME);
    check_absolute(rollout);
}

/* The world is well now, but what accuses the release happened outside pairs, at an hour of which
 * no placebo tells. Alarm A starts afresh outside pairs, and the devices that wait for the release
 * go into pairs once more, where coins decide. */
static void arm_again(struct rollout *rollout)
{
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        stratum->alone = (struct counts){.begun = stratum->alone_open};
    }
    if (rollout->round < UINT8_MAX)
        rollout->round++;
    resume_from_environment(rollout);
}

/* The pairs alone are enough for alarm A. */
static bool pairs_accuse(const struct rollout *rollout)
{
    uint32_t accused;
    return log_at_least(log_mean(rollout, SCOPE_PAIRS, true, &accused), rollout->log_threshold);
}

/* Placebos of the control check that have to be healthy, given those that failed: ten, or as many
 * as it takes to say at odds of ten to one that placebos do not now fail at the rate at which the
 * release did, but at most at the cap. A release that failed often is refuted by ten. */
static unsigned control_needed(const struct rollout *rollout)
{
    double tolerated, cap = rollout->policy.tolerance_cap;
    struct counts counts = pooled_counts(rollout, SCOPE_PAIRS, true, &tolerated);
    if (rollout->accused != NONE)
        counts = counts_of(&rollout->strata[rollout->accused], SCOPE_PAIRS);
    if (counts.failed == 0 || !pairs_accuse(rollout)) /* it can only come to arm_again() */
        return CONTROL_PLACEBOS;
    double rate = fmin((double)counts.failed / (double)counts.begun, 0.9);
    double gain = log((1 - cap) / (1 - rate)), loss = log(cap / rate);
    if (gain < 0.01)
        return CONTROL_PLACEBOS * (1 + rollout->check_failed);
    double needed = (log(ENVIRONMENT_ODDS) - rollout->check_failed * loss) / gain;
    return (unsigned)fmax(CONTROL_PLACEBOS, ceil(round_decision(needed)));
}

/* The ways in which a pause for the environment ends by itself. */
static void check_environment(struct rollout *rollout)
{
    if (release_fails_apart(rollout)) {
        alarm_halt(rollout, ALARM_ABSOLUTE, rollout->accused, NULL, NULL);
    } else if (take_out_of_service(rollout, rollout->accused)) {
        resume_from_environment(rollout);
    } else if (rollout->check_clean >= control_needed(rollout)) {
        if (pairs_accuse(rollout))
            alarm_halt(rollout, ALARM_ABSOLUTE, rollout->accused, NULL, NULL);
        else
            arm_again(rollout);
    }
}

double alarm_patience_ends(const struct rollout *rollout)
{
    if (!rollout->paused_environment || rollout->check_open > 0)
        return INFINITY;
    return rollout->check_moved_at + CHECK_PATIENCE * rollout->policy.deadline;
}

void alarm_lapse(struct rollout *rollout)
{
    if (rollout->halted || rollout->now < alarm_patience_ends(rollout))
        return;
    excuse(rollout, rollout->accused);
    resume_from_environment(rollout);
}

bool alarm_wants_control(const struct rollout *rollout, uint32_t stratum)
{
    /* Devices of the accused stratum come first; if none comes, anybody's word is better than a
     * pause without end. */
    bool nobody_came = rollout->now - rollout->check_moved_at > 2 * rollout->policy.deadline;
    return rollout->paused_environment && !rollout->paused_person &&
           (rollout->accused == NONE || rollout->accused == stratum || nobody_came) &&
           rollout->check_open + rollout->check_clean < control_needed(rollout);
}

void alarm_toss(struct rollout *rollout)
{
    if (!rollout->halted)
        rollout->proven_harm = split_proven_harm(rollout->k_release, rollout->k_placebo,
                                                 rollout->policy.alpha, rollout->proven_harm);
}

void alarm_check(struct rollout *rollout)
{
    if (rollout->halted)
        return;
    if (rollout->proven_harm > (uint64_t)floor(rollout->policy.harm_budget)) {
        alarm_halt(rollout, ALARM_PROVEN_HARM, NONE, NULL, NULL);
        return;
    }
    if (rollout->absolute_moved) {
        rollout->absolute_moved = false;
        check_absolute(rollout);
    }
    if (rollout->paused_environment && !rollout->halted)
        check_environment(rollout);
}
