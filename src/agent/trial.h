/* The states of a trial, walked one after the other (design/endpoint.md). */
#pragma once

#include "agent/product.h"
#include "agent/slot.h"

/* Walks on from the journal's state until nothing is held any more, or -ECANCELED at a stop. */
int trial_walk(struct product *product);

/* asked → marked, or back to staged. */
int ask_walk(struct product *product);
/* Begins to ask; the journal names release, previous and arm. Nonce and record are durable when it
 * returns. */
int ask_begin(struct product *product, struct error *error);
/* Does the permit still hold, and is its release not halted as far as can be known within seconds?
 */
bool permit_holds(struct product *product, const char **ret_reason);

/* Seconds that an interruption may last. */
#define INTERRUPTED_MOST (24 * 3600.0)
/* soaking, interrupted. */
int soak_walk(struct product *product);
int resume_walk(struct product *product);

/* Why a trial ends in a revert. */
struct verdict {
    const char *outcome; /* failed, reverted, declined */
    const char *reason;
    const char *probe; /* NULL: none */
    int exit_status, signal;
    const char *text; /* for people; NULL: none */
    const char *tail; /* what the product's commands printed; NULL: nothing */
    bool untouched;   /* the adapter never ran: nothing to undo but the links */
};
/* The reason of a trial that ended because its product is removed: not the release's fault. */
#define REASON_REMOVED "removed"
void revert_begin(struct product *product, const struct verdict *verdict);
int revert_walk(struct product *product);

/* Puts the report for the journal's trial into the outbox and wakes the courier. */
void report_put(struct product *product, const char *outcome, const char *text);

/* The release whose content runs in this trial: the candidate, or for a placebo the running one. */
const char *trial_subject(const struct product *product);
