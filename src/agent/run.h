/* The daemon. */
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct run_options {
    const char *root;
    const char *user; /* NULL: stays who it is */
    bool once;        /* one look at the plan, and the trial that comes of it */
};
int agent_run(const struct run_options *options, struct error *error);
