/* A person's "not now" (rule 17): one small durable file, <state>/snooze, that keeps new trials of
 * this device away for a while. Must never hold up a trial that has begun, nor a release of class
 * emergency, nor anything for longer than the configuration's snooze_max. */
#pragma once

#include "agent/paths.h"
#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct snooze {
    int64_t until_ms; /* wall; 0: none */
    int64_t since_ms;
    char reason[257];
    char by[65]; /* who asked */
};

/* Ends whatever was there before. `seconds` within (0, most]. */
int snooze_set(const struct paths *paths, double seconds, double most, const char *reason,
               const char *by, int64_t now_ms, struct error *error);
int snooze_end(const struct paths *paths, struct error *error);
/* What is in force at `now_ms`; `until_ms` 0 when nothing is. A file that a clock's jump would make
 * last longer than `most` ends at `most` from when it was made. -EBADMSG: damaged, and so none. */
int snooze_load(const struct paths *paths, double most, int64_t now_ms, struct snooze *ret,
                struct error *error);
/* The wall time in ms until which no new trial begins, 0 when one may. */
int64_t snooze_until(const struct paths *paths, double most, int64_t now_ms, bool emergency);
