/* Runs a scenario: the rollout's own code over a simulated fleet in virtual time, and what others
 * do on the same fleet (docs/simulation.md, docs/strategies.md). The same scenario and seed give
 * the same result on every machine. Must never look at a clock or at the kernel's randomness. */
#pragma once

#include "sim/fleet.h"
#include "sim/scenario.h"

/* One moment of a run, for charts. */
struct sim_sample {
    double t;
    double exposed, harmed, proven_harm, settled;
    double in_flight; /* release exposures */
    double window;    /* how many could be in flight at today's price */
    double log_e, log_split;
};
#define SIM_SAMPLES 1600
struct sim_trace {
    struct sim_sample samples[SIM_SAMPLES];
    size_t count;
    double next; /* seconds */
};

struct sim_result {
    uint64_t exposed, harmed, proven_harm;
    uint64_t repairs; /* harmed devices that do not come back by themselves */
    uint64_t placebos, settled, asks, grants;
    bool halted, false_halt, paused;
    double halted_at, completed_at; /* NAN when it did not happen */
    double ended_at;
    double first_harm_at;
    char why[512];
};

struct sim_progress {
    void (*show)(void *user, const char *strategy, double t, uint64_t exposed, uint64_t settled);
    void *user;
};

/* `trace` and `progress` may be NULL. */
int sim_run(const struct fleet *fleet, enum strategy strategy, uint64_t seed,
            struct sim_result *ret, struct sim_trace *trace, const struct sim_progress *progress,
            struct error *error);

/* For those who write strategies: a sample each second, later each hundredth part of the time so
 * far, which is enough for two months; the last one is always kept. */
void trace_add(struct sim_trace *trace, const struct sim_sample *sample);
bool trace_wants(const struct sim_trace *trace, double t);
