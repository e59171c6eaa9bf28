/* A rollout on a bench: a policy as text, devices by the dozen, and every decision kept. */
#pragma once

#include "rollout/rollout.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define RIG_SEED "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

struct rig {
    struct rollout *rollout;
    double t;
    struct rollout_decision *decisions; /* all so far, in order */
    size_t count, cap;
    size_t mark; /* where the last event's decisions begin */
    struct rollout_event *events;
    size_t event_count, event_cap;
    unsigned serial; /* of devices added one by one */
    struct error error;
};

/* `members` are those of the policy beside class and harm_budget; `organisations` may be NULL, else
 * "name=devices,…". */
void rig_start(struct rig *rig, double harm_budget, const char *members, const char *organisations);
void rig_start_seed(struct rig *rig, double harm_budget, const char *members,
                    const char *organisations, const char *seed);
void rig_end(struct rig *rig);

/* `count` devices of one organisation with "name=value,…" attributes (may be NULL); returns the
 * first's number. */
uint32_t rig_devices(struct rig *rig, uint32_t count, const char *organisation,
                     const char *attributes, const char *group);

int rig_event(struct rig *rig, const struct rollout_event *event); /* at event->t or rig->t */
/* The decision about the device: permit, placebo, wait or no. */
const struct rollout_decision *rig_begin(struct rig *rig, uint32_t device);
int rig_outcome(struct rig *rig, uint32_t device, enum rollout_outcome outcome);
void rig_tick(struct rig *rig, double t);
void rig_person(struct rig *rig, enum rollout_event_type type, const char *by,
                const char *organisation, const char *stage);
/* The last decision of a type among those of the last event (`rig_last`) or of all; NULL. */
const struct rollout_decision *rig_last(const struct rig *rig, enum rollout_decision_type type);
const struct rollout_decision *rig_any(const struct rig *rig, enum rollout_decision_type type);
struct rollout_view rig_view(const struct rig *rig);
/* Begins two devices that become a pair; returns the device with the release. */
uint32_t rig_pair(struct rig *rig, uint32_t first, uint32_t second, uint32_t *ret_placebo);

bool rig_granted(const struct rollout_decision *decision);
#define assert_granted(decision) assert_true(rig_granted(decision))
#define assert_refused(decision, why) assert_int_equal((decision)->reason, (why))
