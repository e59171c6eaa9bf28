/* A scenario of the simulator (docs/simulation.md), read from YAML and checked whole: unknown keys,
 * shares that add up to more than 1 and impossible rates are refused with line, column and path.
 * Must never hold a value that the simulator has to doubt. */
#pragma once

#include "base/error.h"
#include "rollout/policy.h"
#include "sim/strategy-names.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCENARIO_NONE UINT32_MAX

/* One attribute and its shares: one table, or one for each value of the attribute that is given. */
struct scenario_attribute {
    char *name;
    char **values;
    unsigned value_count;
    unsigned given;       /* number of an earlier attribute, or SCENARIO_NONE */
    unsigned table_count; /* 1, or the other's values and one more for devices without it */
    double *cumulative;   /* table_count × value_count; devices beyond the last have no value */
};

/* Devices by attributes: all conditions hold; each allows some values. */
struct scenario_condition {
    unsigned attribute;      /* SCENARIO_NONE: the organisation */
    bool *allowed;           /* by number of value */
    uint32_t *organisations; /* from 0, ascending */
    size_t organisation_count;
};
struct scenario_where {
    struct scenario_condition *conditions;
    size_t count;
};

struct scenario_drift {
    double from, to; /* seconds of the day */
    double times;
};

struct scenario_outage {
    double at, length; /* seconds */
    double share;
    struct scenario_where where;
};

enum scenario_shows {
    SHOWS_SILENT,
    SHOWS_FAILED,
    SHOWS_INTERRUPTED, /* restarts again and again */
    SHOWS_REGRESSED,   /* reports healthy first, however early the harm is done */
    SHOWS_HEALTHY,     /* never */
};
struct scenario_harm {
    struct scenario_where where;
    double probability;
    enum scenario_shows shows;
    double after; /* seconds from the begin */
    bool recovers;
};

enum scenario_says { SAYS_FAILED, SAYS_HEALTHY, SAYS_SILENT };
struct scenario_liar {
    uint32_t organisation; /* from 0 */
    enum scenario_says says;
    double share;
};

struct scenario {
    uint32_t devices, organisations;
    struct scenario_attribute *attributes;
    size_t attribute_count;
    double poll, online;
    double wake_from, wake_to; /* seconds: when those that are not online come back */
    double noise_silent, noise_failed;
    struct scenario_drift *drifts;
    size_t drift_count;
    struct scenario_outage *outages;
    size_t outage_count;
    struct scenario_harm *harms;
    size_t harm_count;
    struct policy policy;
    struct scenario_liar *liars;
    size_t liar_count;
    bool compare[STRATEGY_COUNT];
};

/* `text` is YAML. The error begins with "line 3, column 7: fleet.noise.silent …". */
int scenario_parse(const char *text, size_t len, struct scenario *ret, struct error *error);
void scenario_free(struct scenario *scenario);
/* Does the release break any device at all? */
bool scenario_is_harmful(const struct scenario *scenario);
