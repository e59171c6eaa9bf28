#include "base/buf.h"
#include "rollout/alarm-evidence.h"

#include <math.h>

/* What a clean control check is worth, as odds. */
#define CHECKED 20.0

static void set_because(struct rollout *rollout, enum rollout_alarm alarm, uint32_t slice,
                        const char *by, const char *reason)
{
    struct rollout_because *because = &rollout->because;
    double tolerated;
    struct counts counts = alarm_pooled(rollout, SCOPE_ALL, ANY_SERVICE, &tolerated);
    if (slice != NONE) {
        counts = alarm_counts(rollout, slice, SCOPE_ALL);
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
        .log_e = alarm_log_rate(rollout, &counts, tolerated),
        .k_release = rollout->k_release,
        .k_placebo = rollout->k_placebo,
        .proven_harm = rollout->proven_harm,
        .by = rollout->because_by,
        .reason = rollout->because_reason,
    };
}

/* "organisation=acme", as its slice is called. */
static const char *organisation_slice(struct rollout *rollout, uint32_t number)
{
    free(rollout->because_slice);
    rollout->because_slice = xasprintf("organisation=%s", rollout->organisation_names.text[number]);
    return rollout->because_slice;
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
    if (rollout->halted ||
        (!rollout->paused_person && !rollout->paused_environment && !rollout->paused_organisation))
        return;
    rollout->excused_organisation |= rollout->paused_organisation;
    if (rollout->paused_environment)
        excuse(rollout, rollout->accused);
    rollout->paused_person = rollout->paused_environment = rollout->paused_organisation = false;
    set_because(rollout, ALARM_PERSON, NONE, by, reason);
    announce(rollout, DECISION_RESUME);
}

static double log_coins(const struct rollout *rollout)
{
    uint64_t k_release, k_placebo;
    quorum_tosses(rollout, &k_release, &k_placebo);
    return split_log_evidence(k_release, k_placebo, 0);
}

/* What the coins have to say before alarm A may halt without them alone: in a policy that accepts a
 * false halt in a hundred rollouts or more, all of it. */
static bool coins_alone(const struct rollout *rollout)
{
    return rollout->policy.alpha >= 0.01;
}

/* Evidence against "a pair has a failure with a probability of at most that of two devices that
 * fail at `WIDE` times the cap", times e_0: the coins are fair given which
 * pairs have failures, so the product is a supermartingale in any fleet whose noise stays below
 * that, whoever the release harms or not. */
#define WIDE 5.0

static double log_pairs(const struct rollout *rollout, uint64_t pairs, uint64_t decided)
{
    double rate = fmin(WIDE * rollout->policy.tolerance_cap, 0.5);
    return rate_log_evidence(&rollout->mixture, pairs, decided < pairs ? decided : pairs,
                             rate * (2 - rate));
}

static double log_joint(const struct rollout *rollout, uint32_t accused)
{
    uint64_t pairs = 0, decided = 0;
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        uint32_t number = rollout->ranked[i];
        pairs += alarm_counts(rollout, number, SCOPE_PAIRS).begun;
        decided += quorum_decided(rollout, number, rollout->strata[number].decided);
    }
    double evidence = log_pairs(rollout, pairs, decided);
    if (rollout->ranked_count > 1)
        evidence += log(WEIGHT_POOLED);
    if (accused != NONE && rollout->ranked_count > 1) {
        const struct stratum *stratum = &rollout->strata[accused];
        evidence =
            fmax(evidence, alarm_log_weight(stratum->rank) +
                               log_pairs(rollout, alarm_counts(rollout, accused, SCOPE_PAIRS).begun,
                                         quorum_decided(rollout, accused, stratum->decided)));
    }
    return evidence + log_coins(rollout);
}

static bool coins_prove(const struct rollout *rollout)
{
    return log_at_least(log_coins(rollout), rollout->log_threshold);
}

/* The placebos do not fail in the same way: e_0 ≥ 10, and more where ten is too little. */
static bool release_fails_apart(const struct rollout *rollout, uint32_t accused)
{
    double coins = log_coins(rollout);
    if (!log_at_least(coins, log(ENVIRONMENT_ODDS)))
        return false;
    if (coins_prove(rollout))
        return true;
    if (coins_alone(rollout))
        return false;
    if (rollout->k_placebo == 0) /* of all that the fleet's noise would break, none was a placebo */
        return true;
    return log_at_least(log_joint(rollout, accused), rollout->log_threshold) ||
           (rollout->world_well && log_at_least(coins + log(CHECKED), rollout->log_threshold));
}

/* After a clean control check: the same, with what the check is worth. */
static bool check_convicts(const struct rollout *rollout)
{
    if (coins_alone(rollout))
        return false;
    if (rollout->k_placebo == 0)
        return true;
    double coins = log_coins(rollout), joint = log_joint(rollout, rollout->accused);
    return log_at_least(joint + log(CHECKED), rollout->log_threshold) ||
           log_at_least(coins + log(CHECKED), rollout->log_threshold);
}

/* The placebos' own evidence against the cap, of one stratum or of all in service. */
static bool placebos_fail(const struct rollout *rollout, uint32_t accused, uint64_t least)
{
    struct counts sum = {0};
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *stratum = &rollout->strata[rollout->ranked[i]];
        if (accused == NONE ? stratum->out_of_service : rollout->ranked[i] != accused)
            continue;
        sum.begun += stratum->arm[ARM_PLACEBO].begun;
        sum.failed += stratum->arm[ARM_PLACEBO].failed;
    }
    return sum.failed >= least &&
           log_at_least(alarm_log_rate(rollout, &sum, rollout->policy.tolerance_cap),
                        log(ENVIRONMENT_ODDS));
}

static void out_of_service(struct rollout *rollout, uint32_t number)
{
    rollout->strata[number].out_of_service = true;
    stratum_price(rollout, number); /* its tolerance follows the placebos from here on */
}

/* Takes the capped alarm A out of service where the placebos fail by themselves. When all strata
 * together stand accused, those whose own placebos say so go first, and all of them only if none
 * does. */
static bool take_out_of_service(struct rollout *rollout, uint32_t accused, uint64_t least)
{
    bool any = false;
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        uint32_t number = rollout->ranked[i];
        struct stratum *stratum = &rollout->strata[number];
        if ((accused != NONE && accused != number) || stratum->out_of_service ||
            stratum->arm[ARM_PLACEBO].failed < least ||
            (least <= 1 && stratum->arm[ARM_RELEASE].failed == 0) ||
            !placebos_fail(rollout, number, least))
            continue;
        out_of_service(rollout, number);
        any = true;
    }
    if (!any && accused == NONE && placebos_fail(rollout, NONE, least)) {
        for (uint32_t i = 0; i < rollout->ranked_count; i++)
            out_of_service(rollout, rollout->ranked[i]);
        any = true;
    }
    return any;
}

/* As soon as the placebos say so, before A is looked at; during a pause the check sees to it. One
 * failure alone is no pattern, and would blind A in one small fleet of thirty: it counts once A
 * accuses the release. */
static void follow_placebos(struct rollout *rollout)
{
    if (!rollout->placebos_moved || rollout->paused_environment)
        return;
    rollout->placebos_moved = false;
    take_out_of_service(rollout, NONE, 2);
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

static bool stands_proven(struct rollout *rollout, uint32_t subject)
{
    uint64_t k_release, k_placebo;
    (void)subject;
    quorum_tosses(rollout, &k_release, &k_placebo);
    return split_proven_harm(k_release, k_placebo, rollout->policy.alpha, 0) >
           (uint64_t)floor(rollout->policy.harm_budget);
}

static bool stands_absolute(struct rollout *rollout, uint32_t accused)
{
    uint32_t other;
    if (stands_proven(rollout, accused))
        return true;
    if (coins_prove(rollout) &&
        log_at_least(alarm_log_mean(rollout, SCOPE_ALL, ANY_SERVICE, true, &other),
                     rollout->log_threshold))
        return true;
    return log_at_least(alarm_log_mean(rollout, SCOPE_ALL, IN_SERVICE, true, &other),
                        rollout->log_threshold) &&
           (!rollout->policy.placebo_pairs || release_fails_apart(rollout, accused));
}

static bool pairs_accuse(const struct rollout *rollout);

static bool stands_checked(struct rollout *rollout, uint32_t accused)
{
    return stands_absolute(rollout, accused) || (pairs_accuse(rollout) && check_convicts(rollout));
}

/* The organisation's own reports would halt a rollout that was its alone, but for the coins, of
 * which a handful is enough to stop it for itself. */
static bool stops_itself(const struct rollout *rollout, uint32_t number)
{
    const struct organisation *organisation = &rollout->organisations[number];
    double rate = rate_log_evidence(&rollout->mixture, organisation->settled, organisation->failed,
                                    rollout->policy.tolerance_cap);
    double coins = split_log_evidence(organisation->k_release, organisation->k_placebo, 0);
    return log_at_least(rate, rollout->log_threshold) &&
           (!rollout->policy.placebo_pairs || log_at_least(coins, log(ENVIRONMENT_ODDS / 2)));
}

/* The alarm does not stand without this organisation. Where nobody else's device has failed, it is
 * one organisation's alarm: the others wait for a person, and it is stopped for itself. Where
 * others have failures, too, the rollout goes on, with the price that these failures ask for, until
 * theirs stand alone: a pause would leave a release that breaks everything without its proof. */
static void suspect_organisation(struct rollout *rollout, uint32_t number)
{
    struct organisation *organisation = &rollout->organisations[number];
    bool was_paused = rollout->paused_environment, alone = true;
    for (uint32_t i = 0; i < rollout->organisation_names.count; i++)
        alone &= i == number ||
                 rollout->organisations[i].failed + rollout->organisations[i].regressed == 0;
    organisation->accused |= alone || stops_itself(rollout, number);
    if (alone && !rollout->paused_organisation && !rollout->excused_organisation) {
        rollout->paused_environment = false;
        rollout->paused_organisation = true;
        set_because(rollout, ALARM_ORGANISATION, NONE, NULL, NULL);
        rollout->because.slice = organisation_slice(rollout, number);
        rollout->because.n = organisation->settled;
        rollout->because.k = organisation->failed;
        announce(rollout, DECISION_PAUSE);
        return;
    }
    if (was_paused) {
        rollout->paused_environment = false;
        announce(rollout, DECISION_RESUME);
    }
}

static bool convict(struct rollout *rollout, enum rollout_alarm alarm, uint32_t accused,
                    bool (*stands)(struct rollout *, uint32_t))
{
    uint32_t organisation;
    bool survives = quorum_survives(rollout, stands, accused, &organisation);
    if (survives)
        alarm_halt(rollout, alarm, accused, NULL, NULL);
    else
        suspect_organisation(rollout, organisation);
    return survives;
}

/* Alarm A. Where the coins alone prove harm, the noise above the cap is no excuse: the tolerance
 * follows the placebos there. */
static void check_absolute(struct rollout *rollout)
{
    uint32_t accused;
    if (coins_prove(rollout) &&
        log_at_least(alarm_log_mean(rollout, SCOPE_ALL, ANY_SERVICE, true, &accused),
                     rollout->log_threshold)) {
        convict(rollout, ALARM_ABSOLUTE, accused, stands_absolute);
        return;
    }
    while (log_at_least(alarm_log_mean(rollout, SCOPE_ALL, IN_SERVICE, true, &accused),
                        rollout->log_threshold)) {
        if (!rollout->policy.placebo_pairs || release_fails_apart(rollout, accused)) {
            convict(rollout, ALARM_ABSOLUTE, accused, stands_absolute);
            return;
        }
        if (rollout->paused_environment || rollout->paused_organisation ||
            !log_at_least(alarm_log_mean(rollout, SCOPE_ALL, IN_SERVICE, false, &accused),
                          rollout->log_threshold))
            return;
        if (!take_out_of_service(rollout, accused, 1)) {
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
    return log_at_least(alarm_log_mean(rollout, SCOPE_PAIRS, IN_SERVICE, true, &accused),
                        rollout->log_threshold);
}

/* Placebos of the control check that have to be healthy, given those that failed: ten, or as many
 * as it takes to say at odds of ten to one that placebos do not now fail at the rate at which the
 * release did, but at most at the cap. A release that failed often is refuted by ten. */
static unsigned control_needed(const struct rollout *rollout)
{
    double tolerated, cap = rollout->policy.tolerance_cap;
    struct counts counts = alarm_pooled(rollout, SCOPE_PAIRS, IN_SERVICE, &tolerated);
    if (rollout->accused != NONE)
        counts = alarm_counts(rollout, rollout->accused, SCOPE_PAIRS);
    if (counts.failed == 0 || !pairs_accuse(rollout)) /* it can only come to arm_again() */
        return CONTROL_PLACEBOS;
    double rate = fmin((double)counts.failed / (double)counts.begun, 0.9);
    double gain = log((1 - cap) / (1 - rate)), loss = log(cap / rate);
    if (gain < 0.01)
        return CONTROL_PLACEBOS * (1 + rollout->check_failed);
    double needed = (log(ENVIRONMENT_ODDS) - rollout->check_failed * loss) / gain;
    return (unsigned)fmax(CONTROL_PLACEBOS, ceil(round_decision(needed)));
}

/* The world is well and the pairs accuse the release, but with so few failures that a spell which
 * is over may have caused them: the coins decide, and need less from now on. */
static void leave_to_coins(struct rollout *rollout)
{
    rollout->world_well = true;
    excuse(rollout, rollout->accused);
    resume_from_environment(rollout);
}

/* The ways in which a pause for the environment ends by itself. */
static void check_environment(struct rollout *rollout)
{
    if (release_fails_apart(rollout, rollout->accused)) {
        convict(rollout, ALARM_ABSOLUTE, rollout->accused, stands_absolute);
    } else if (take_out_of_service(rollout, rollout->accused, 1)) {
        resume_from_environment(rollout);
    } else if (rollout->check_clean >= control_needed(rollout)) {
        if (!pairs_accuse(rollout))
            arm_again(rollout);
        else if (check_convicts(rollout))
            convict(rollout, ALARM_ABSOLUTE, rollout->accused, stands_checked);
        else
            leave_to_coins(rollout);
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

/* Named by its slice; the numbers are the slice's own. */
static void halt_for_slice(struct rollout *rollout, uint32_t slice)
{
    const struct slice_counts *counts = &rollout->slices[slice];
    rollout->halted = true;
    rollout->halted_at = rollout->now;
    set_because(rollout, ALARM_ABSOLUTE, NONE, NULL, NULL);
    rollout->because.slice = rollout->slice_names.text[slice];
    rollout->because.n = counts->settled;
    rollout->because.k = counts->failed;
    rollout->because.tolerated = rollout->policy.tolerance_cap;
    rollout->because.log_e = rate_log_evidence(&rollout->mixture, counts->settled, counts->failed,
                                               rollout->policy.tolerance_cap);
    announce(rollout, DECISION_HALT);
}

static void convict_slice(struct rollout *rollout, uint32_t slice)
{
    uint32_t organisation;
    if (quorum_survives(rollout, slice_stands, slice, &organisation))
        halt_for_slice(rollout, slice);
    else
        suspect_organisation(rollout, organisation);
}

/* Confirmed devices that fail in their watch, against the cap. No placebo is watched that long, so
 * this rests on the cap: it says nothing where the placebos fail above it, nor where a false halt
 * in a hundred is accepted and only coins halt. */
static struct counts watch_counts(const struct rollout *rollout)
{
    struct counts counts = {.failed = rollout->regressed};
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct counts *release = &rollout->strata[rollout->ranked[i]].arm[ARM_RELEASE];
        counts.begun += release->settled - release->failed;
    }
    for (uint32_t i = 0; i < rollout->left_count; i++) {
        const struct organisation *left = &rollout->organisations[rollout->left[i]];
        counts.begun -= left->settled - left->failed;
        counts.failed -= left->regressed;
    }
    if (counts.begun < counts.failed)
        counts.begun = counts.failed;
    return counts;
}

static bool stands_watch(struct rollout *rollout, uint32_t subject)
{
    (void)subject;
    struct counts counts = watch_counts(rollout);
    return counts.failed > 0 &&
           log_at_least(alarm_log_rate(rollout, &counts, rollout->policy.tolerance_cap) +
                            log_part_share(rollout) - log(16),
                        rollout->log_threshold);
}

static void check_watch(struct rollout *rollout)
{
    uint32_t organisation;
    rollout->late_moved = false;
    if (coins_alone(rollout))
        return;
    for (uint32_t i = 0; i < rollout->ranked_count; i++)
        if (rollout->strata[rollout->ranked[i]].out_of_service)
            return;
    if (!stands_watch(rollout, NONE))
        return;
    if (!quorum_survives(rollout, stands_watch, NONE, &organisation)) {
        suspect_organisation(rollout, organisation);
        return;
    }
    struct counts counts = watch_counts(rollout);
    rollout->halted = true;
    rollout->halted_at = rollout->now;
    set_because(rollout, ALARM_ABSOLUTE, NONE, NULL, NULL);
    rollout->because.slice = "in the watch";
    rollout->because.n = counts.begun;
    rollout->because.k = counts.failed;
    rollout->because.tolerated = rollout->policy.tolerance_cap;
    rollout->because.log_e = alarm_log_rate(rollout, &counts, rollout->policy.tolerance_cap);
    announce(rollout, DECISION_HALT);
}

void alarm_check(struct rollout *rollout)
{
    if (rollout->halted)
        return;
    if (rollout->proven_harm > (uint64_t)floor(rollout->policy.harm_budget)) {
        if (convict(rollout, ALARM_PROVEN_HARM, NONE, stands_proven))
            return;
    }
    uint32_t slice = slices_accused(rollout);
    if (slice != NONE) {
        convict_slice(rollout, slice);
        return;
    }
    follow_placebos(rollout);
    if (rollout->late_moved) {
        check_watch(rollout);
        if (rollout->halted)
            return;
    }
    if (rollout->absolute_moved) {
        rollout->absolute_moved = false;
        check_absolute(rollout);
    }
    if (rollout->paused_environment && !rollout->halted)
        check_environment(rollout);
}
