/* What else changed on the device within a day (rule 9): packages, from dpkg's log, and the
 * releases of other products. */
#pragma once

#include "agent/agent.h"

/* A JSON array of at most 64 {what, name, at}, owned by the caller. */
json_t *changes_list(struct agent *agent, const struct product *except);
