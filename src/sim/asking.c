#include "sim/run.h"

#include "base/buf.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Devices poll the plan on their own, each on average every `poll`; all together that is a stream
 * of polls of which only those that the plan's `admit` lets through become requests. The control
 * plane raises `admit` so that begins stay below twice the grants: here, a refusal for want of room
 * costs a credit, and every second exposure that settles brings one. */
#define SETTLED_A_CREDIT 2
#define CREDIT_START 8
#define CREDIT_MAX 64
#define BACKOFF_FIRST 1.0
#define BACKOFF_LAST 15.0
#define BACKOFF_PAUSED 5.0 /* a control check needs devices that ask */
#define LIKES_MAX 65536
#define EXPECT_SOON 6
#define EXPECT_LATER 12

static uint32_t waiting(const struct run *run)
{
    return run->arrived - run->fresh + run->again_count;
}

static double poll_gap(struct run *run)
{
    uint32_t count = waiting(run);
    if (count == 0)
        return INFINITY;
    return chance_exponential(chance_next(&run->polls)) * run->fleet->scenario->poll / count;
}

double asking_next(const struct run *run)
{
    return fmax(run->next_ask, run->blocked_until);
}

void asking_arrivals(struct run *run)
{
    bool nobody = waiting(run) == 0;
    while (run->arrived < run->fleet->scenario->devices &&
           fleet_there_at(run->fleet, run->arrived) <= run->now)
        run->arrived++;
    if (nobody)
        run->next_ask = run->now + poll_gap(run);
}

void asking_again(struct run *run, uint32_t number)
{
    bool nobody = waiting(run) == 0;
    if (run->again_count == run->again_cap) {
        run->again_cap = run->again_cap ? 2 * run->again_cap : 1024;
        run->again = xrealloc(run->again, run->again_cap, sizeof *run->again);
    }
    /* In random order, so that the last one is any of them, with the same chance for each. */
    uint32_t place = (uint32_t)(chance_next_unit(&run->polls) * (run->again_count + 1));
    run->again[run->again_count] = run->again[place];
    run->again[place] = number;
    run->again_count++;
    if (nobody)
        run->next_ask = run->now + poll_gap(run);
}

static void park(struct run *run, struct parked *parked, uint32_t number)
{
    run->subjects[number].next = parked->head;
    parked->head = number;
    parked->count++;
}

static uint32_t unpark(struct run *run, struct parked *parked)
{
    uint32_t number = parked->head;
    parked->head = run->subjects[number].next;
    parked->count--;
    return number;
}

/* Of an organisation's devices that wait for its own budget, the next to poll asks. */
static void wake_one(struct run *run, uint32_t organisation)
{
    struct parked *parked = &run->organisations[organisation];
    if (parked->count == 0)
        return;
    double gap =
        chance_exponential(chance_next(&run->polls)) * run->fleet->scenario->poll / parked->count;
    calendar_add(&run->queue, run->now + gap, EVENT_KIND_ASK, unpark(run, parked));
}

void asking_settled(struct run *run, uint32_t organisation)
{
    run->open_of[organisation]--;
    wake_one(run, organisation);
    if (++run->settled % SETTLED_A_CREDIT != 0)
        return;
    if (run->credit < CREDIT_MAX)
        run->credit++;
    run->backoff = BACKOFF_FIRST;
    if (run->blocked_until > run->now)
        run->blocked_until = run->now;
}

void asking_opened(struct run *run)
{
    while (run->stage.count > 0)
        asking_again(run, unpark(run, &run->stage));
    run->blocked_until = run->now;
    if (run->credit == 0)
        run->credit = CREDIT_START;
    run->backoff = BACKOFF_FIRST;
}

/* No room: the credit pays for one more try, or all wait for something to settle. */
static void no_room(struct run *run)
{
    double last = run->paused ? BACKOFF_PAUSED : BACKOFF_LAST;
    if (run->credit > 0) {
        run->credit--;
        return;
    }
    run->backoff = fmin(fmax(run->backoff, BACKOFF_FIRST), last);
    run->blocked_until = run->now + run->backoff;
    run->backoff *= 2;
}

/* Where a refused device waits. */
static void refused(struct run *run, uint32_t number)
{
    uint32_t organisation = run->subjects[number].organisation;
    switch (run->reason) {
    case REASON_STAGE_SHARE:
    case REASON_STAGE_ORGANISATION:
    case REASON_HOLD:
        park(run, &run->stage, number); /* the plan says so; such a device does not ask again */
        break;
    case REASON_ORGANISATION_BUDGET:
        if (run->open_of[organisation] > 0)
            park(run, &run->organisations[organisation], number);
        else
            calendar_add(&run->queue, run->now + run->retry_after, EVENT_KIND_AGAIN, number);
        break;
    case REASON_PAIR_OPEN:
    case REASON_GROUP:
    case REASON_OPEN_PERMIT:
        calendar_add(&run->queue, run->now + fmax(run->retry_after, 1), EVENT_KIND_AGAIN, number);
        break;
    case REASON_HALTED:
    case REASON_ALREADY:
    case REASON_FAILED_BEFORE:
    case REASON_EXCLUDED:
        break;
    default:
        no_room(run);
        asking_again(run, number);
    }
}

int asking_device(struct run *run, uint32_t number)
{
    uint32_t organisation = run->subjects[number].organisation;
    run->answered = number;
    run->answer = DECISION_WAIT;
    run->reason = REASON_NONE;
    run->result->asks++;
    int r = run_apply(run, &(struct rollout_event){.type = EVENT_BEGIN, .device = number});
    if (r < 0)
        return r;
    if (run->answer != DECISION_PERMIT && run->answer != DECISION_PLACEBO) {
        refused(run, number);
        return 0;
    }
    run->result->grants++;
    run->open_of[organisation]++;
    outcome_begin(run, number, run->answer == DECISION_PERMIT ? ARM_RELEASE : ARM_PLACEBO);
    wake_one(run, organisation);
    return 0;
}

/* "d1" and so on: once a device, so not by printf. */
static void name_device(char ret[static 16], uint32_t device)
{
    char digits[10];
    size_t len = 0, at = 0;
    for (uint64_t left = (uint64_t)device + 1; left > 0; left /= 10)
        digits[len++] = (char)('0' + left % 10);
    ret[at++] = 'd';
    while (len > 0)
        ret[at++] = digits[--len];
    ret[at] = '\0';
}

/* The first device with these values, by which the rollout knows the attributes already; where
 * there are too many combinations to keep, none. */
static uint32_t *first_like(struct run *run, const uint32_t *values)
{
    const struct scenario *scenario = run->fleet->scenario;
    size_t at = 0, count = 1;
    for (size_t i = 0; i < scenario->attribute_count; i++) {
        size_t kinds = scenario->attributes[i].value_count + 1u;
        at = at * kinds + values[i];
        count *= kinds;
        if (count > LIKES_MAX)
            return NULL;
    }
    if (!run->likes) {
        run->likes = xcalloc(count, sizeof *run->likes);
        memset(run->likes, 0xff, count * sizeof *run->likes);
    }
    return &run->likes[at];
}

static uint32_t introduce(struct run *run, uint32_t device, const char *organisation)
{
    const struct scenario *scenario = run->fleet->scenario;
    uint32_t values[FLEET_ATTRIBUTES_MAX];
    struct rollout_attribute attributes[FLEET_ATTRIBUTES_MAX];
    size_t count = 0;
    char id[16];

    name_device(id, device);
    fleet_values(run->fleet, device, values);
    uint32_t *like = first_like(run, values);
    if (like && *like != NOBODY)
        return rollout_device_add_like(run->rollout, id, organisation, *like);
    for (size_t i = 0; i < scenario->attribute_count; i++) {
        const struct scenario_attribute *attribute = &scenario->attributes[i];
        if (values[i] < attribute->value_count)
            attributes[count++] =
                (struct rollout_attribute){attribute->name, attribute->values[values[i]]};
    }
    uint32_t number = rollout_device_add(run->rollout, &(struct rollout_device){
                                                           .id = id,
                                                           .organisation = organisation,
                                                           .attributes = attributes,
                                                           .attribute_count = count,
                                                       });
    if (like)
        *like = number;
    return number;
}

static uint32_t add_subject(struct run *run, uint32_t index)
{
    const struct fleet *fleet = run->fleet;
    uint32_t device = fleet_device(fleet, index);
    uint32_t organisation = fleet_organisation(fleet, device);
    uint32_t number = introduce(run, device, fleet->organisations[organisation].name);
    assert(number == run->subject_count);
    if (number == run->subject_cap) {
        run->subject_cap = run->subject_cap ? 2 * run->subject_cap : 1024;
        run->subjects = xrealloc(run->subjects, run->subject_cap, sizeof *run->subjects);
    }
    run->subjects[run->subject_count++] = (struct subject){.device = device,
                                                           .organisation = organisation,
                                                           .next = NOBODY,
                                                           .online = index < fleet->online};
    return number;
}

/* The next of `again` are known: memory is asked for what will be read of them. */
static void expect(const struct run *run)
{
    if (run->again_count > EXPECT_LATER)
        rollout_expect(run->rollout, run->again[run->again_count - 1 - EXPECT_LATER], false);
    if (run->again_count > EXPECT_SOON) {
        uint32_t number = run->again[run->again_count - 1 - EXPECT_SOON];
        rollout_expect(run->rollout, number, true);
        __builtin_prefetch(&run->subjects[number], 1);
    }
}

int asking_poll(struct run *run)
{
    uint32_t fresh = run->arrived - run->fresh, count = waiting(run);
    uint32_t place = (uint32_t)(chance_next_unit(&run->polls) * count);
    double until;
    uint32_t number;
    if (place < fresh) {
        number = add_subject(run, run->fresh++);
    } else {
        number = run->again[--run->again_count];
        expect(run);
    }
    int r = 0;
    if (fleet_cut_off(run->fleet, run->subjects[number].device, run->now, &until)) {
        asking_again(run, number); /* it polls in vain */
        run->reason = REASON_NONE;
    } else {
        r = asking_device(run, number);
    }
    run->next_ask = run->now + poll_gap(run);
    /* Who reads in the plan that a later stage is for it makes no request and takes no time. */
    if (run->reason == REASON_STAGE_SHARE || run->reason == REASON_STAGE_ORGANISATION)
        run->next_ask = waiting(run) > 0 ? run->now : INFINITY;
    return r;
}
