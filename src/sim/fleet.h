/* The simulated fleet: who the devices are, what becomes of an exposure, who is cut off. Everything
 * is a function of the seed and the device, so it takes no memory for a device that has nothing to
 * do and is the same for every strategy. */
#pragma once

#include "rollout/rollout.h"
#include "sim/random.h"
#include "sim/scenario.h"

#define FLEET_ATTRIBUTES_MAX 64

struct fleet {
    const struct scenario *scenario;
    struct rollout_organisation *organisations; /* names are owned */
    uint32_t *first;                            /* first device of each, and one past the last */
    uint32_t online;                            /* so many are there from the start */
    struct chance_order order;                  /* in which devices come along; online ones first */
    uint64_t key_harm, key_noise, key_report, key_outage, key_liar;
    uint64_t key_attribute[FLEET_ATTRIBUTES_MAX];
};

void fleet_init(struct fleet *ret, const struct scenario *scenario, uint64_t seed);
void fleet_free(struct fleet *fleet);
/* Other chances, the same organisations. */
void fleet_seed(struct fleet *fleet, uint64_t seed);

/* The device that comes along as number `index`, and from when on it is there. */
uint32_t fleet_device(const struct fleet *fleet, uint32_t index);
double fleet_there_at(const struct fleet *fleet, uint32_t index);
uint32_t fleet_organisation(const struct fleet *fleet, uint32_t device);
/* Numbers of the values of all attributes; value_count for none. */
void fleet_values(const struct fleet *fleet, uint32_t device, uint32_t *ret);

/* Is it cut off at `t`? Then until when. */
bool fleet_cut_off(const struct fleet *fleet, uint32_t device, double t, double *ret_until);

/* What the release does to the device, or NULL: the first rule that matches decides. */
const struct scenario_harm *fleet_harm(const struct fleet *fleet, uint32_t device);

/* What becomes of one exposure that begins at `t`. */
enum fate { FATE_HEALTHY, FATE_FAILED, FATE_SILENT, FATE_INTERRUPTED };
struct exposure_fate {
    enum fate shows;
    double at;                        /* seconds from the begin, when it shows */
    const struct scenario_harm *harm; /* what the release does to it, or NULL */
    double harm_at;                   /* seconds from the begin */
    bool regresses;                   /* reports that too, when it is harmed after it was healthy */
};
/* `exposure` tells a device's exposures apart. */
struct exposure_fate fleet_fate(const struct fleet *fleet, uint32_t device, unsigned exposure,
                                enum rollout_arm arm, double t);
