/* The daemon. */
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct run_options {
    const char *root;
    const char *user; /* NULL: stays who it is */
    bool once;        /* one look at the plan, and the trial that comes of it */
};
struct paths;
/* One agent a root: the lock, with its process id in it, ends with the process. -EBUSY: another one
 * has it. */
int agent_lock(const struct paths *paths, int *ret_fd, struct error *error);
int agent_run(const struct run_options *options, struct error *error);
