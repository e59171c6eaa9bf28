#include "sim/sim.h"

#include "sim/strategy.h"

#include <math.h>

#define SAMPLE_EVERY 1.0   /* seconds between samples */
#define SAMPLE_SHARE 0.008 /* or so much of the time so far */

bool trace_wants(const struct sim_trace *trace, double t)
{
    return t >= trace->next;
}

void trace_add(struct sim_trace *trace, const struct sim_sample *sample)
{
    if (trace->count == SIM_SAMPLES)
        trace->count--;
    trace->samples[trace->count++] = *sample;
    trace->next = sample->t + fmax(SAMPLE_EVERY, SAMPLE_SHARE * sample->t);
}

int sim_run(const struct fleet *fleet, enum strategy strategy, uint64_t seed,
            struct sim_result *ret, struct sim_trace *trace, const struct sim_progress *progress,
            struct error *error)
{
    *ret = (struct sim_result){.halted_at = NAN, .completed_at = NAN, .first_harm_at = NAN};
    if (trace)
        *trace = (struct sim_trace){0};
    if (strategy == STRATEGY_MAESLANT)
        return strategy_maeslant(fleet, seed, ret, trace, progress, error);
    return strategy_other(fleet, strategy, ret, trace, progress);
}
