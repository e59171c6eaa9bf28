/* The strategies behind sim_run. Inside src/sim. */
#pragma once

#include "sim/sim.h"

int strategy_maeslant(const struct fleet *fleet, uint64_t seed, struct sim_result *result,
                      struct sim_trace *trace, const struct sim_progress *progress,
                      struct error *error);
/* Those that a scenario compares with. */
int strategy_other(const struct fleet *fleet, enum strategy strategy, struct sim_result *result,
                   struct sim_trace *trace, const struct sim_progress *progress);
