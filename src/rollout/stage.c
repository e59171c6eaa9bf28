#include "rollout/internal.h"

#include "base/buf.h"

#include <math.h>
#include <string.h>

static unsigned approvals_needed(const struct policy *policy)
{
    unsigned needed = policy->approvals_start;
    if (policy->class == POLICY_EMERGENCY && policy->approvals_emergency > needed)
        needed = policy->approvals_emergency;
    return needed <= 1 ? 0 : needed; /* whoever starts the rollout approves by that */
}

bool stage_started(const struct rollout *rollout)
{
    return rollout->approver_count >= approvals_needed(&rollout->policy);
}

static size_t stage_index(const struct rollout *rollout, const char *name)
{
    size_t i = 0;
    while (i < rollout->policy.stage_count && strcmp(rollout->policy.stages[i].name, name) != 0)
        i++;
    return i;
}

bool stage_known(const struct rollout *rollout, const char *name)
{
    return strcmp(name, "start") == 0 || stage_index(rollout, name) < rollout->policy.stage_count;
}

void stage_approve(struct rollout *rollout, const char *by, const char *name)
{
    bool start = name && strcmp(name, "start") == 0;
    if (start || (!name && !stage_started(rollout))) {
        for (unsigned i = 0; i < rollout->approver_count; i++)
            if (strcmp(rollout->approvers[i], by) == 0)
                return;
        rollout->approvers =
            xrealloc(rollout->approvers, rollout->approver_count + 1, sizeof *rollout->approvers);
        rollout->approvers[rollout->approver_count++] = xstrdup(by);
        return;
    }
    size_t index = name              ? stage_index(rollout, name)
                   : rollout->opened ? (size_t)rollout->stage + 1
                                     : 0;
    if (index < rollout->policy.stage_count)
        rollout->approved[index] = true;
}

bool stage_full(const struct rollout *rollout)
{
    uint64_t cap = rollout->policy.stages[rollout->stage].devices;
    return cap > 0 && rollout->granted + rollout->pairs_open >= cap;
}

static bool is_of(const struct policy_stage *stage, const char *organisation)
{
    for (char *const *name = stage->organisations; name && *name; name++)
        if (strcmp(*name, organisation) == 0)
            return true;
    return !stage->organisations;
}

static uint64_t left_of(uint64_t all, uint64_t taken)
{
    return all > taken ? all - taken : 0;
}

/* Devices that can still get the release in a stage, as far as the start event tells. Open pairs
 * count as taken: their releases may have been permitted before the stage. */
static uint64_t left_in_fleet(const struct rollout *rollout, const struct policy_stage *stage)
{
    uint64_t left = 0;
    if (rollout->fleet == 0 || stage->share < 1)
        return UINT64_MAX;
    if (!stage->organisations)
        return left_of(rollout->fleet, rollout->granted + rollout->pairs_open);
    for (uint32_t i = 0; i < rollout->organisation_names.count; i++) {
        const struct organisation *organisation = &rollout->organisations[i];
        if (is_of(stage, rollout->organisation_names.text[i]))
            left += left_of(organisation->devices, organisation->granted + organisation->rooms);
    }
    return left;
}

/* The settled exposures that the stage asks for, but never more than it can still permit. */
static uint64_t reach(const struct rollout *rollout, const struct policy_stage *stage)
{
    uint64_t asked = stage->min_settled, left = left_in_fleet(rollout, stage);
    if (stage->devices > 0) {
        uint64_t permits = left_of(stage->devices, rollout->granted + rollout->pairs_open);
        left = permits < left ? permits : left;
    }
    return left < asked ? left : asked;
}

static void open_stage(struct rollout *rollout, unsigned index)
{
    rollout->opened = true;
    rollout->stage = index;
    rollout->stage_opened_at = rollout->now;
    rollout->stage_settled = 0;
    rollout->stage_reach = reach(rollout, &rollout->policy.stages[index]);
    emit(rollout, &(struct rollout_decision){.type = DECISION_OPEN,
                                             .stage = rollout->policy.stages[index].name});
}

static bool may_open(const struct rollout *rollout, unsigned index)
{
    return !rollout->policy.stages[index].approval || rollout->approved[index];
}

static bool running(const struct rollout *rollout)
{
    return !rollout->halted && !rollout->paused_person && !rollout->paused_environment &&
           !rollout->paused_organisation;
}

/* What the stage in force still lacks besides time. */
static bool next_waits_for_time(const struct rollout *rollout)
{
    return rollout->stage + 1 < rollout->policy.stage_count &&
           rollout->stage_settled >= rollout->stage_reach && may_open(rollout, rollout->stage + 1);
}

static double stage_time(const struct rollout *rollout)
{
    return rollout->stage_opened_at + rollout->policy.stages[rollout->stage].min_time;
}

static void check_done(struct rollout *rollout)
{
    if (rollout->done || rollout->fleet == 0 || !rollout->opened ||
        rollout->stage + 1 < rollout->policy.stage_count || rollout->in_flight > 0 ||
        rollout->placebo_in_flight > 0 || rollout->settled < rollout->fleet)
        return;
    rollout->done = true;
    emit(rollout, &(struct rollout_decision){.type = DECISION_DONE});
}

void stage_check(struct rollout *rollout)
{
    if (!running(rollout))
        return;
    if (!rollout->opened) {
        if (!stage_started(rollout) || !may_open(rollout, 0))
            return;
        open_stage(rollout, 0);
    }
    while (next_waits_for_time(rollout) && rollout->now >= stage_time(rollout))
        open_stage(rollout, rollout->stage + 1);
    check_done(rollout);
}

double stage_tick(const struct rollout *rollout)
{
    if (!running(rollout))
        return INFINITY;
    if (!rollout->opened)
        return stage_started(rollout) && may_open(rollout, 0) ? rollout->now : INFINITY;
    return next_waits_for_time(rollout) ? stage_time(rollout) : INFINITY;
}
