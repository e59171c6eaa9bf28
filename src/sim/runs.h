/* Runs of a scenario, one or many, and what they come to. */
#pragma once

#include "sim/sim.h"

/* A mean with its 95 % confidence interval: by the normal approximation for counts and times, by
 * Wilson's for shares. `count` is of the runs in which the figure has a value. */
struct runs_interval {
    uint64_t count;
    double mean, low, high;
};

enum runs_figure {
    FIGURE_EXPOSED,
    FIGURE_HARMED,
    FIGURE_PROVEN_HARM,
    FIGURE_HALTED,
    FIGURE_COMPLETED,
    FIGURE_FALSE_HALT,
    FIGURE_HALTED_AT,
    FIGURE_COMPLETED_AT,
    FIGURE_SOAKS,
    RUNS_FIGURES,
};
extern const char *const runs_figure_names[RUNS_FIGURES];

struct runs_summary {
    struct runs_interval figures[RUNS_FIGURES];
};

struct runs_strategy {
    bool ran;
    struct sim_result first; /* of the first seed, with its trace */
    struct sim_trace *trace;
    struct runs_summary summary;
};

struct runs {
    unsigned count;
    uint64_t seed;
    struct runs_strategy strategies[STRATEGY_COUNT];
};

struct runs_progress {
    struct sim_progress sim;
    void (*next)(void *user, unsigned run); /* with sim.user; from 1 */
};

int runs_do(const struct scenario *scenario, uint64_t seed, unsigned count,
            const struct runs_progress *progress, struct runs *ret, struct error *error);
void runs_free(struct runs *runs);
