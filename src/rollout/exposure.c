#include "rollout/internal.h"

#include <assert.h>
#include <math.h>

/* The heap: each exposure knows its place, so that a report takes it out in O(log n). */

static bool earlier(const struct rollout *rollout, uint32_t a, uint32_t b)
{
    const struct exposure *x = &rollout->exposures[a], *y = &rollout->exposures[b];
    return x->deadline < y->deadline || (x->deadline == y->deadline && x->sequence < y->sequence);
}

static void heap_put(struct rollout *rollout, uint32_t at, uint32_t number)
{
    rollout->heap[at] = number;
    rollout->exposures[number].heap = at;
}

static void heap_up(struct rollout *rollout, uint32_t at)
{
    uint32_t number = rollout->heap[at];
    while (at > 0 && earlier(rollout, number, rollout->heap[(at - 1) / 2])) {
        heap_put(rollout, at, rollout->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(rollout, at, number);
}

static void heap_down(struct rollout *rollout, uint32_t at)
{
    uint32_t number = rollout->heap[at];
    for (uint32_t child; (child = 2 * at + 1) < rollout->heap_count; at = child) {
        if (child + 1 < rollout->heap_count &&
            earlier(rollout, rollout->heap[child + 1], rollout->heap[child]))
            child++;
        if (!earlier(rollout, rollout->heap[child], number))
            break;
        heap_put(rollout, at, rollout->heap[child]);
    }
    heap_put(rollout, at, number);
}

static void heap_add(struct rollout *rollout, uint32_t number)
{
    ARRAY_ROOM(rollout->heap, rollout->heap_count, rollout->heap_cap);
    rollout->heap[rollout->heap_count] = number;
    heap_up(rollout, rollout->heap_count++);
}

static void heap_remove(struct rollout *rollout, uint32_t number)
{
    uint32_t at = rollout->exposures[number].heap;
    uint32_t last = rollout->heap[--rollout->heap_count];
    if (last == number)
        return;
    heap_put(rollout, at, last);
    heap_up(rollout, at);
    heap_down(rollout, rollout->exposures[last].heap);
}

uint32_t exposure_open(struct rollout *rollout, uint32_t number, enum rollout_arm arm)
{
    struct device *device = &rollout->devices[number];
    uint32_t slot = rollout->exposure_free;
    if (slot != NONE) {
        rollout->exposure_free = rollout->exposures[slot].heap;
    } else {
        slot = rollout->exposure_count++;
        ARRAY_ROOM(rollout->exposures, slot, rollout->exposure_cap);
    }
    rollout->exposures[slot] = (struct exposure){
        .deadline = rollout->now + rollout->policy.deadline,
        .begun = rollout->now,
        .sequence = rollout->sequence++,
        .device = number,
        .pair = NONE,
        .stratum = device_stratum(rollout, device),
        .profile = device->profile,
        .stage = rollout->stage,
        .arm = (uint8_t)arm,
        .before = device->state,
    };
    heap_add(rollout, slot);

    device->slot = slot;
    device->in_flight = true;
    device->was_silent = false;
    device->state = arm == ARM_RELEASE ? DEVICE_IN_RELEASE : DEVICE_IN_PLACEBO;
    if (device->group != NONE)
        rollout->groups[device->group].trials++;
    if (arm == ARM_RELEASE) {
        rollout->permits++;
        rollout->in_flight++;
    } else {
        rollout->placebos++;
        rollout->placebo_in_flight++;
    }
    return slot;
}

/* A release outside pairs: no coin hides it, so it counts at once. */
static void settle_alone(struct rollout *rollout, const struct exposure *exposure, char outcome)
{
    struct stratum *stratum = &rollout->strata[exposure->stratum];
    struct counts *counts = &stratum->arm[ARM_RELEASE];
    uint32_t organisation = rollout->devices[exposure->device].organisation;

    room_give(rollout, exposure->stratum);
    organisation_room(rollout, organisation, exposure->stratum, false);
    stratum->alone_open--;
    if (outcome == 'd') {
        counts->begun--;
        stratum->alone.begun--;
        cell_of(rollout, organisation, exposure->stratum)->alone.begun--;
        rollout->granted--;
        rollout->organisations[organisation].granted--;
        rollout->absolute_moved = true;
        return;
    }
    counts->settled++;
    cell_settled(rollout, organisation, exposure->stratum, outcome != 'h');
    if (outcome != 'h') {
        counts->failed++;
        stratum->alone.failed++;
        cell_of(rollout, organisation, exposure->stratum)->alone.failed++;
        rollout->absolute_moved = true;
    }
    if (exposure->stage == rollout->stage)
        rollout->stage_settled++;
    stratum_price(rollout, exposure->stratum);
}

/* A placebo of a control check. Its failure weighs against a harm of the release like any other
 * placebo's. */
static void settle_control(struct rollout *rollout, const struct exposure *exposure, char outcome)
{
    struct counts *counts = &rollout->strata[exposure->stratum].arm[ARM_PLACEBO];
    bool current = exposure->check == rollout->check;
    if (current)
        rollout->check_open--;
    if (outcome == 'd') {
        counts->begun--;
        rollout->placebos_moved = true;
        return;
    }
    counts->settled++;
    if (outcome == 'h') {
        rollout->check_clean += current;
    } else {
        counts->failed++;
        rollout->check_failed += current;
        rollout->placebos_moved = true;
        if (!rollout->halted) {
            rollout->k_placebo++;
            quorum_toss(rollout, rollout->devices[exposure->device].organisation, false);
        }
        alarm_toss(rollout);
    }
    stratum_price(rollout, exposure->stratum);
}

static void count_for_view(struct rollout *rollout, enum rollout_arm arm, char outcome)
{
    bool failed = outcome == 'f' || outcome == 's';
    if (arm == ARM_RELEASE)
        rollout->in_flight--;
    else
        rollout->placebo_in_flight--;
    if (outcome == 'd') {
        rollout->declined++;
        if (arm == ARM_RELEASE)
            rollout->permits--;
        else
            rollout->placebos--;
    } else if (arm == ARM_RELEASE) {
        rollout->settled++;
        rollout->healthy += outcome == 'h';
        rollout->failed += failed;
        rollout->silent += outcome == 's';
        if (failed && isnan(rollout->first_failure_at))
            rollout->first_failure_at = rollout->now;
    } else {
        rollout->placebo_settled++;
        rollout->placebo_failed += failed;
    }
}

void exposure_settle(struct rollout *rollout, uint32_t number, char outcome)
{
    const struct exposure exposure = rollout->exposures[number];
    struct device *device = &rollout->devices[exposure.device];

    heap_remove(rollout, number);
    rollout->exposures[number] = (struct exposure){.heap = rollout->exposure_free};
    rollout->exposure_free = number;

    device->slot = NONE;
    device->in_flight = false;
    device->was_silent = outcome == 's';
    if (device->group != NONE)
        rollout->groups[device->group].trials--;
    if (outcome == 'd' || exposure.check != 0)
        device->state = exposure.before;
    else if (exposure.arm == ARM_PLACEBO)
        device->state = DEVICE_PLACEBO_DONE;
    else
        device->state = outcome == 'h' ? DEVICE_HEALTHY : DEVICE_FAILED;
    count_for_view(rollout, exposure.arm, outcome);
    slices_settle(rollout, &exposure, outcome);

    if (exposure.pair != NONE)
        pair_settle(rollout, exposure.pair, exposure.member, outcome);
    else if (exposure.arm == ARM_RELEASE)
        settle_alone(rollout, &exposure, outcome);
    else
        settle_control(rollout, &exposure, outcome);
    alarm_check(rollout);
}

static void settle_silent(struct rollout *rollout, uint32_t number)
{
    const struct exposure *exposure = &rollout->exposures[number];
    emit(rollout, &(struct rollout_decision){
                      .type = DECISION_SILENT,
                      .device = exposure->device,
                      .pair = exposure->pair == NONE ? 0 : (uint64_t)exposure->pair + 1,
                      .arm = exposure->arm,
                      .deadline = exposure->deadline,
                  });
    exposure_settle(rollout, number, 's');
}

void exposure_interrupted(struct rollout *rollout, uint32_t number)
{
    struct exposure *exposure = &rollout->exposures[number];
    rollout->interrupted++;
    if (exposure->interruptions >= rollout->policy.interruptions) {
        settle_silent(rollout, number);
        return;
    }
    exposure->interruptions++;
    heap_remove(rollout, number);
    exposure->deadline = rollout->now + rollout->policy.interrupted_for;
    heap_add(rollout, number);
}

void exposure_deadlines(struct rollout *rollout, double t, uint32_t reporting)
{
    while (rollout->heap_count > 0) {
        uint32_t number = rollout->heap[0];
        double deadline = rollout->exposures[number].deadline;
        if (deadline > t)
            break;
        if (rollout->exposures[number].device == reporting && deadline == t) {
            /* A report at the deadline is in time. Others of the same moment go first. */
            heap_remove(rollout, number);
            exposure_deadlines(rollout, t, NONE);
            heap_add(rollout, number);
            break;
        }
        settle_silent(rollout, number);
    }
}

void exposure_outage(struct rollout *rollout, double from, double to)
{
    for (uint32_t i = 0; i < rollout->heap_count; i++) {
        struct exposure *exposure = &rollout->exposures[rollout->heap[i]];
        if (exposure->begun < to && exposure->deadline > from)
            exposure->deadline += to - from;
    }
    for (uint32_t i = rollout->heap_count / 2; i-- > 0;)
        heap_down(rollout, i);
}
