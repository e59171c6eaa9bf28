#include "rollout/internal.h"

static enum rollout_state state_of(const struct rollout *rollout)
{
    if (rollout->halted)
        return ROLLOUT_HALTED;
    if (rollout->paused_person || rollout->paused_environment || rollout->paused_organisation)
        return ROLLOUT_PAUSED;
    return rollout->done ? ROLLOUT_DONE : ROLLOUT_RUNNING;
}

static double dearest(const struct rollout *rollout)
{
    uint64_t cost = 0;
    for (uint32_t i = 0; i < rollout->ranked_count; i++)
        if (rollout->strata[rollout->ranked[i]].cost > cost)
            cost = rollout->strata[rollout->ranked[i]].cost;
    return cost > 0 ? (double)cost / UNITS : 1;
}

void rollout_look(const struct rollout *rollout, struct rollout_view *ret)
{
    *ret = (struct rollout_view){
        .state = state_of(rollout),
        .t = rollout->now,
        .started_at = rollout->started_at,
        .halted_at = rollout->halted_at,
        .stage_opened_at = rollout->stage_opened_at,
        .stage = rollout->policy.stages[rollout->stage].name,
        .stage_index = rollout->stage,
        .stage_count = (unsigned)rollout->policy.stage_count,
        .permits = rollout->permits,
        .placebos = rollout->placebos,
        .settled = rollout->settled,
        .failed = rollout->failed,
        .healthy = rollout->healthy,
        .declined = rollout->declined,
        .silent = rollout->silent,
        .interrupted = rollout->interrupted,
        .regressed = rollout->regressed,
        .late = rollout->late,
        .placebo_settled = rollout->placebo_settled,
        .placebo_failed = rollout->placebo_failed,
        .in_flight = rollout->in_flight,
        .placebo_in_flight = rollout->placebo_in_flight,
        .pairs = rollout->pair_count,
        .pairs_open = rollout->pairs_open,
        .window_used = (double)rollout->used / UNITS,
        .window = rollout->policy.harm_budget,
        .cost = dearest(rollout),
        .log_e = alarm_log_evidence(rollout),
        .log_threshold = rollout->log_threshold,
        .k_release = rollout->k_release,
        .k_placebo = rollout->k_placebo,
        .log_split = split_log_evidence(rollout->k_release, rollout->k_placebo, 0),
        .proven_harm = rollout->proven_harm,
        .first_failure_at = rollout->first_failure_at,
        .reverts_open = rollout->reverts_open,
        .because = rollout->because,
    };
}

static void look_at_pair(const struct pair *pair, uint64_t number, struct rollout_pair_view *ret)
{
    unsigned release = pair->first_gets_release ? 0 : 1;
    *ret = (struct rollout_pair_view){
        .number = number,
        .release_device = pair->member[release],
        .placebo_device = pair->member[1 - release],
        .release_outcome = pair->outcome[release],
        .placebo_outcome = pair->outcome[1 - release],
        .closed = pair->closed,
    };
}

size_t rollout_pairs(const struct rollout *rollout, struct rollout_pair_view *ret, size_t cap)
{
    size_t count = rollout->pair_count < cap ? rollout->pair_count : cap;
    size_t first = rollout->pair_count - count;
    for (size_t i = 0; i < count; i++)
        look_at_pair(&rollout->pairs[first + i], first + i + 1, &ret[i]);
    return count;
}
