/* What the files of rollout share. Nobody outside this folder includes it.
 *
 * The rule that shapes these structures: nothing that becomes visible may depend on the coin of an
 * open pair (design/gate.md). So the counts that price permits, open stages and feed alarm A take a
 * pair's devices in only when its toss is over: at its first failure, or when it closes. */
#pragma once

#include "gate/evidence.h"
#include "rollout/names.h"
#include "rollout/rollout.h"

#define NONE UINT32_MAX
#define QUORUM_MAX 16
#define EPSILON 1e-6          /* the least that a permit costs */
#define UNITS 1e9             /* costs are whole billionths of a device, so that sums are exact */
#define CONTROL_PLACEBOS 10   /* of a control check */
#define ENVIRONMENT_ODDS 10.0 /* e_0, and the placebos' own evidence, that end a pause */
#define TOLERATED_MAX 0.6     /* of a stratum whose placebos fail above the cap */
#define CHECK_PATIENCE                                                                             \
    4.0 /* deadlines without a placebo for the check, after which the pause ends */
#define REVERT_LAPSES 300.0 /* seconds that a revert permit is good for */

/* Adds up: over strata today, over slices and all organisations but one later. */
struct counts {
    uint64_t begun, settled, failed;
};

struct stratum {
    uint32_t rank; /* in order of first begin; NONE before it */
    struct counts arm[2];
    /* Alarm A's own counts of the release arm: in pairs, whose placebos live through the same
     * hours, and outside pairs since A was last armed. */
    struct counts paired, alone;
    uint64_t decided;    /* pairs in which a device failed */
    uint64_t alone_open; /* releases in flight outside pairs */
    uint64_t rooms;      /* releases that hold room: outside pairs, and one an open pair */
    uint64_t cost;       /* of one release, in UNITS */
    double tolerated;
    uint32_t largest; /* cell with the most settled releases, or NONE */
    uint64_t largest_settled;
    uint32_t half_open;   /* the pair that waits for its second device, or NONE */
    double waiting_until; /* an asker that the window refused is thought to wait until then */
    bool out_of_service;  /* alarm A: the placebos fail by themselves, more often than the cap */
    bool excused;         /* alarm A: a person ended the pause */
};

/* Devices that are alike in all that is followed. */
struct profile {
    uint32_t stratum, count;
    uint32_t *slices;
};

/* Of the devices of one slice: in pairs, those begun and those that failed first; the tosses that
 * they decided; and what settled and failed of the release, for people. */
struct slice_counts {
    uint64_t begun, decided, k_release, k_placebo, settled, failed;
};

struct organisation {
    uint64_t devices; /* of the start event */
    uint64_t budget;  /* in UNITS */
    uint64_t granted; /* releases granted, as the counts know them */
    uint64_t rooms;
    uint32_t cells; /* first of its list, or NONE */
    bool held;
    bool accused;   /* alarm organisation: its own evidence stopped it */
    bool left_out;  /* while an alarm is asked whether it stands without it */
    uint32_t slice; /* of its devices, or NONE */
    uint64_t regressed;
    uint64_t settled, failed; /* releases of its devices, as the counts know them */
    uint64_t k_release, k_placebo;
};

/* One organisation in one stratum: its rooms, and its part of the counts that alarm A and the price
 * look at. */
struct cell {
    uint32_t stratum, next;
    uint64_t rooms, decided;
    struct counts paired, alone, release;
};

/* One organisation in one slice: what its failures gave to the slice's evidence. */
struct slice_part {
    uint64_t decided, k_release, k_placebo;
};

struct group {
    uint32_t trials, reverts;
};

struct device {
    uint64_t place; /* in shares, of 2^64 */
    uint32_t organisation, group, profile;
    uint32_t slot; /* its exposure in flight or its revert permit, or NONE */
    uint32_t pair; /* in which it was the placebo, or NONE */
    uint8_t state; /* enum rollout_device_state */
    uint8_t round; /* rollout.round of its last pair */
    bool in_flight : 1, reverting : 1, was_silent : 1, excluded : 1;
};

_Static_assert(sizeof(struct device) == 32, "a fleet of 100 million devices is 3.2 GB");

struct exposure {
    double deadline, begun;
    uint64_t sequence; /* settles which of two equal deadlines comes first */
    uint32_t device, pair, stratum, profile;
    uint32_t heap;  /* its place in the heap; for a free slot the next free one */
    uint32_t check; /* the control check it belongs to, 0: none */
    uint32_t stage;
    uint8_t arm, member /* 0 first, 1 second */, interruptions;
    uint8_t before; /* state of the device before it */
};

struct pair {
    uint32_t member[2]; /* devices, in order of asking */
    uint32_t organisation[2];
    uint32_t stratum;
    uint32_t release_stage;  /* the stage in which its release was permitted */
    char outcome[2];         /* as in struct rollout_pair_view */
    bool first_gets_release; /* the coin */
    bool decided;            /* one of the two failed */
    bool closed;
};

struct revert {
    uint32_t device;
    double lapses;
    bool open;
};

/* A slice's attributes: names and values in turn, NULL-terminated. */
struct slice {
    char **texts;
};

struct rollout {
    struct policy policy;
    char *name, *release, *seed;
    double started_at, now;
    uint64_t fleet; /* devices of all organisations of the start event; 0: not given */
    struct slice *excluded;
    size_t excluded_count;

    struct names organisation_names, group_names, stratum_names;
    struct names profile_names, slice_names, attribute_names;
    struct profile *profiles;
    struct slice_counts *slices;
    uint32_t *attribute_values; /* followed, of each attribute */
    uint32_t profile_cap, slice_cap, attribute_cap;
    uint64_t slice_begun;   /* devices begun in pairs */
    uint32_t slice_suspect; /* profile of the release that failed last, or NONE */
    uint32_t slice_suspect_organisation;
    struct organisation *organisations;
    struct group *groups;
    struct stratum *strata;
    uint32_t *ranked; /* strata in order of first begin */
    uint32_t organisation_cap, group_cap, stratum_cap, ranked_count, ranked_cap;
    struct cell *cells;
    uint32_t cell_count, cell_cap;
    struct slice_part *parts;
    struct names part_names; /* "slice organisation", as numbers */
    uint32_t part_cap;
    bool many_organisations;   /* the start event names more than one */
    uint32_t left[QUORUM_MAX]; /* left out, while an alarm is asked whether it stands */
    uint32_t left_count;
    bool paused_organisation, excused_organisation;

    struct device *devices;
    uint32_t device_count, device_cap;
    struct exposure *exposures;
    uint32_t exposure_count, exposure_cap, exposure_free;
    uint32_t *heap; /* exposures by deadline */
    uint32_t heap_count, heap_cap;
    uint64_t sequence;
    struct pair *pairs;
    uint32_t pair_count, pair_cap, pairs_open;
    struct revert *reverts; /* a queue: each lapses after the one before */
    uint32_t revert_first, revert_count, revert_cap, reverts_open;

    /* window */
    uint64_t used, budget; /* in UNITS */
    uint64_t rooms;
    uint64_t granted; /* release permits as the counts know them, without open pairs */

    /* evidence */
    struct rate_mixture mixture;
    double log_threshold;
    uint64_t k_release, k_placebo, proven_harm;
    bool absolute_moved; /* alarm A has something new to look at */
    bool late_moved;     /* a device has regressed */
    bool placebos_moved; /* a placebo has failed: is A still in service? */
    bool excused;        /* the strata together, by a person */
    bool world_well;     /* a control check was clean while the pairs accused the release */

    /* stages */
    char **approvers;
    unsigned approver_count;
    bool *approved; /* a flag a stage */
    bool opened;    /* the first stage is open */
    unsigned stage;
    double stage_opened_at;
    uint64_t stage_settled, stage_reach;

    /* state */
    bool halted, done, paused_person, paused_environment;
    double halted_at;
    uint32_t accused; /* stratum, or NONE for all, of the environment's pause */
    uint32_t check;   /* number of the control check, from 1 */
    unsigned check_open, check_clean, check_failed;
    double check_moved_at; /* its last placebo began, or the pause */
    uint8_t round;         /* how often the devices that wait were sent back into pairs */
    struct rollout_because because;
    char *because_by, *because_reason, *because_slice;

    /* what the view shows and nothing decides on */
    uint64_t permits, placebos, in_flight, placebo_in_flight;
    uint64_t settled, failed, healthy, declined, silent, interrupted, regressed, late;
    uint64_t placebo_settled, placebo_failed;
    double first_failure_at;

    rollout_decide *decide; /* during rollout_apply */
    void *user;
};

/* Grows `array` so that index `count` is there; new memory is zero. */
#define ARRAY_ROOM(array, count, cap)                                                              \
    ((array) = array_room((array), (count), &(cap), sizeof *(array)))
void *array_room(void *array, uint32_t count, uint32_t *cap, size_t size);
void emit(struct rollout *rollout, const struct rollout_decision *decision);

/* slice.c */
int slices_init(struct rollout *rollout, const struct rollout_start *start, struct error *error);
void slices_free(struct rollout *rollout);
bool slices_exclude(const struct rollout *rollout, const struct rollout_device *device);

/* profile.c: evidence on slices */
uint32_t profile_number(struct rollout *rollout, const struct rollout_device *device,
                        uint32_t stratum);
void profiles_free(struct rollout *rollout);
void slices_begun(struct rollout *rollout, const struct device *device);
uint32_t slice_of(struct rollout *rollout, const char *name, const char *value);
void slices_settle(struct rollout *rollout, const struct exposure *exposure, char outcome);
double log_part_share(const struct rollout *rollout); /* of alpha/2, for slices and for the watch */
uint32_t slices_accused(struct rollout *rollout);     /* NONE, or the worst of those that halt */
bool slice_stands(struct rollout *rollout, uint32_t slice);

/* device.c */
static inline uint32_t device_stratum(const struct rollout *rollout, const struct device *device)
{
    return rollout->profiles[device->profile].stratum;
}
bool device_in_share(const struct device *device, double share);
uint32_t organisation_number(struct rollout *rollout, const char *name);

/* exposure.c: permits in flight and their deadlines */
uint32_t exposure_open(struct rollout *rollout, uint32_t device, enum rollout_arm arm);
void exposure_settle(struct rollout *rollout, uint32_t number, char outcome);
void exposure_interrupted(struct rollout *rollout, uint32_t number);
/* Deadlines that have passed by `t`; of `reporting` (or NONE) only if strictly before. */
void exposure_deadlines(struct rollout *rollout, double t, uint32_t reporting);
void exposure_outage(struct rollout *rollout, double from, double to);

/* pair.c */
uint32_t pair_open(struct rollout *rollout, uint32_t device);
void pair_join(struct rollout *rollout, uint32_t pair, uint32_t device);
enum rollout_arm pair_arm(const struct pair *pair, unsigned member);
void pair_settle(struct rollout *rollout, uint32_t pair, unsigned member, char outcome);

/* quorum.c: evidence with organisations left out */
void quorum_toss(struct rollout *rollout, uint32_t organisation, bool release);
struct counts quorum_counts(const struct rollout *rollout, uint32_t stratum, bool pairs_only,
                            struct counts all);
uint64_t quorum_decided(const struct rollout *rollout, uint32_t stratum, uint64_t all);
void quorum_tosses(const struct rollout *rollout, uint64_t *k_release, uint64_t *k_placebo);
void quorum_slice(const struct rollout *rollout, uint32_t slice, struct slice_counts *counts);
void quorum_slice_toss(struct rollout *rollout, uint32_t slice, uint32_t organisation, bool decided,
                       bool k_release, bool k_placebo);
/* Does `stands` hold whichever organisations are left out, as many as the policy's quorum? If not,
 * `ret_organisation` is the one without which it falls. */
bool quorum_survives(struct rollout *rollout, bool (*stands)(struct rollout *, uint32_t),
                     uint32_t subject, uint32_t *ret_organisation);

/* window.c */
struct cell *cell_of(struct rollout *rollout, uint32_t organisation, uint32_t stratum);
void cell_settled(struct rollout *rollout, uint32_t organisation, uint32_t stratum, bool failed);
void stratum_meet(struct rollout *rollout, uint32_t stratum); /* gives it its rank */
void stratum_price(struct rollout *rollout, uint32_t stratum);
void room_take(struct rollout *rollout, uint32_t stratum);
void room_give(struct rollout *rollout, uint32_t stratum);
void organisation_room(struct rollout *rollout, uint32_t organisation, uint32_t stratum, bool take);
bool window_allows(struct rollout *rollout, uint32_t stratum);
bool organisation_allows(const struct rollout *rollout, uint32_t organisation, uint32_t stratum);
double retry_soon(const struct rollout *rollout);

/* begin.c, revert.c */
void begin(struct rollout *rollout, uint32_t device);
void revert_ask(struct rollout *rollout, uint32_t device);
void revert_end(struct rollout *rollout, uint32_t device);
void revert_lapse(struct rollout *rollout);

/* alarm.c */
void alarm_toss(struct rollout *rollout); /* K₁ or K₀ has changed */
void alarm_check(struct rollout *rollout);
void alarm_halt(struct rollout *rollout, enum rollout_alarm alarm, uint32_t slice, const char *by,
                const char *reason);
void alarm_pause_person(struct rollout *rollout, const char *by, const char *reason);
void alarm_resume_person(struct rollout *rollout, const char *by, const char *reason);
/* Alarm A's evidence over all strata together. */
double alarm_log_evidence(const struct rollout *rollout);
/* May an asker of this stratum be a placebo of the control check that goes on? */
bool alarm_wants_control(const struct rollout *rollout, uint32_t stratum);
/* When a pause for the environment ends because nobody came for its check; INFINITY: not now. */
double alarm_patience_ends(const struct rollout *rollout);
void alarm_lapse(struct rollout *rollout); /* ends it then */

/* stage.c */
bool stage_started(const struct rollout *rollout);
bool stage_known(const struct rollout *rollout, const char *name); /* or "start" */
void stage_approve(struct rollout *rollout, const char *by, const char *name);
void stage_check(struct rollout *rollout);
double stage_tick(const struct rollout *rollout);
bool stage_full(const struct rollout *rollout);
