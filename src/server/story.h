/* What the page tells of a rollout beside its counts: the figures over time, the moments at which
 * it changed course, the last failures. A fold of the same events as the rollout, of bounded size.
 * Must never decide anything. */
#pragma once

#include "base/json.h"
#include "rollout/rollout.h"

#define STORY_POINTS 512
#define STORY_MOMENTS 64
#define STORY_FAILURES 50

struct story_point {
    double t, log_split, log_e, window_used;
    uint64_t proven_harm, failed;
};

struct story_moment {
    double t;
    enum rollout_decision_type type;
    enum rollout_alarm alarm;
    char *stage, *by, *reason;
};

struct story_failure {
    double t;
    char *device, *organisation, *why;
    enum rollout_arm arm;
};

struct story {
    struct story_point *points;
    size_t point_count;
    double every; /* seconds between two points; doubles when all are taken */
    double t;     /* of the last event */
    bool halted;
    double log_e; /* at the halt: the trials that obey it are no evidence */
    struct story_moment *moments;
    size_t moment_count;
    struct story_failure *failures; /* oldest first */
    size_t failure_count;
};

void story_free(struct story *story);

/* Before an event of time `t` is applied: keeps the figures as they are when the event is in a new
 * interval. `obeyed` of the fold's failures are trials that obeyed a halt. */
void story_figures(struct story *story, const struct rollout *fold, uint64_t obeyed, double t);
/* Of all decisions only those that change the rollout's course are kept. Called after the event
 * that the decision fell at, before the next one. */
void story_decision(struct story *story, const struct rollout *fold,
                    const struct rollout_decision *decision);
/* `device` by its id. */
void story_failure(struct story *story, double t, const char *device, const char *organisation,
                   const char *why, enum rollout_arm arm);

/* Arrays, the caller's. Points later than `after` (seconds), and the figures of this moment. */
json_t *story_points_json(const struct story *story, const struct rollout *fold, uint64_t obeyed,
                          double after);
json_t *story_moments_json(const struct story *story);
json_t *story_failures_json(const struct story *story); /* newest first */
