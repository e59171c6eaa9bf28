#include "base/buf.h"
#include "base/encode.h"
#include "rollout/internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

void *array_room(void *array, uint32_t count, uint32_t *cap, size_t size)
{
    if (count < *cap)
        return array;
    uint32_t more = *cap ? *cap * 2 : 16;
    assert(more > count);
    array = xrealloc(array, more, size);
    memset((char *)array + (size_t)*cap * size, 0, (size_t)(more - *cap) * size);
    *cap = more;
    return array;
}

uint32_t organisation_number(struct rollout *rollout, const char *name)
{
    uint32_t before = rollout->organisation_names.count;
    uint32_t number = names_add(&rollout->organisation_names, name, strlen(name));
    if (number == before) {
        ARRAY_ROOM(rollout->organisations, number, rollout->organisation_cap);
        rollout->organisations[number] = (struct organisation){
            .cells = NONE,
            .budget = (uint64_t)UNITS + 1,
            .slice = slice_of(rollout, "organisation", name),
        };
    }
    return number;
}

/* Groups are an organisation's own: equal names in two organisations are two groups. */
static uint32_t group_number(struct rollout *rollout, const char *organisation, const char *name)
{
    if (!name || !*name)
        return NONE;
    _cleanup_buf_ struct buf key = BUF_INIT;
    buf_add_str(&key, organisation);
    buf_add_str(&key, "\n");
    buf_add_str(&key, name);
    uint32_t before = rollout->group_names.count;
    uint32_t number = names_add(&rollout->group_names, key.data, key.len);
    if (number == before) {
        ARRAY_ROOM(rollout->groups, number, rollout->group_cap);
        rollout->groups[number] = (struct group){0};
    }
    return number;
}

/* "os=linux,engine=2": the policy's strata attributes that the device has, in the policy's order.
 */
static uint32_t stratum_number(struct rollout *rollout, const struct rollout_device *device)
{
    _cleanup_buf_ struct buf key = BUF_INIT;
    for (char *const *wanted = rollout->policy.strata; *wanted; wanted++) {
        for (size_t i = 0; i < device->attribute_count; i++) {
            if (strcmp(device->attributes[i].name, *wanted) != 0)
                continue;
            if (key.len > 0)
                buf_add_str(&key, ",");
            buf_add_str(&key, *wanted);
            buf_add_str(&key, "=");
            buf_add_str(&key, device->attributes[i].value);
            break;
        }
    }
    if (key.len == 0)
        buf_add_str(&key, "all");
    uint32_t before = rollout->stratum_names.count;
    uint32_t number = names_add(&rollout->stratum_names, key.data, key.len);
    if (number == before) {
        ARRAY_ROOM(rollout->strata, number, rollout->stratum_cap);
        rollout->strata[number] = (struct stratum){
            .rank = NONE,
            .half_open = NONE,
            .largest = NONE,
            .cost = (uint64_t)UNITS,
            .tolerated = rollout->policy.tolerance_cap,
            .waiting_until = -INFINITY,
        };
    }
    return number;
}

static bool has_shares(const struct policy *policy)
{
    for (size_t i = 0; i < policy->stage_count; i++)
        if (policy->stages[i].share < 1)
            return true;
    return false;
}

/* Nobody looks at the place when all stages are for everybody, and a fleet of millions would spend
 * a third of a rollout's time on it. */
static uint64_t place_of(const struct rollout *rollout, const char *id)
{
    if (!has_shares(&rollout->policy))
        return 0;
    _cleanup_buf_ struct buf text = BUF_INIT;
    uint8_t digest[SHA256_SIZE];
    buf_add_str(&text, "maeslant share v1\n");
    buf_add_str(&text, rollout->release);
    buf_add_str(&text, "\n");
    buf_add_str(&text, id);
    sha256(text.data, text.len, digest);
    uint64_t place = 0;
    for (int i = 0; i < 8; i++)
        place = place << 8 | digest[i];
    return place;
}

bool device_in_share(const struct device *device, double share)
{
    return share >= 1 || device->place < (uint64_t)ldexp(share, 64);
}

static uint32_t new_device(struct rollout *rollout, const char *id)
{
    uint32_t number = rollout->device_count++;
    assert(number < NONE);
    ARRAY_ROOM(rollout->devices, number, rollout->device_cap);
    rollout->devices[number] = (struct device){
        .place = place_of(rollout, id),
        .slot = NONE,
        .pair = NONE,
        .state = DEVICE_NEW,
    };
    return number;
}

uint32_t rollout_device_add(struct rollout *rollout, const struct rollout_device *device)
{
    uint32_t number = new_device(rollout, device->id);
    rollout_device_update(rollout, number, device);
    return number;
}

uint32_t rollout_device_add_like(struct rollout *rollout, const char *id, const char *organisation,
                                 uint32_t like)
{
    assert(like < rollout->device_count && rollout->excluded_count == 0);
    uint32_t number = new_device(rollout, id);
    struct device *device = &rollout->devices[number];
    device->organisation = organisation_number(rollout, organisation);
    device->group = NONE;
    device->profile = rollout->devices[like].profile;
    return number;
}

void rollout_expect(const struct rollout *rollout, uint32_t number, bool soon)
{
    const struct device *device = &rollout->devices[number];
    if (!soon)
        __builtin_prefetch(device, 1);
    else if (device->pair != NONE)
        __builtin_prefetch(&rollout->pairs[device->pair]);
}

void rollout_device_update(struct rollout *rollout, uint32_t number,
                           const struct rollout_device *device)
{
    assert(number < rollout->device_count);
    struct device *known = &rollout->devices[number];
    /* Whoever is in flight or reverting is counted where it began. */
    if (!known->in_flight && !known->reverting) {
        known->organisation = organisation_number(rollout, device->organisation);
        known->group = group_number(rollout, device->organisation, device->group);
    }
    known->profile = profile_number(rollout, device, stratum_number(rollout, device));
    known->excluded = slices_exclude(rollout, device);
}

enum rollout_device_state rollout_device_state(const struct rollout *rollout, uint32_t number)
{
    assert(number < rollout->device_count);
    return (enum rollout_device_state)rollout->devices[number].state;
}
