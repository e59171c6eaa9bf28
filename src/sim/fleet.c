#include "sim/fleet.h"

#include "base/buf.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define DAY 86400.0
#define REPORT_JITTER 10.0 /* seconds from the end of the soak to the report, at most */
#define LIE_AFTER 60.0     /* a device that lies about a failure does so within a minute */

void fleet_seed(struct fleet *fleet, uint64_t seed)
{
    fleet->key_harm = chance_key(seed, CHANCE_HARM);
    fleet->key_noise = chance_key(seed, CHANCE_NOISE);
    fleet->key_report = chance_key(seed, CHANCE_REPORT);
    fleet->key_outage = chance_key(seed, CHANCE_OUTAGE);
    fleet->key_liar = chance_key(seed, CHANCE_LIAR);
    for (unsigned i = 0; i < fleet->scenario->attribute_count; i++)
        fleet->key_attribute[i] = chance_key(seed, CHANCE_ATTRIBUTE + i);
    chance_order_init(&fleet->order, chance_key(seed, CHANCE_ORDER), fleet->scenario->devices);
}

/* Sizes by Zipf's law, which is what the sizes of firms follow (Axtell, "Zipf distribution of U.S.
 * firm sizes", Science 2001): the r-th largest has 1/r of the largest's devices, and at least one.
 */
static void size_organisations(struct fleet *fleet)
{
    uint32_t count = fleet->scenario->organisations, devices = fleet->scenario->devices;
    double all = 0, sum = 0;
    fleet->first = xcalloc((size_t)count + 1, sizeof *fleet->first);
    fleet->organisations = xcalloc(count, sizeof *fleet->organisations);
    for (uint32_t i = 0; i < count; i++)
        all += 1.0 / (i + 1);
    for (uint32_t i = 0; i < count; i++) {
        sum += 1.0 / (i + 1);
        double share = i + 1 == count ? 1 : sum / all;
        fleet->first[i + 1] = i + 1 + (uint32_t)(share * (double)(devices - count));
        fleet->organisations[i].name = xasprintf("o%u", i + 1);
        fleet->organisations[i].devices = fleet->first[i + 1] - fleet->first[i];
    }
}

void fleet_init(struct fleet *ret, const struct scenario *scenario, uint64_t seed)
{
    assert(scenario->attribute_count <= FLEET_ATTRIBUTES_MAX);
    *ret = (struct fleet){.scenario = scenario};
    ret->online = (uint32_t)(scenario->online * scenario->devices + 0.5);
    size_organisations(ret);
    fleet_seed(ret, seed);
}

void fleet_free(struct fleet *fleet)
{
    for (uint32_t i = 0; i < fleet->scenario->organisations; i++)
        free((char *)(uintptr_t)fleet->organisations[i].name);
    free(fleet->organisations);
    free(fleet->first);
    *fleet = (struct fleet){0};
}

uint32_t fleet_device(const struct fleet *fleet, uint32_t index)
{
    return chance_order_at(&fleet->order, index);
}

double fleet_there_at(const struct fleet *fleet, uint32_t index)
{
    const struct scenario *scenario = fleet->scenario;
    if (index < fleet->online)
        return 0;
    double u = chance_unit(chance_bits(fleet->key_report, ~(uint64_t)index));
    double place = (index - fleet->online + u) / (scenario->devices - fleet->online);
    return scenario->wake_from + place * (scenario->wake_to - scenario->wake_from);
}

uint32_t fleet_organisation(const struct fleet *fleet, uint32_t device)
{
    uint32_t low = 0, high = fleet->scenario->organisations;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (fleet->first[middle] <= device)
            low = middle;
        else
            high = middle;
    }
    return low;
}

void fleet_values(const struct fleet *fleet, uint32_t device, uint32_t *ret)
{
    for (size_t i = 0; i < fleet->scenario->attribute_count; i++) {
        const struct scenario_attribute *attribute = &fleet->scenario->attributes[i];
        size_t row = attribute->given == SCENARIO_NONE ? 0 : ret[attribute->given];
        const double *cumulative = attribute->cumulative + row * attribute->value_count;
        double u = chance_unit(chance_bits(fleet->key_attribute[i], device));
        uint32_t low = 0, high = attribute->value_count;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (u < cumulative[middle])
                high = middle;
            else
                low = middle + 1;
        }
        ret[i] = low;
    }
}

static bool matches(const struct fleet *fleet, const struct scenario_where *where, uint32_t device,
                    const uint32_t *values)
{
    for (size_t i = 0; i < where->count; i++) {
        const struct scenario_condition *condition = &where->conditions[i];
        if (condition->attribute != SCENARIO_NONE) {
            uint32_t value = values[condition->attribute];
            if (value >= fleet->scenario->attributes[condition->attribute].value_count ||
                !condition->allowed[value])
                return false;
            continue;
        }
        uint32_t organisation = fleet_organisation(fleet, device);
        bool found = false;
        for (size_t j = 0; j < condition->organisation_count; j++)
            found = found || condition->organisations[j] == organisation;
        if (!found)
            return false;
    }
    return true;
}

bool fleet_cut_off(const struct fleet *fleet, uint32_t device, double t, double *ret_until)
{
    bool cut = false;
    for (size_t i = 0; i < fleet->scenario->outage_count; i++) {
        const struct scenario_outage *outage = &fleet->scenario->outages[i];
        if (t < outage->at || t >= outage->at + outage->length ||
            chance_unit(chance_bits(fleet->key_outage + i, device)) >= outage->share)
            continue;
        if (outage->where.count > 0) {
            uint32_t values[FLEET_ATTRIBUTES_MAX];
            fleet_values(fleet, device, values);
            if (!matches(fleet, &outage->where, device, values))
                continue;
        }
        *ret_until =
            cut ? fmax(*ret_until, outage->at + outage->length) : outage->at + outage->length;
        cut = true;
    }
    return cut;
}

const struct scenario_harm *fleet_harm(const struct fleet *fleet, uint32_t device)
{
    const struct scenario *scenario = fleet->scenario;
    if (scenario->harm_count == 0)
        return NULL;
    uint32_t values[FLEET_ATTRIBUTES_MAX];
    fleet_values(fleet, device, values);
    for (size_t i = 0; i < scenario->harm_count; i++) {
        const struct scenario_harm *harm = &scenario->harms[i];
        if (!matches(fleet, &harm->where, device, values))
            continue;
        return chance_unit(chance_bits(fleet->key_harm, device)) < harm->probability ? harm : NULL;
    }
    return NULL;
}

static const struct scenario_liar *liar_of(const struct fleet *fleet, uint32_t device)
{
    const struct scenario *scenario = fleet->scenario;
    if (scenario->liar_count == 0)
        return NULL;
    uint32_t organisation = fleet_organisation(fleet, device);
    for (size_t i = 0; i < scenario->liar_count; i++)
        if (scenario->liars[i].organisation == organisation &&
            chance_unit(chance_bits(fleet->key_liar + i, device)) < scenario->liars[i].share)
            return &scenario->liars[i];
    return NULL;
}

static double drift_at(const struct scenario *scenario, double t)
{
    double hour = t - DAY * floor(t / DAY), times = 1;
    for (size_t i = 0; i < scenario->drift_count; i++)
        if (hour >= scenario->drifts[i].from && hour < scenario->drifts[i].to)
            times = scenario->drifts[i].times;
    return times;
}

struct exposure_fate fleet_fate(const struct fleet *fleet, uint32_t device, unsigned exposure,
                                enum rollout_arm arm, double t)
{
    const struct scenario *scenario = fleet->scenario;
    const struct policy *policy = &scenario->policy;
    uint64_t index = (uint64_t)exposure << 32 | device;
    double jitter = fmin(REPORT_JITTER, (policy->deadline - policy->soak) / 2);
    double u = chance_unit(chance_bits(fleet->key_report, index));
    double healthy_at = policy->soak + u * jitter;
    struct exposure_fate fate = {.shows = FATE_HEALTHY, .at = healthy_at};

    if (arm == ARM_RELEASE) {
        const struct scenario_harm *harm = fleet_harm(fleet, device);
        const struct scenario_liar *liar = liar_of(fleet, device);
        if (harm) {
            fate.harm = harm;
            fate.harm_at =
                harm->shows == SHOWS_REGRESSED ? fmax(harm->after, healthy_at + 1) : harm->after;
            fate.regresses = !liar && harm->shows != SHOWS_HEALTHY && harm->shows != SHOWS_SILENT;
        }
        if (liar) {
            fate.shows = liar->says == SAYS_HEALTHY  ? FATE_HEALTHY
                         : liar->says == SAYS_FAILED ? FATE_FAILED
                                                     : FATE_SILENT;
            if (fate.shows != FATE_HEALTHY)
                fate.at = u * fmin(LIE_AFTER, policy->soak);
            return fate;
        }
        if (harm && harm->shows != SHOWS_HEALTHY && fate.harm_at < healthy_at) {
            fate.shows = harm->shows == SHOWS_FAILED        ? FATE_FAILED
                         : harm->shows == SHOWS_INTERRUPTED ? FATE_INTERRUPTED
                                                            : FATE_SILENT;
            fate.at = fate.harm_at;
            return fate;
        }
    }

    double silent = scenario->noise_silent, failed = scenario->noise_failed;
    if (silent + failed > 0) {
        double times = drift_at(scenario, t);
        double chance = chance_unit(chance_bits(fleet->key_noise, index));
        if (chance < (silent + failed) * times) {
            fate.shows = chance < silent * times ? FATE_SILENT : FATE_FAILED;
            fate.at = u * policy->soak;
            if (fate.shows == FATE_FAILED)
                fate.harm = NULL; /* it went back before the harm was done */
        }
    }
    return fate;
}
