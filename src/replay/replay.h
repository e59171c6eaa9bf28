/* A rollout recomputed from its event lines: text in, decisions out. Must never look at a clock, do
 * I/O or go on after a line that it refused. */
#pragma once

#include "base/buf.h"
#include "rollout/rollout.h"

struct replay;

/* All may be NULL. Texts are those of the input. */
struct replay_calls {
    /* The line of an event, before its decisions. */
    void (*event)(void *user, const char *text, size_t len);
    /* Each decision as it falls; `device` is its id or NULL. */
    void (*decide)(void *user, const struct rollout_decision *decision, const char *device);
    /* A line of the input that holds a decision, as a server's log has them. */
    void (*logged)(void *user, const char *text, size_t len);
    void *user;
};

struct replay *replay_new(const struct replay_calls *calls);
void replay_free(struct replay *replay);

/* Takes the next line, without its line feed; a blank one only counts. An error (-EINVAL) has line
 * and column; no decision of such a line was made and no later line is taken. A report after its
 * deadline is none. */
int replay_line(struct replay *replay, const char *text, size_t len, struct error *error);
/* After the last line; -EINVAL when no rollout was started. */
int replay_end(const struct replay *replay, struct error *error);

/* The summary's line, of a rollout that was started. */
void replay_summary(const struct replay *replay, struct buf *ret);
/* NULL before the start. */
const struct rollout *replay_rollout(const struct replay *replay);
uint64_t replay_line_number(const struct replay *replay);
