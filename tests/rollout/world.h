/* A small world around a rollout: devices that ask, soak, fail, drift, go dark and come back, all
 * by one seed. What it does to a device never depends on the arm, unless `harm` or `kind` say so.
 */
#pragma once

#include "rollout/rollout.h"

#include <stdbool.h>
#include <stdint.h>

struct world_plan {
    const char *policy; /* JSON */
    uint32_t devices;
    unsigned strata, organisations; /* ≥ 1 */
    bool give_organisations;        /* in the start event */
    double asks_per_soak;           /* requests in a soak, as a share of the devices */
    double noise;                   /* of an exposure, either arm; half of it is silence */
    double drift;                   /* the noise is so many times larger in every other stretch */
    double crowding;                /* the noise grows with the exposures in flight */
    double dark; /* share of the devices that some spells leave without network */
    double burst; /* chance, each tenth of a soak, that an eighth of the devices fails together */
    double late; /* share of reports that are slow, perhaps too slow */
    double decline, interrupt;
    bool server_outages;
    double harm;      /* of the release */
    double kind;      /* share of the placebos' failures that are forgiven: partners not alike */
    double drop_at;   /* a third of all that is in flight then goes dark at once; 0: never */
    double soaks_max; /* give up after so many */
};

struct world_result {
    struct rollout_view view;
    double sup_log_split;
    uint64_t harmed, events, exposed_before_evidence;
    bool paused;   /* ever */
    bool finished; /* every device settled */
};

void world_run(const struct world_plan *plan, uint64_t seed, struct world_result *ret);

/* A number generator of known quality (splitmix64), for tests only. */
uint64_t world_random(uint64_t *state);
double world_unit(uint64_t *state);
/* 64 hex digits of a seed. */
void world_seed_text(uint64_t seed, char ret[static 65]);
