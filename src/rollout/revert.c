#include "rollout/internal.h"

/* Revert permits lapse in the order in which they were given, so a queue is enough. */

static bool others_busy(const struct rollout *rollout, const struct device *device)
{
    if (device->group == NONE)
        return false;
    const struct group *group = &rollout->groups[device->group];
    return group->trials > (device->in_flight ? 1 : 0) || group->reverts > 0;
}

static void close_revert(struct rollout *rollout, struct device *device)
{
    rollout->reverts[device->slot].open = false;
    rollout->reverts_open--;
    device->reverting = false;
    device->slot = NONE;
    if (device->group != NONE)
        rollout->groups[device->group].reverts--;
}

static void grant(struct rollout *rollout, uint32_t number, double lapses)
{
    emit(rollout, &(struct rollout_decision){
                      .type = DECISION_REVERT,
                      .device = number,
                      .deadline = lapses,
                  });
}

void revert_ask(struct rollout *rollout, uint32_t number)
{
    struct device *device = &rollout->devices[number];
    if (device->reverting)
        return grant(rollout, number, rollout->reverts[device->slot].lapses);
    if (others_busy(rollout, device)) {
        emit(rollout, &(struct rollout_decision){
                          .type = DECISION_WAIT,
                          .device = number,
                          .reason = REASON_GROUP,
                          .retry_after = retry_soon(rollout),
                      });
        return;
    }
    /* A device in trial keeps its group busy by that; it needs no permit on the books. */
    if (device->in_flight)
        return grant(rollout, number, rollout->now + REVERT_LAPSES);
    if (rollout->revert_first == rollout->revert_count)
        rollout->revert_first = rollout->revert_count = 0;
    ARRAY_ROOM(rollout->reverts, rollout->revert_count, rollout->revert_cap);
    rollout->reverts[rollout->revert_count] = (struct revert){
        .device = number,
        .lapses = rollout->now + REVERT_LAPSES,
        .open = true,
    };
    device->slot = rollout->revert_count++;
    device->reverting = true;
    rollout->reverts_open++;
    if (device->group != NONE)
        rollout->groups[device->group].reverts++;
    grant(rollout, number, rollout->now + REVERT_LAPSES);
}

void revert_end(struct rollout *rollout, uint32_t number)
{
    struct device *device = &rollout->devices[number];
    if (device->reverting)
        close_revert(rollout, device);
    device->state = DEVICE_REVERTED;
}

void revert_lapse(struct rollout *rollout)
{
    while (rollout->revert_first < rollout->revert_count) {
        const struct revert *first = &rollout->reverts[rollout->revert_first];
        if (first->open && first->lapses > rollout->now)
            break;
        if (first->open)
            close_revert(rollout, &rollout->devices[first->device]);
        rollout->revert_first++;
    }
}
