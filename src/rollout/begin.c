#include "rollout/internal.h"

#include <math.h>
#include <string.h>

static void refuse(struct rollout *rollout, uint32_t device, enum rollout_reason reason)
{
    double soon = retry_soon(rollout), later = fmin(4 * soon, 240);
    bool no = reason == REASON_HALTED || reason == REASON_ALREADY ||
              reason == REASON_FAILED_BEFORE || reason == REASON_EXCLUDED;
    bool rare = reason == REASON_STAGE_SHARE || reason == REASON_STAGE_ORGANISATION ||
                reason == REASON_HOLD;
    emit(rollout, &(struct rollout_decision){
                      .type = no ? DECISION_NO : DECISION_WAIT,
                      .device = device,
                      .reason = reason,
                      .retry_after = no     ? 0
                                     : rare ? later
                                            : soon,
                  });
}

static void grant(struct rollout *rollout, uint32_t device, uint32_t slot)
{
    const struct exposure *exposure = &rollout->exposures[slot];
    emit(rollout, &(struct rollout_decision){
                      .type = exposure->arm == ARM_RELEASE ? DECISION_PERMIT : DECISION_PLACEBO,
                      .device = device,
                      .pair = exposure->pair == NONE ? 0 : (uint64_t)exposure->pair + 1,
                      .arm = exposure->arm,
                      .deadline = exposure->deadline,
                      .stage = rollout->policy.stages[rollout->stage].name,
                  });
}

static void grant_member(struct rollout *rollout, uint32_t device, uint32_t number, unsigned member)
{
    struct pair *pair = &rollout->pairs[number];
    enum rollout_arm arm = pair_arm(pair, member);
    uint32_t slot = exposure_open(rollout, device, arm);
    rollout->exposures[slot].pair = number;
    rollout->exposures[slot].member = (uint8_t)member;
    slices_begun(rollout, &rollout->devices[device]);
    rollout->devices[device].round = rollout->round;
    if (arm == ARM_PLACEBO)
        rollout->devices[device].pair = number;
    else
        pair->release_stage = rollout->stage;
    grant(rollout, device, slot);
}

static void grant_alone(struct rollout *rollout, uint32_t device)
{
    uint32_t stratum = device_stratum(rollout, &rollout->devices[device]);
    uint32_t organisation = rollout->devices[device].organisation;
    rollout->strata[stratum].arm[ARM_RELEASE].begun++;
    rollout->strata[stratum].alone.begun++;
    cell_of(rollout, organisation, stratum)->alone.begun++;
    rollout->strata[stratum].alone_open++;
    rollout->granted++;
    rollout->organisations[organisation].granted++;
    room_take(rollout, stratum);
    organisation_room(rollout, organisation, stratum, true);
    grant(rollout, device, exposure_open(rollout, device, ARM_RELEASE));
}

static void grant_control(struct rollout *rollout, uint32_t device)
{
    uint32_t slot = exposure_open(rollout, device, ARM_PLACEBO);
    rollout->strata[device_stratum(rollout, &rollout->devices[device])].arm[ARM_PLACEBO].begun++;
    rollout->exposures[slot].check = rollout->check;
    rollout->check_open++;
    rollout->check_moved_at = rollout->now;
    grant(rollout, device, slot);
}

static bool stage_has(const struct policy_stage *stage, const char *organisation)
{
    if (!stage->organisations)
        return true;
    for (char *const *name = stage->organisations; *name; name++)
        if (strcmp(*name, organisation) == 0)
            return true;
    return false;
}

/* What the device's own history says, whatever the rollout's state is. */
static enum rollout_reason own_state(const struct rollout *rollout, const struct device *device)
{
    switch ((enum rollout_device_state)device->state) {
    case DEVICE_IN_PLACEBO:
    case DEVICE_IN_RELEASE:
        return REASON_OPEN_PERMIT;
    case DEVICE_HEALTHY:
        return REASON_ALREADY;
    case DEVICE_FAILED:
    case DEVICE_REVERTED:
        return REASON_FAILED_BEFORE;
    case DEVICE_PLACEBO_DONE:
        return rollout->pairs[device->pair].closed ? REASON_NONE : REASON_PAIR_OPEN;
    case DEVICE_NEW:
        break;
    }
    return REASON_NONE;
}

static bool group_busy(const struct rollout *rollout, const struct device *device)
{
    if (device->group == NONE)
        return false;
    const struct group *group = &rollout->groups[device->group];
    return group->trials > 0 || group->reverts > 0;
}

void begin(struct rollout *rollout, uint32_t number)
{
    const struct device *device = &rollout->devices[number];
    const struct policy_stage *stage = &rollout->policy.stages[rollout->stage];
    uint32_t own = device_stratum(rollout, device);
    struct stratum *stratum = &rollout->strata[own];
    uint32_t half_open = NONE;
    enum rollout_reason reason;

    if (rollout->halted)
        return refuse(rollout, number, REASON_HALTED);
    if ((reason = own_state(rollout, device)) != REASON_NONE)
        return refuse(rollout, number, reason);
    if (device->excluded)
        return refuse(rollout, number, REASON_EXCLUDED);
    if (!rollout->opened)
        return refuse(rollout, number, REASON_NOT_STARTED);
    stratum_meet(rollout, own);

    bool paused =
        rollout->paused_person || rollout->paused_environment || rollout->paused_organisation;
    bool control = paused && alarm_wants_control(rollout, own);
    if (paused && !control)
        return refuse(rollout, number, REASON_PAUSED);
    if (rollout->organisations[device->organisation].held ||
        rollout->organisations[device->organisation].accused)
        return refuse(rollout, number, REASON_HOLD);
    if (!stage_has(stage, rollout->organisation_names.text[device->organisation]))
        return refuse(rollout, number, REASON_STAGE_ORGANISATION);
    if (control) {
        /* Nothing of the release reaches it, so neither share nor window matters. */
        if (group_busy(rollout, device))
            return refuse(rollout, number, REASON_GROUP);
        return grant_control(rollout, number);
    }

    if (!device_in_share(device, stage->share))
        return refuse(rollout, number, REASON_STAGE_SHARE);
    bool pairs = rollout->policy.placebo_pairs &&
                 (device->state == DEVICE_NEW || device->round < rollout->round);
    if (pairs)
        half_open = stratum->half_open;
    if (half_open == NONE && stage_full(rollout))
        return refuse(rollout, number, REASON_STAGE_FULL);
    if (group_busy(rollout, device))
        return refuse(rollout, number, REASON_GROUP);
    if (half_open == NONE && !window_allows(rollout, own))
        return refuse(rollout, number, REASON_WINDOW);
    bool paid =
        half_open != NONE && rollout->pairs[half_open].organisation[0] == device->organisation;
    if (!paid && !organisation_allows(rollout, device->organisation, own))
        return refuse(rollout, number, REASON_ORGANISATION_BUDGET);

    if (half_open != NONE) {
        pair_join(rollout, half_open, number);
        grant_member(rollout, number, half_open, 1);
    } else if (pairs) {
        grant_member(rollout, number, pair_open(rollout, number), 0);
    } else {
        grant_alone(rollout, number);
    }
}
