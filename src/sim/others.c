#include "sim/others.h"

#include "base/buf.h"
#include "base/parse.h"
#include "sim/strategy.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define HORIZON (60 * 86400.0)
#define PROGRESS_EVERY 262144
#define INTERVALS_PER_POLL 256
#define HALT_REACHES 2.0 /* seconds from a halt to a device in its first minutes */

/* Events: what happens, and to the device of which number in the fleet's order. The group in which
 * it was opened is told by the number of the group, modulo the bits left. */
enum { HAPPENS_START = 1, HAPPENS_HARM, HAPPENS_HEALTHY, HAPPENS_FAILED, HAPPENS_SILENT };
#define KIND_BITS 3u
#define BASELINE (1u << KIND_BITS)
#define GROUP_SHIFT (KIND_BITS + 1)

static uint32_t group_mark(const struct crowd *crowd)
{
    return (uint32_t)(crowd->group_start << GROUP_SHIFT);
}

/* The next of the fleet's order, those that are offline mixed in evenly. */
static uint32_t next_index(struct crowd *crowd)
{
    uint64_t devices = crowd->fleet->scenario->devices, online = crowd->fleet->online;
    uint64_t online_due = (crowd->assigned + 1) * online / devices;
    crowd->assigned++;
    if ((crowd->online_taken < online_due && crowd->online_taken < online) ||
        crowd->offline_taken == devices - online)
        return crowd->online_taken++;
    return (uint32_t)(online + crowd->offline_taken++);
}

uint64_t crowd_left(const struct crowd *crowd)
{
    return crowd->fleet->scenario->devices - crowd->assigned;
}

static void assign(struct crowd *crowd, uint64_t count, uint32_t flags)
{
    for (; count > 0 && crowd_left(crowd) > 0; count--) {
        uint32_t index = next_index(crowd);
        double u = chance_unit(chance_bits(crowd->fleet->key_noise ^ 1, index));
        double there = fmax(crowd->now, fleet_there_at(crowd->fleet, index));
        calendar_add(&crowd->queue, there + u * crowd->fleet->scenario->poll, HAPPENS_START | flags,
                     index);
    }
}

void crowd_open(struct crowd *crowd, uint64_t count, bool group)
{
    if (group) {
        crowd->group_start++;
        crowd->group = (struct crowd_counts){0};
    }
    if (count > crowd_left(crowd))
        count = crowd_left(crowd);
    crowd->opened += count;
    assign(crowd, count, group_mark(crowd));
}

void crowd_watch(struct crowd *crowd, uint64_t count)
{
    assign(crowd, count, BASELINE);
}

void crowd_halt(struct crowd *crowd, const char *format, ...)
{
    char span[32], text[300];
    va_list arguments;
    if (crowd->result->halted)
        return;
    va_start(arguments, format);
    (void)vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    crowd->result->halted = true;
    crowd->result->halted_at = crowd->now;
    format_duration(crowd->now, span, sizeof span);
    (void)snprintf(crowd->result->why, sizeof crowd->result->why, "halted after %s: %s", span,
                   text);
}

static void starts(struct crowd *crowd, uint32_t index, uint32_t flags)
{
    enum rollout_arm arm = flags & BASELINE ? ARM_PLACEBO : ARM_RELEASE;
    uint32_t device = fleet_device(crowd->fleet, index);
    if (arm == ARM_RELEASE && crowd->result->halted && crowd->stops_pending)
        return;
    struct exposure_fate fate = fleet_fate(crowd->fleet, device, 0, arm, crowd->now);
    double deadline = crowd->now + crowd->policy->deadline, until;
    if (arm == ARM_RELEASE) {
        crowd->result->exposed++;
        crowd->all.started++;
        crowd->group.started += flags >> GROUP_SHIFT == group_mark(crowd) >> GROUP_SHIFT;
    } else {
        crowd->result->placebos++;
        crowd->baseline.started++;
    }
    if (fate.harm)
        calendar_add(&crowd->queue, crowd->now + fate.harm_at, HAPPENS_HARM | flags, index);
    double at = crowd->now + fate.at;
    uint32_t what = fate.shows == FATE_HEALTHY  ? HAPPENS_HEALTHY
                    : fate.shows == FATE_FAILED ? HAPPENS_FAILED
                                                : HAPPENS_SILENT;
    if (what != HAPPENS_SILENT && fleet_cut_off(crowd->fleet, device, at, &until))
        at = until;
    if (what == HAPPENS_SILENT || at > deadline) {
        what = HAPPENS_SILENT;
        at = deadline;
    }
    calendar_add(&crowd->queue, at, what | flags, index);
}

static void count(struct crowd_counts *counts, uint32_t what)
{
    counts->healthy += what == HAPPENS_HEALTHY;
    counts->failed += what == HAPPENS_FAILED;
    counts->silent += what == HAPPENS_SILENT;
}

static void ends(struct crowd *crowd, uint32_t index, uint32_t what, uint32_t flags)
{
    if (flags & BASELINE) {
        count(&crowd->baseline, what);
        return;
    }
    count(&crowd->all, what);
    if (flags >> GROUP_SHIFT == group_mark(crowd) >> GROUP_SHIFT)
        count(&crowd->group, what);
    crowd->result->settled++;
    if (index < crowd->fleet->online && ++crowd->turns == crowd->turns_wanted)
        crowd->result->completed_at = crowd->now;
}

static void harms(struct crowd *crowd, uint32_t index)
{
    struct sim_result *result = crowd->result;
    const struct scenario_harm *harm = fleet_harm(crowd->fleet, fleet_device(crowd->fleet, index));
    if (result->halted && crowd->stops_pending && crowd->now > result->halted_at + HALT_REACHES)
        return; /* the roll-back was there first */
    result->harmed++;
    result->repairs += harm && !harm->recovers;
    if (isnan(result->first_harm_at))
        result->first_harm_at = crowd->now;
}

static void happen(struct crowd *crowd, const struct calendar_event *event)
{
    uint32_t what = event->kind & (BASELINE - 1), flags = event->kind & ~(BASELINE - 1);
    if (what == HAPPENS_START)
        starts(crowd, event->number, flags);
    else if (what == HAPPENS_HARM)
        harms(crowd, event->number);
    else
        ends(crowd, event->number, what, flags);
}

static void sample(struct crowd *crowd, struct sim_trace *trace)
{
    const struct sim_result *result = crowd->result;
    uint64_t done = crowd->all.healthy + crowd->all.failed + crowd->all.silent;
    trace_add(trace, &(struct sim_sample){
                         .t = crowd->now,
                         .exposed = (double)result->exposed,
                         .harmed = (double)result->harmed,
                         .settled = (double)result->settled,
                         .in_flight = (double)(crowd->all.started - done),
                         .window = (double)crowd->opened,
                     });
}

static void explain(struct crowd *crowd)
{
    struct sim_result *result = crowd->result;
    char span[32];
    result->ended_at = crowd->now;
    result->false_halt = result->halted && !scenario_is_harmful(crowd->fleet->scenario);
    if (result->halted)
        return;
    format_duration(isnan(result->completed_at) ? crowd->now : result->completed_at, span,
                    sizeof span);
    (void)snprintf(result->why, sizeof result->why,
                   isnan(result->completed_at)
                       ? "goes no further after %s, and halts nothing"
                       : "99 %% of the devices that were online had their turn after %s",
                   span);
}

static const struct crowd_strategy *const table[STRATEGY_COUNT] = {
    [STRATEGY_ALL_AT_ONCE] = &strategy_at_once,     [STRATEGY_PERCENT_STAGES] = &strategy_groups,
    [STRATEGY_CANARY_THRESHOLD] = &strategy_canary, [STRATEGY_RATE_ABORT] = &strategy_rate,
    [STRATEGY_FIXED_TEST] = &strategy_test,
};

int strategy_other(const struct fleet *fleet, enum strategy name, struct sim_result *result,
                   struct sim_trace *trace, const struct sim_progress *progress)
{
    const struct crowd_strategy *strategy = table[name];
    struct crowd crowd = {
        .fleet = fleet,
        .policy = &fleet->scenario->policy,
        .turns_wanted = (uint64_t)ceil(0.99 * fleet->online),
        .stops_pending = strategy->stops_pending,
        .result = result,
    };
    _cleanup_free_ void *state = xcalloc(1, strategy->state_size + 1);
    double interval = strategy->interval ? strategy->interval(&crowd) : INFINITY;
    double look_at = interval;
    calendar_init(&crowd.queue, fleet->scenario->poll / INTERVALS_PER_POLL);
    strategy->begin(&crowd, state);
    for (uint64_t steps = 0;; steps++) {
        const struct calendar_event *event = calendar_peek(&crowd.queue);
        bool looks = !result->halted && look_at < INFINITY;
        double event_at = event ? event->t : INFINITY;
        double next = fmin(event_at, looks ? look_at : INFINITY);
        /* Once nothing happens any more, ten more looks change what they will change. */
        if (isinf(next) || next > HORIZON ||
            (!event && look_at > crowd.now + 10 * interval + crowd.policy->deadline))
            break;
        if (next == event_at) {
            struct calendar_event taken = calendar_take(&crowd.queue);
            crowd.now = fmax(crowd.now, taken.t);
            happen(&crowd, &taken);
        } else {
            double before = crowd.now;
            crowd.now = look_at;
            strategy->look(&crowd, state);
            look_at += interval;
            if (!event && !calendar_peek(&crowd.queue) && !result->halted)
                crowd.now = before;
        }
        if (trace && trace_wants(trace, crowd.now))
            sample(&crowd, trace);
        if (progress && steps % PROGRESS_EVERY == 0)
            progress->show(progress->user, strategy_names[name], crowd.now, result->exposed,
                           result->settled);
    }
    if (trace)
        sample(&crowd, trace);
    explain(&crowd);
    calendar_free(&crowd.queue);
    return 0;
}
