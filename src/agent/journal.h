/* The journal: one small durable record that says where a product's trial stands (docs/agent.md).
 * Replaced atomically, with a digest over itself. Must never be read as something that it did not
 * say: a damaged record is an error. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_MAX 4096

enum trial_state {
    STATE_IDLE,
    STATE_STAGED,
    STATE_ASKED,
    STATE_MARKED,
    STATE_ACTIVE,
    STATE_SOAKING,
    STATE_INTERRUPTED,
    STATE_REPORTED,
    STATE_CONFIRMED,
    STATE_REVERTING,
    STATE_REJECTED,
};
enum trial_arm { TRIAL_NONE, TRIAL_RELEASE, TRIAL_PLACEBO, TRIAL_REVERT };

struct journal {
    enum trial_state state;
    char release[65];  /* the candidate; "" when none */
    char previous[65]; /* where a revert goes; "" when none (empty) */
    enum trial_arm arm;
    char permit[33], nonce[65]; /* "" when none */
    char boot[37];              /* boot id at the last change, "" before the first */
    uint64_t boots;             /* boots seen since the mark */
    uint64_t interruptions;
    uint64_t soak_ms, soaked_ms;
    int64_t clock;      /* CLOCK_BOOTTIME ms when this state was entered; of `boot` only */
    int64_t permit_at;  /* wall ms, for people */
    int64_t confirm_by; /* wall ms, for people */
    char outcome[16];   /* "" when none */
    char reason[64];    /* a code, "" when none */
    char probe[129];
    int exit_status; /* -1: none */
    int signal;      /* 0: none */
    int64_t changed_at;
};

const char *trial_state_name(enum trial_state state);
const char *trial_arm_name(enum trial_arm arm);
/* From `marked` to `reported`, and `reverting`: the device's one trial is held. */
bool trial_state_holds_trial(enum trial_state state);

/* Strict: every line, in order, and the sum. */
int journal_parse(const char *text, size_t len, struct journal *ret, struct error *error);
void journal_text(const struct journal *journal, struct buf *ret);
/* An empty, idle record. */
void journal_reset(struct journal *ret);
/* `path` is the file. -ENOENT: there is none; -EBADMSG: there is one and it is damaged. */
int journal_load(const char *path, struct journal *ret, struct error *error);
/* Stamps `changed_at` and `boot` and makes the record durable. */
int journal_save(const char *path, struct journal *journal, const char *boot, struct error *error);
