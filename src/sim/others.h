/* What strategies without a permit have in common: they open the next part of the fleet, the
 * devices in it start when they poll, and now and then somebody looks at counts. Inside src/sim. */
#pragma once

#include "sim/calendar.h"
#include "sim/fleet.h"
#include "sim/sim.h"

/* Devices of one arm; `silent` are those whose deadline has passed. */
struct crowd_counts {
    uint64_t started, healthy, failed, silent;
};

struct crowd {
    const struct fleet *fleet;
    const struct policy *policy;
    struct calendar queue;
    double now;
    uint64_t opened;   /* so many of the order may have the release */
    uint64_t assigned; /* opened, or taken as a baseline */
    uint32_t online_taken, offline_taken;
    uint64_t group_start; /* `opened` when the present group began */
    struct crowd_counts all, group, baseline;
    uint64_t turns, turns_wanted;
    bool stops_pending; /* whether a halt keeps those that were opened and have not started */
    struct sim_result *result;
};

struct crowd_strategy {
    double (*interval)(const struct crowd *crowd); /* seconds between looks; NULL: never looks */
    void (*begin)(struct crowd *crowd, void *state);
    void (*look)(struct crowd *crowd, void *state);
    size_t state_size;
    bool stops_pending;
};

/* The next `count` devices are offered the release, as a new group if `group`. */
void crowd_open(struct crowd *crowd, uint64_t count, bool group);
/* The next `count` devices go on as they are and are watched as a baseline. */
void crowd_watch(struct crowd *crowd, uint64_t count);
void crowd_halt(struct crowd *crowd, const char *format, ...) __attribute__((format(printf, 2, 3)));
uint64_t crowd_left(const struct crowd *crowd);

extern const struct crowd_strategy strategy_at_once, strategy_groups, strategy_canary,
    strategy_rate, strategy_test;
