/* The fleet's part of a scenario: attributes with shares, and conditions on them. Inside src/sim.
 */
#pragma once

#include "sim/scenario-read.h"
#include "sim/scenario.h"

int read_attributes(struct scenario_reader *reader, const json_t *fleet, struct scenario *scenario);
/* `object[key]`, a mapping of attribute to value or list of values; everybody when absent. */
int read_where(struct scenario_reader *reader, const json_t *object, const char *where,
               const char *key, const struct scenario *scenario, struct scenario_where *ret);
/* Number of "o3" (2), or -EINVAL. */
int read_organisation(struct scenario_reader *reader, const json_t *value, const char *where,
                      const char *key, const struct scenario *scenario, uint32_t *ret);
void where_free(struct scenario_where *where);
void attributes_free(struct scenario *scenario);
