/* What must survive: events, bodies, devices, tokens, releases, permits, halts, log. Backends are a
 * struct of functions with the same verbs; `sqlite` is the first. One writer. Must never report a
 * commit that is not on stable storage. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

struct store_event {
    int64_t number;    /* over all rollouts, grows */
    const char *rollout;
    double t;
    const char *json;  /* event or decision, as `maeslant replay` reads and prints it */
    bool decision;
};
