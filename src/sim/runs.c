#include "sim/runs.h"

#include "base/buf.h"

#include <math.h>
#include <string.h>

#define Z95 1.959963984540054

const char *const runs_figure_names[RUNS_FIGURES] = {
    "exposed",    "harmed",    "proven_harm",  "halted", "completed",
    "false_halt", "halted_at", "completed_at", "soaks",
};

/* Welford's running mean and sum of squares. */
struct running {
    uint64_t count;
    double mean, squares;
};

static void add(struct running *running, double value)
{
    if (isnan(value))
        return;
    double before = value - running->mean;
    running->mean += before / (double)++running->count;
    running->squares += before * (value - running->mean);
}

static struct runs_interval of_means(const struct running *running)
{
    double n = (double)running->count, half = 0;
    if (running->count > 1)
        half = Z95 * sqrt(running->squares / (n - 1) / n);
    return (struct runs_interval){running->count, running->mean, running->mean - half,
                                  running->mean + half};
}

static struct runs_interval of_shares(const struct running *running)
{
    double n = (double)running->count, p = running->mean, z2 = Z95 * Z95;
    if (running->count == 0)
        return (struct runs_interval){0};
    double middle = (p + z2 / (2 * n)) / (1 + z2 / n);
    double half = Z95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n);
    return (struct runs_interval){running->count, p, fmax(0, middle - half),
                                  fmin(1, middle + half)};
}

static void count_run(struct running *figures, const struct sim_result *result, double soak)
{
    double end = isnan(result->halted_at) ? result->completed_at : result->halted_at;
    add(&figures[FIGURE_EXPOSED], (double)result->exposed);
    add(&figures[FIGURE_HARMED], (double)result->harmed);
    add(&figures[FIGURE_PROVEN_HARM], (double)result->proven_harm);
    add(&figures[FIGURE_HALTED], result->halted);
    add(&figures[FIGURE_COMPLETED], !isnan(result->completed_at));
    add(&figures[FIGURE_FALSE_HALT], result->false_halt);
    add(&figures[FIGURE_HALTED_AT], result->halted_at);
    add(&figures[FIGURE_COMPLETED_AT], result->completed_at);
    add(&figures[FIGURE_SOAKS], end / soak);
}

static void summarise(const struct running *figures, struct runs_summary *ret)
{
    for (unsigned i = 0; i < RUNS_FIGURES; i++) {
        bool share = i == FIGURE_HALTED || i == FIGURE_COMPLETED || i == FIGURE_FALSE_HALT;
        ret->figures[i] = share ? of_shares(&figures[i]) : of_means(&figures[i]);
    }
}

int runs_do(const struct scenario *scenario, uint64_t seed, unsigned count,
            const struct runs_progress *progress, struct runs *ret, struct error *error)
{
    struct running figures[STRATEGY_COUNT][RUNS_FIGURES] = {0};
    struct fleet fleet;
    int r = 0;
    *ret = (struct runs){.count = count, .seed = seed};
    fleet_init(&fleet, scenario, seed);
    for (unsigned run = 0; run < count && r == 0; run++) {
        fleet_seed(&fleet, seed + run);
        if (progress && progress->next)
            progress->next(progress->sim.user, run + 1);
        for (unsigned i = 0; i < STRATEGY_COUNT && r == 0; i++) {
            struct runs_strategy *strategy = &ret->strategies[i];
            struct sim_result result;
            if (i != STRATEGY_MAESLANT && !scenario->compare[i])
                continue;
            if (run == 0)
                strategy->trace = xcalloc(1, sizeof *strategy->trace);
            r = sim_run(&fleet, (enum strategy)i, seed + run, &result,
                        run == 0 ? strategy->trace : NULL, progress ? &progress->sim : NULL, error);
            if (run == 0)
                strategy->first = result;
            strategy->ran = true;
            count_run(figures[i], &result, scenario->policy.soak);
        }
    }
    for (unsigned i = 0; i < STRATEGY_COUNT; i++)
        summarise(figures[i], &ret->strategies[i].summary);
    fleet_free(&fleet);
    return r;
}

void runs_free(struct runs *runs)
{
    for (unsigned i = 0; i < STRATEGY_COUNT; i++)
        free(runs->strategies[i].trace);
}
