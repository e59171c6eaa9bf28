/* What the commands share: their options, where things lie, and how lines look. */
#pragma once

#include "agent/config.h"
#include "agent/paths.h"
#include "base/json.h"

#include <stdbool.h>
#include <stddef.h>

enum { COMMAND_OK = 0, COMMAND_FAILED = 1, COMMAND_USAGE = 2 };

struct command_option {
    const char *name;  /* "root"; one letter: "o" */
    const char **text; /* takes a value, or */
    bool *flag;        /* takes none */
};
/* Options and at most one operand. -1: go on, else the exit status. `usage` is the whole help text,
 * whose first line is shown for an error. */
int command_options(int argc, char **argv, const char *usage, const struct command_option *options,
                    size_t count, const char **operand);
/* "maeslant-agent: text" to stderr; COMMAND_FAILED. */
int command_fail(const struct error *error);
/* One line of JSON, indented on a terminal. */
void command_print_json(const json_t *value);
/* "red", "green", "yellow", "bold", "dim", "off": "" unless stdout is a terminal that shows it. */
const char *command_colour(const char *name);
/* "in 3m" or "3m ago" for a wall time. */
void command_when(int64_t at_ms, char *ret, size_t size);

/* agent.yaml below the root; -ENOENT, -EACCES, -EINVAL with the sentence. */
int command_config(const struct paths *paths, struct config *ret, struct error *error);
/* status.json of an agent that runs, or of one that ended; owned by the caller, NULL when there is
 * none. */
json_t *command_agent_status(const struct paths *paths, bool *ret_running);
