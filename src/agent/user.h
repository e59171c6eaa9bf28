/* `--user NAME`: the agent that root started becomes NAME, with all that it does: adapters and
 * probes run as NAME too. Must never give away what is not the agent's. */
#pragma once

#include "agent/paths.h"

/* What root left of the agent's own files becomes NAME's first. Nothing when the process is NAME
 * already. */
int user_become(const char *user, const struct paths *paths, struct error *error);
