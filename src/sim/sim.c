#include "sim/sim.h"

#include "sim/strategy.h"

#include <math.h>

#define FIRST_EVERY 1.0 /* seconds between samples, until there are too many */

bool trace_wants(const struct sim_trace *trace, double t)
{
    return t >= trace->next;
}

void trace_add(struct sim_trace *trace, const struct sim_sample *sample)
{
    if (trace->count == SIM_SAMPLES) {
        for (size_t i = 0; i < SIM_SAMPLES / 2; i++)
            trace->samples[i] = trace->samples[2 * i];
        trace->count = SIM_SAMPLES / 2;
        trace->every *= 2;
    }
    trace->samples[trace->count++] = *sample;
    trace->next = sample->t + trace->every;
}

int sim_run(const struct fleet *fleet, enum strategy strategy, uint64_t seed,
            struct sim_result *ret, struct sim_trace *trace, const struct sim_progress *progress,
            struct error *error)
{
    *ret = (struct sim_result){.halted_at = NAN, .completed_at = NAN, .first_harm_at = NAN};
    if (trace)
        *trace = (struct sim_trace){.every = FIRST_EVERY};
    if (strategy == STRATEGY_MAESLANT)
        return strategy_maeslant(fleet, seed, ret, trace, progress, error);
    return strategy_other(fleet, strategy, ret, trace, progress);
}
