#include "base/buf.h"
#include "gate/evidence.h"
#include "rollout/internal.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Evidence on every value of every attribute. Devices with the same values in all that is followed
 * share a profile, so that a device costs four bytes and an event O(attributes).
 *
 * A slice's evidence is the product of two e-processes on the devices of pairs that belong to it:
 * they fail more often than WIDE_CAPS times the cap, and those that fail first had the release,
 * which is a fair coin whichever device the weather breaks. Weights are fixed in advance, one part
 * in SLICES_MAX each, so their mean is an e-process however many values turn up. */
#define SLICES_MAX 1024
#define VALUES_MAX 64 /* of an attribute; the others are one slice together */
#define ATTRIBUTES_MAX 32
#define WIDE_CAPS 5.0
#define COINS 20.0 /* a slice's own coins say a twentieth of what alone would halt, at least */

static double log_coins(const struct slice_counts *counts)
{
    return split_log_evidence(counts->k_release, counts->k_placebo, 0);
}

/* The rate is worth nothing in weather that breaks many devices of a slice at once, such as an
 * organisation's network: where a false halt in a hundred is accepted, the coins alone count. */
static double log_slice(const struct rollout *rollout, const struct slice_counts *counts)
{
    if (rollout->policy.alpha >= 0.01)
        return log_coins(counts);
    double rate = fmin(WIDE_CAPS * rollout->policy.tolerance_cap, 0.5);
    return rate_log_evidence(&rollout->mixture, counts->begun, counts->decided, rate) +
           log_coins(counts);
}

/* What alarm C leaves of its half of alpha, as in docs/statistics.md, less what the strata use: a
 * sixteenth of it for the watch, the rest for the slices. */
double log_part_share(const struct rollout *rollout)
{
    return log(1 - pow(41.0 / 42, floor(rollout->policy.harm_budget)) - 1.0 / 84);
}

static uint32_t other_of(struct rollout *rollout, const char *name);

/* The slice of a value, or the one of all that came too late to be followed; NONE: no room. */
uint32_t slice_of(struct rollout *rollout, const char *name, const char *value)
{
    _cleanup_buf_ struct buf key = BUF_INIT;
    buf_addf(&key, "%s=%s", name, value);
    uint32_t found = names_find(&rollout->slice_names, key.data, key.len);
    if (found != UINT32_MAX)
        return found;
    uint32_t attribute = names_add(&rollout->attribute_names, name, strlen(name));
    ARRAY_ROOM(rollout->attribute_values, attribute, rollout->attribute_cap);
    if (rollout->attribute_values[attribute] >= VALUES_MAX ||
        rollout->slice_names.count >= SLICES_MAX - rollout->attribute_names.count)
        return other_of(rollout, name);
    rollout->attribute_values[attribute]++;
    found = names_add(&rollout->slice_names, key.data, key.len);
    ARRAY_ROOM(rollout->slices, found, rollout->slice_cap);
    return found;
}

static uint32_t other_of(struct rollout *rollout, const char *name)
{
    _cleanup_buf_ struct buf key = BUF_INIT;
    buf_addf(&key, "%s (other values)", name);
    uint32_t found = names_find(&rollout->slice_names, key.data, key.len);
    if (found != UINT32_MAX || rollout->slice_names.count >= SLICES_MAX)
        return found;
    found = names_add(&rollout->slice_names, key.data, key.len);
    ARRAY_ROOM(rollout->slices, found, rollout->slice_cap);
    return found;
}

uint32_t profile_number(struct rollout *rollout, const struct rollout_device *device,
                        uint32_t stratum)
{
    uint32_t members[ATTRIBUTES_MAX];
    size_t count = 0;
    _cleanup_buf_ struct buf key = BUF_INIT;
    buf_addf(&key, "%" PRIu32, stratum);
    for (size_t i = 0; i < device->attribute_count && count < ATTRIBUTES_MAX; i++)
        members[count++] =
            slice_of(rollout, device->attributes[i].name, device->attributes[i].value);
    for (size_t i = 0; i < count; i++)
        if (members[i] != NONE)
            buf_addf(&key, " %" PRIu32, members[i]);

    uint32_t number = names_find(&rollout->profile_names, key.data, key.len);
    if (number != UINT32_MAX)
        return number;
    number = names_add(&rollout->profile_names, key.data, key.len);
    ARRAY_ROOM(rollout->profiles, number, rollout->profile_cap);
    struct profile *profile = &rollout->profiles[number];
    profile->stratum = stratum;
    profile->slices = xcalloc(count ? count : 1, sizeof *profile->slices);
    for (size_t i = 0; i < count; i++)
        if (members[i] != NONE)
            profile->slices[profile->count++] = members[i];
    return number;
}

void profiles_free(struct rollout *rollout)
{
    for (uint32_t i = 0; i < rollout->profile_names.count; i++)
        free(rollout->profiles[i].slices);
    names_free(&rollout->profile_names);
    names_free(&rollout->slice_names);
    names_free(&rollout->attribute_names);
    free(rollout->profiles);
    free(rollout->slices);
    free(rollout->attribute_values);
}

/* The i-th slice of a device of this profile and organisation; the organisation's own comes last.
 * NONE: it has none, for lack of room. */
static uint32_t nth_slice(const struct rollout *rollout, const struct profile *profile,
                          uint32_t organisation, uint32_t i)
{
    return i < profile->count ? profile->slices[i] : rollout->organisations[organisation].slice;
}

void slices_begun(struct rollout *rollout, const struct device *device)
{
    const struct profile *profile = &rollout->profiles[device->profile];
    rollout->slice_begun++;
    for (uint32_t i = 0; i <= profile->count; i++) {
        uint32_t slice = nth_slice(rollout, profile, device->organisation, i);
        if (slice != NONE)
            rollout->slices[slice].begun++;
    }
}

void slices_settle(struct rollout *rollout, const struct exposure *exposure, char outcome)
{
    const struct profile *profile = &rollout->profiles[exposure->profile];
    const struct pair *pair = exposure->pair == NONE ? NULL : &rollout->pairs[exposure->pair];
    bool failed = outcome == 'f' || outcome == 's', release = exposure->arm == ARM_RELEASE;
    if (outcome == 'd' || rollout->halted)
        return;
    char partner = pair ? pair->outcome[1 - exposure->member] : 'h';
    bool second = partner == 'f' || partner == 's';
    uint32_t organisation = rollout->devices[exposure->device].organisation;
    for (uint32_t i = 0; i <= profile->count; i++) {
        uint32_t slice = nth_slice(rollout, profile, organisation, i);
        if (slice == NONE)
            continue;
        struct slice_counts *counts = &rollout->slices[slice];
        counts->settled += release;
        if (!failed)
            continue;
        counts->failed += release;
        counts->decided += pair && !second;
        counts->k_release += pair && release && !second;
        counts->k_placebo += !release;
        quorum_slice_toss(rollout, slice, organisation, pair && !second, pair && release && !second,
                          !release);
    }
    if (failed && release && pair && !second) {
        rollout->slice_suspect = exposure->profile;
        rollout->slice_suspect_organisation = organisation;
    }
}

/* A slice to which most devices belong is the fleet, of which the alarms A and C tell. */
static bool is_part(const struct rollout *rollout, const struct slice_counts *counts)
{
    return 2 * counts->begun < rollout->slice_begun;
}

uint32_t slices_accused(struct rollout *rollout)
{
    uint32_t suspect = rollout->slice_suspect, worst = NONE;
    double best = -INFINITY, sum = 0;
    rollout->slice_suspect = NONE;
    if (suspect == NONE || !rollout->policy.placebo_pairs)
        return NONE;
    /* The mean over all slices is at least what the failed device's own give to it. */
    const struct profile *profile = &rollout->profiles[suspect];
    for (uint32_t i = 0; i <= profile->count; i++) {
        uint32_t slice = nth_slice(rollout, profile, rollout->slice_suspect_organisation, i);
        if (slice == NONE)
            continue;
        const struct slice_counts *counts = &rollout->slices[slice];
        if (!is_part(rollout, counts) || counts->decided > counts->begun ||
            !log_at_least(log_coins(counts) + log(COINS), rollout->log_threshold))
            continue;
        double term = log_slice(rollout, counts);
        sum = term > best ? sum * exp(best - term) + 1 : sum + exp(term - best);
        if (term > best) {
            best = term;
            worst = slice;
        }
    }
    if (worst == NONE ||
        !log_at_least(best + log(sum) - log(SLICES_MAX) + log_part_share(rollout) + log(15.0 / 16),
                      rollout->log_threshold))
        return NONE;
    return worst;
}

/* The same for one slice, where some organisations are left out. */
bool slice_stands(struct rollout *rollout, uint32_t slice)
{
    struct slice_counts counts = rollout->slices[slice];
    quorum_slice(rollout, slice, &counts);
    return log_at_least(log_coins(&counts) + log(COINS), rollout->log_threshold) &&
           log_at_least(log_slice(rollout, &counts) - log(SLICES_MAX) + log_part_share(rollout) +
                            log(15.0 / 16),
                        rollout->log_threshold);
}

static int heavier(const void *a, const void *b)
{
    const struct rollout_slice_view *x = a, *y = b;
    if (x->log_e != y->log_e)
        return x->log_e < y->log_e ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* e-BH at alpha: the k-th largest e-value is at least m / (k alpha). */
static void name_guilty(struct rollout_slice_view *list, size_t count, double alpha)
{
    size_t guilty = 0;
    for (size_t k = 1; k <= count; k++)
        if (log_at_least(list[k - 1].log_e, log(SLICES_MAX / ((double)k * alpha))))
            guilty = k;
    for (size_t k = 0; k < guilty; k++)
        list[k].guilty = true;
}

size_t rollout_slices(const struct rollout *rollout, struct rollout_slice_view *ret, size_t cap)
{
    size_t count = rollout->slice_names.count;
    struct rollout_slice_view *list = xcalloc(count ? count : 1, sizeof *list);
    for (uint32_t i = 0; i < count; i++) {
        const struct slice_counts *counts = &rollout->slices[i];
        list[i] = (struct rollout_slice_view){
            .name = rollout->slice_names.text[i],
            .n = counts->settled,
            .k = counts->failed,
            .k_release = counts->k_release,
            .k_placebo = counts->k_placebo,
            .log_e = counts->decided > counts->begun ? 0 : log_slice(rollout, counts),
        };
    }
    qsort(list, count, sizeof *list, heavier);
    name_guilty(list, count, rollout->policy.alpha);
    if (count > cap)
        count = cap;
    for (size_t i = 0; i < count; i++)
        ret[i] = list[i];
    free(list);
    return count;
}
