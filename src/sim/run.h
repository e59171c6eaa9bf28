/* What a run of Maeslant keeps (maeslant.c, asking.c, report.c). Inside src/sim.
 *
 * Devices take memory from the first time that they ask. Those that wait are either fresh (they
 * come along in the fleet's order), or in `again` (they have asked or been a placebo before), or
 * parked: for another stage, or because their organisation's own budget is in flight. */
#pragma once

#include "sim/calendar.h"
#include "sim/fleet.h"
#include "sim/sim.h"

#define NOBODY UINT32_MAX

/* An event's kind is one of these, in the order in which they happen at one moment, and for those
 * about an exposure which one of the device's, times EVENT_EXPOSURE. */
#define EVENT_EXPOSURE 16u
enum event_kind {
    EVENT_KIND_HARM = 1, /* the release breaks the device */
    EVENT_KIND_HEALTHY,
    EVENT_KIND_FAILED,
    EVENT_KIND_INTERRUPTED,
    EVENT_KIND_REGRESSED,
    EVENT_KIND_AGAIN,  /* it may ask again */
    EVENT_KIND_ASK,    /* it asks */
    EVENT_KIND_PERSON, /* who was called answers */
};

struct subject {
    uint32_t device, organisation;
    uint32_t next; /* parked behind it */
    uint16_t harm; /* number of the rule that breaks it */
    uint8_t exposures;
    bool online : 1;  /* from the start */
    bool trial : 1;   /* the release, in flight */
    bool placebo : 1; /* in flight */
    bool dark : 1;    /* reports nothing of this exposure */
    bool harmed : 1, regresses : 1, had_turn : 1;
};

struct parked {
    uint32_t head; /* a subject, or NOBODY */
    uint32_t count;
};

struct run {
    const struct fleet *fleet;
    const struct policy *policy;
    struct rollout *rollout;
    struct calendar queue;
    double now;

    struct subject *subjects; /* numbered as the rollout numbers its devices */
    uint32_t subject_count, subject_cap;
    uint32_t *likes;         /* the first device of each combination of values */
    uint32_t fresh, arrived; /* of the fleet's order: next to ask; how many are there */
    uint32_t *again, again_count, again_cap;
    struct parked stage;          /* until a stage opens */
    struct parked *organisations; /* until something of theirs settles */
    uint32_t *open_of;            /* exposures in flight, by organisation */

    /* Asking. */
    struct chance polls;
    double next_ask;
    double backoff;
    unsigned credit;  /* refusals that the window may still answer with */
    uint64_t settled; /* exposures, either arm */
    double blocked_until;

    uint32_t answered; /* the subject that the last begin was about */
    enum rollout_decision_type answer;
    enum rollout_reason reason;
    double retry_after;
    bool opened, paused;

    uint64_t turns, turns_wanted; /* of devices online from the start */
    uint64_t events;
    char *accused; /* organisation that a pause names */
    struct sim_result *result;
    struct sim_trace *trace;
    const struct sim_progress *progress;
    struct error *error;
};

/* asking.c */
double asking_next(const struct run *run);           /* when the next device asks */
int asking_poll(struct run *run);                    /* a device that polls now */
int asking_device(struct run *run, uint32_t number); /* this one asks now */
void asking_again(struct run *run, uint32_t number); /* it waits for its turn once more */
void asking_settled(struct run *run, uint32_t organisation);
void asking_opened(struct run *run);
void asking_arrivals(struct run *run);

/* outcome.c */
void outcome_begin(struct run *run, uint32_t number, enum rollout_arm arm);
void outcome_silent(struct run *run, uint32_t number, enum rollout_arm arm);
int outcome_event(struct run *run, const struct calendar_event *event);

/* maeslant.c */
int run_apply(struct run *run, const struct rollout_event *event);
