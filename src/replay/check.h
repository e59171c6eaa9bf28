/* A log of events and decisions, compared with what its events give. Must never pass a log that
 * leaves a decision out. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct replay_check;

struct replay_check *replay_check_new(void);
void replay_check_free(struct replay_check *check);

/* The next line, as replay_line takes it. -EUCLEAN at the first decision that differs; the two
 * texts are then to be had. */
int replay_check_line(struct replay_check *check, const char *text, size_t len,
                      struct error *error);
int replay_check_end(struct replay_check *check, struct error *error);

/* Decisions that were the same. */
uint64_t replay_check_count(const struct replay_check *check);
/* What the log says and what its events give where they differ first; NULL: nothing. */
const char *replay_check_logged(const struct replay_check *check);
const char *replay_check_recomputed(const struct replay_check *check);
