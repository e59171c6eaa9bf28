#include "sim/run.h"

#include <errno.h>
#include <math.h>

/* From the decision to a device in trial: the leash answers at once, the adapter goes back. */
#define HALT_REACHES 2.0
#define LATE_REPORT 60.0       /* after an outage the outboxes empty within a minute */
#define RESTART 60.0           /* from one announced restart to the next */
#define DARK_FIRST 3600.0      /* a placebo that fell silent by itself is back after … */
#define DARK_LAST (6 * 3600.0) /* … at most */

static double unit_of(const struct run *run, uint32_t number, unsigned what)
{
    const struct subject *subject = &run->subjects[number];
    uint64_t index = (uint64_t)(what * 256u + subject->exposures) << 32 | subject->device;
    return chance_unit(chance_bits(run->fleet->key_report ^ UINT64_C(0x5851f42d4c957f2d), index));
}

void outcome_begin(struct run *run, uint32_t number, enum rollout_arm arm)
{
    static const enum event_kind kinds[] = {
        [FATE_HEALTHY] = EVENT_KIND_HEALTHY,
        [FATE_FAILED] = EVENT_KIND_FAILED,
        [FATE_INTERRUPTED] = EVENT_KIND_INTERRUPTED,
    };
    struct subject *subject = &run->subjects[number];
    struct exposure_fate fate =
        fleet_fate(run->fleet, subject->device, subject->exposures, arm, run->now);
    if (subject->exposures < UINT8_MAX)
        subject->exposures++;
    subject->trial = arm == ARM_RELEASE;
    subject->placebo = arm == ARM_PLACEBO;
    subject->dark = fate.shows == FATE_SILENT;
    subject->regresses = fate.regresses;
    if (arm == ARM_RELEASE)
        run->result->exposed++;
    else
        run->result->placebos++;
    if (fate.harm) {
        subject->harm = (uint16_t)(fate.harm - run->fleet->scenario->harms);
        calendar_add(&run->queue, run->now + fate.harm_at, EVENT_KIND_HARM, number);
    }
    if (fate.shows != FATE_SILENT)
        calendar_add(&run->queue, run->now + fate.at,
                     kinds[fate.shows] + subject->exposures * EVENT_EXPOSURE, number);
}

static void had_turn(struct run *run, uint32_t number)
{
    struct subject *subject = &run->subjects[number];
    subject->trial = false;
    run->result->settled++;
    if (subject->had_turn)
        return;
    subject->had_turn = true;
    if (!subject->online)
        return;
    run->turns++;
    if (run->turns >= run->turns_wanted && isnan(run->result->completed_at))
        run->result->completed_at = run->now;
}

static void settled(struct run *run, uint32_t number)
{
    struct subject *subject = &run->subjects[number];
    if (subject->trial) {
        had_turn(run, number);
    } else {
        subject->placebo = false;
        asking_again(run, number);
    }
    asking_settled(run, subject->organisation);
}

void outcome_silent(struct run *run, uint32_t number, enum rollout_arm arm)
{
    struct subject *subject = &run->subjects[number];
    if (arm == ARM_RELEASE) {
        had_turn(run, number);
    } else {
        subject->placebo = false;
        double back = subject->dark
                          ? DARK_FIRST + unit_of(run, number, 1) * (DARK_LAST - DARK_FIRST)
                          : LATE_REPORT;
        calendar_add(&run->queue, run->now + back, EVENT_KIND_AGAIN, number);
    }
    asking_settled(run, subject->organisation);
}

static int report(struct run *run, uint32_t number, enum rollout_outcome outcome)
{
    int r = run_apply(
        run, &(struct rollout_event){.type = EVENT_OUTCOME, .device = number, .outcome = outcome});
    return r == -ETIME || r == -EALREADY ? 0 : r;
}

static void harm(struct run *run, uint32_t number)
{
    const struct scenario *scenario = run->fleet->scenario;
    struct subject *subject = &run->subjects[number];
    struct sim_result *result = run->result;
    if (result->halted && run->now > result->halted_at + HALT_REACHES &&
        (subject->trial || run->policy->on_halt_revert))
        return; /* it went back in time */
    if (subject->harmed)
        return;
    subject->harmed = true;
    result->harmed++;
    result->repairs += !scenario->harms[subject->harm].recovers;
    if (isnan(result->first_harm_at))
        result->first_harm_at = run->now;
    if (!subject->trial && subject->regresses)
        calendar_add(&run->queue, run->now, EVENT_KIND_REGRESSED, number);
}

static int interrupted(struct run *run, uint32_t number)
{
    int r = report(run, number, OUTCOME_INTERRUPTED);
    if (r == 0 && run->subjects[number].trial)
        calendar_add(&run->queue, run->now + RESTART,
                     EVENT_KIND_INTERRUPTED + run->subjects[number].exposures * EVENT_EXPOSURE,
                     number);
    return r;
}

int outcome_event(struct run *run, const struct calendar_event *event)
{
    uint32_t number = event->number, kind = event->kind % EVENT_EXPOSURE;
    uint32_t exposure = event->kind / EVENT_EXPOSURE;
    struct subject *subject = &run->subjects[number];
    double until;
    int r = 0;

    if (kind == EVENT_KIND_HARM) {
        harm(run, number);
        return 0;
    }
    if (fleet_cut_off(run->fleet, subject->device, run->now, &until)) {
        calendar_add(&run->queue, until + unit_of(run, number, 2) * LATE_REPORT, event->kind,
                     number);
        return 0;
    }
    if (exposure != 0 && exposure != subject->exposures)
        return 0; /* so late that the device is in another one already */
    switch (kind) {
    case EVENT_KIND_HEALTHY:
    case EVENT_KIND_FAILED:
        r = report(run, number, kind == EVENT_KIND_HEALTHY ? OUTCOME_HEALTHY : OUTCOME_FAILED);
        /* Its deadline may have passed before, or with this very report. */
        if (r == 0 && (run->subjects[number].trial || run->subjects[number].placebo))
            settled(run, number);
        return r;
    case EVENT_KIND_INTERRUPTED:
        return subject->trial ? interrupted(run, number) : 0;
    case EVENT_KIND_REGRESSED:
        r = report(run, number, OUTCOME_REGRESSED);
        return r == -ENOENT ? 0 : r;
    case EVENT_KIND_AGAIN:
        asking_again(run, number);
        return 0;
    case EVENT_KIND_ASK:
        return asking_device(run, number);
    default:
        return 0;
    }
}
