/* The state machine of one rollout: events in, decisions out (DESIGN §3, design/gate.md). The same
 * events give the same decisions on every machine: server, replay and simulator call this. Must
 * never look at a clock, do I/O or draw a random number: time is in the events, chance in the seed.
 */
#pragma once

#include "base/error.h"
#include "rollout/policy.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rollout;

enum rollout_state { ROLLOUT_RUNNING, ROLLOUT_PAUSED, ROLLOUT_HALTED, ROLLOUT_DONE };
enum rollout_arm { ARM_RELEASE, ARM_PLACEBO };
enum rollout_outcome {
    OUTCOME_HEALTHY,
    OUTCOME_FAILED,
    OUTCOME_DECLINED,
    OUTCOME_INTERRUPTED,
    OUTCOME_REGRESSED,
};

struct rollout_attribute {
    const char *name, *value;
};
/* Devices that have all of these attributes; "organisation" is one that every device has. */
struct rollout_slice {
    const struct rollout_attribute *attributes;
    size_t attribute_count; /* ≥ 1 */
};

struct rollout_start {
    const char *rollout; /* name */
    const char *release; /* 64 hex digits, or any non-empty name in a replay */
    const char *seed;    /* 64 hex digits */
    double t;
    const struct rollout_organisation {
        const char *name;
        uint64_t devices;
    } * organisations; /* none: no organisation's own budget applies and the rollout is never `done`
                          by itself */
    size_t organisation_count;
    const struct rollout_slice *excluded; /* slices that the rollout leaves out */
    size_t excluded_count;
};

int rollout_new(const struct policy *policy /* copied */, const struct rollout_start *start,
                struct rollout **ret, struct error *error);
void rollout_free(struct rollout *rollout);

/* A device as the rollout sees it. Makes it known, or brings its attributes up to date, and returns
 * its number (dense, from 0), by which events name it: the caller keeps the map from id to number.
 */
struct rollout_device {
    const char *id;
    const char *organisation;
    const char *group; /* availability group or NULL */
    const struct rollout_attribute *attributes;
    size_t attribute_count;
};
uint32_t rollout_device_add(struct rollout *rollout, const struct rollout_device *device);
/* The same for a device with the very attributes of another one and no group, as a simulated fleet
 * has by the million: no names of attributes are looked up. Not where slices are excluded. */
uint32_t rollout_device_add_like(struct rollout *rollout, const char *id, const char *organisation,
                                 uint32_t like);
/* A hint that this device will ask, later or soon: it changes nothing and saves waiting for memory
 * where devices ask in no order by the million. */
void rollout_expect(const struct rollout *rollout, uint32_t number, bool soon);
void rollout_device_update(struct rollout *rollout, uint32_t number,
                           const struct rollout_device *device);

enum rollout_event_type {
    EVENT_BEGIN,   /* device asks for a permit */
    EVENT_OUTCOME, /* device, outcome */
    EVENT_TICK,
    EVENT_APPROVE, /* by, reason, stage (NULL: the next one) */
    EVENT_PAUSE,   /* by, reason */
    EVENT_RESUME,
    EVENT_HALT,
    EVENT_HOLD,     /* an organisation's own stop: organisation, by, reason; `resume` with an
                       organisation     lifts it */
    EVENT_OUTAGE,   /* from, to: open deadlines move by it */
    EVENT_REVERT,   /* device asks to go back after a halt; answered permit or wait (its group) */
    EVENT_REVERTED, /* device is back */
};
struct rollout_event {
    double t; /* seconds, never smaller than the one before */
    enum rollout_event_type type;
    uint32_t device;
    enum rollout_outcome outcome;
    const char *by, *reason, *organisation, *stage;
    double from, to;
};

enum rollout_decision_type {
    DECISION_PERMIT,
    DECISION_PLACEBO,
    DECISION_WAIT,
    DECISION_NO,
    DECISION_OPEN,
    DECISION_PAUSE,
    DECISION_RESUME, /* a pause ended by itself or by a person */
    DECISION_HALT,
    DECISION_DONE,
    DECISION_REVERT, /* a revert permit */
    DECISION_SILENT, /* a deadline passed: the exposure counts as failed */
};

/* Reason codes of wait and no. rollout_reason_sentence() turns each into plain English. */
enum rollout_reason {
    REASON_NONE,
    REASON_WINDOW,              /* wait: the harm budget is in flight */
    REASON_ORGANISATION_BUDGET, /* wait */
    REASON_STAGE_FULL,          /* wait: the stage has all the devices that it may have */
    REASON_STAGE_SHARE,         /* wait: the device's place in the share comes later */
    REASON_STAGE_ORGANISATION,  /* wait: the stage is for other organisations */
    REASON_GROUP,               /* wait: a device of its availability group holds a trial */
    REASON_PAUSED,              /* wait */
    REASON_HOLD,                /* wait: its organisation holds */
    REASON_NOT_STARTED,         /* wait: approvals are missing */
    REASON_OPEN_PERMIT,         /* wait: it holds a permit already */
    REASON_HALTED,              /* no */
    REASON_ALREADY,             /* no: it runs the release */
    REASON_FAILED_BEFORE,       /* no: it failed with this release */
    REASON_EXCLUDED,            /* no */
    REASON_PAIR_OPEN,           /* wait: its placebo is done, its partner is not */
    REASON_COUNT,
};
const char *rollout_reason_code(enum rollout_reason reason);     /* "window", "stage-full", … */
const char *rollout_reason_sentence(enum rollout_reason reason); /* for people, with a full stop */

enum rollout_alarm {
    ALARM_NONE,
    ALARM_PROVEN_HARM,
    ALARM_ABSOLUTE,
    ALARM_ORGANISATION,
    ALARM_ENVIRONMENT,
    ALARM_PERSON,
};
const char *rollout_alarm_code(enum rollout_alarm alarm); /* "proven-harm", "absolute", … */

struct rollout_because {
    enum rollout_alarm alarm;
    const char *slice; /* "all" or "name=value", "" when none */
    uint64_t n, k;     /* begun, failed in the slice, release arm */
    double tolerated, log_e;
    uint64_t k_release, k_placebo; /* of split-1 */
    uint64_t proven_harm;
    const char *by, *reason; /* a person's */
};

struct rollout_decision {
    double t;
    enum rollout_decision_type type;
    uint32_t device;      /* permit, placebo, wait, no, revert, silent */
    uint64_t pair;        /* from 1 in order of opening; 0 outside pairs */
    enum rollout_arm arm; /* permit, placebo, silent */
    double deadline;      /* permit, placebo: t + policy deadline */
    double retry_after;   /* wait: seconds */
    enum rollout_reason reason;
    const char *stage;              /* open; and the stage in force for a permit */
    struct rollout_because because; /* pause, halt */
};
/* Strings in a decision live until the next call. */
typedef void rollout_decide(void *user, const struct rollout_decision *decision);

/* Applies one event and calls `decide` for each decision that falls, in order: deadlines that have
 * passed by event.t first (those of an outage after they have moved), then stages that time alone
 * opens, then the event itself, then alarms, then stages. An outcome at its very deadline is in
 * time. -EINVAL with a reason for time running backwards, an unknown device, an outcome without a
 * permit (-ENOENT), a second outcome (-EALREADY); the rollout is unchanged then. A late outcome
 * (the deadline has passed) is -ETIME: it is kept by the caller, shown, and is no evidence; it does
 * let time pass, so a fold of the events has to contain it. A pause for one organisation is a hold;
 * a halt is everybody's whatever `organisation` says. After a halt pauses, resumes and approvals
 * change nothing. `decide` may be NULL. */
int rollout_apply(struct rollout *rollout, const struct rollout_event *event,
                  rollout_decide *decide, void *user, struct error *error);

/* The next moment at which a tick could decide something (deadline, min_time, control check);
 * INFINITY when none. */
double rollout_next_tick(const struct rollout *rollout);

struct rollout_view {
    enum rollout_state state;
    double t; /* of the last event */
    double started_at, halted_at, stage_opened_at;
    const char *stage;
    unsigned stage_index, stage_count;
    uint64_t permits, placebos;           /* granted, minus declined */
    uint64_t settled, failed;             /* release arm; failed includes silent */
    uint64_t healthy, silent, regressed;  /* release arm; a regressed device is also failed */
    uint64_t declined, interrupted, late; /* both arms; interruptions and reports, not devices */
    uint64_t placebo_settled, placebo_failed;
    uint64_t in_flight; /* release exposures */
    uint64_t placebo_in_flight;
    uint64_t pairs, pairs_open;
    double window_used, window; /* harm in flight and H */
    double cost;                /* of the next permit, in the dearest stratum that has asked */
    double log_e;               /* default-1, release arm, all strata together */
    double log_threshold;       /* ln(2/alpha) */
    uint64_t k_release, k_placebo;
    double log_split; /* ln e_0 */
    uint64_t proven_harm;
    double first_failure_at;        /* release arm; NAN when none */
    double reverts_open;            /* revert permits out */
    struct rollout_because because; /* of the last pause or halt */
};
void rollout_look(const struct rollout *rollout, struct rollout_view *ret);

/* What one device is for the rollout. */
enum rollout_device_state {
    DEVICE_NEW, /* never began */
    DEVICE_IN_PLACEBO,
    DEVICE_PLACEBO_DONE, /* may have the release outside any pair */
    DEVICE_IN_RELEASE,
    DEVICE_HEALTHY,
    DEVICE_FAILED,
    DEVICE_REVERTED,
};
enum rollout_device_state rollout_device_state(const struct rollout *rollout, uint32_t number);
/* Counts of pairs for the page: how the coin fell and what came of it, newest last, at most `cap`.
 */
struct rollout_pair_view {
    uint64_t number;
    uint32_t release_device, placebo_device; /* UINT32_MAX: never came */
    char release_outcome,
        placebo_outcome; /* 'o' open, 'h' healthy, 'f' failed, 's' silent, 'd' declined, '-' none */
    bool closed;
};
size_t rollout_pairs(const struct rollout *rollout, struct rollout_pair_view *ret, size_t cap);

/* Slices with the evidence against the release in each, the worst first, at most `cap`; `guilty`
 * are those that e-BH names at level alpha. Names live as long as the rollout. */
struct rollout_slice_view {
    const char *name;              /* "kernel=6.8" */
    uint64_t n, k;                 /* release: settled, failed */
    uint64_t k_release, k_placebo; /* tosses that its devices decided */
    double log_e;
    bool guilty;
};
size_t rollout_slices(const struct rollout *rollout, struct rollout_slice_view *ret, size_t cap);

/* What each organisation reports of the release. One that is too healthy or too sick differs from
 * all the others together beyond chance (bounds at 1 - alpha): its devices or its reports differ.
 */
struct rollout_organisation_view {
    const char *name;
    uint64_t n, k;
    uint64_t k_release, k_placebo;
    bool stopped; /* by its own evidence */
    bool held;    /* by its own people */
    bool too_healthy, too_sick;
};
size_t rollout_organisations(const struct rollout *rollout, struct rollout_organisation_view *ret,
                             size_t cap);

/* A digest of the whole state, for "the state equals the fold of its own events". */
void rollout_fingerprint(const struct rollout *rollout, uint8_t ret[static 32]);
