#include "base/buf.h"
#include "gate/bound.h"
#include "rollout/internal.h"

#include <assert.h>
#include <math.h>

/* How long a refused asker's stratum is thought to be waiting, in its own retries. */
#define PATIENCE 2.0

double retry_soon(const struct rollout *rollout)
{
    return fmin(fmax(rollout->policy.soak / 4, 1), 60);
}

void stratum_meet(struct rollout *rollout, uint32_t number)
{
    if (rollout->strata[number].rank != NONE)
        return;
    rollout->strata[number].rank = rollout->ranked_count;
    ARRAY_ROOM(rollout->ranked, rollout->ranked_count, rollout->ranked_cap);
    rollout->ranked[rollout->ranked_count++] = number;
}

void stratum_price(struct rollout *rollout, uint32_t number)
{
    struct stratum *stratum = &rollout->strata[number];
    const struct policy *policy = &rollout->policy;
    struct counts release = stratum->arm[ARM_RELEASE];
    /* Whoever says that all is well with most of the devices does not widen the window alone. */
    if (rollout->many_organisations && policy->quorum > 0 && stratum->largest != NONE &&
        stratum->largest_settled < release.settled) {
        const struct counts *largest = &rollout->cells[stratum->largest].release;
        release.settled -= largest->settled;
        release.failed -= largest->failed;
    }
    const struct counts *control = &stratum->arm[ARM_PLACEBO];
    double alpha = 1 - policy->confidence;

    double tolerated =
        policy->tolerance_ratio * bound_upper(control->settled, control->failed, alpha);
    tolerated = fmin(stratum->out_of_service ? TOLERATED_MAX : policy->tolerance_cap,
                     fmax(policy->tolerance_floor, tolerated));
    if (tolerated < stratum->tolerated)
        rollout->absolute_moved = true;
    stratum->tolerated = tolerated;

    double price = 1; /* exactly, with no evidence: at most ⌊H⌋ are exposed at all */
    if (release.settled > 0)
        price = fmax(bound_upper(release.settled, release.failed, alpha) -
                         bound_lower(control->settled, control->failed, alpha),
                     EPSILON);
    uint64_t cost = (uint64_t)nearbyint(price * UNITS);
    rollout->used += stratum->rooms * cost;
    rollout->used -= stratum->rooms * stratum->cost;
    stratum->cost = cost;
}

void room_take(struct rollout *rollout, uint32_t stratum)
{
    rollout->strata[stratum].rooms++;
    rollout->rooms++;
    rollout->used += rollout->strata[stratum].cost;
}

void room_give(struct rollout *rollout, uint32_t stratum)
{
    assert(rollout->strata[stratum].rooms > 0);
    rollout->strata[stratum].rooms--;
    rollout->rooms--;
    rollout->used -= rollout->strata[stratum].cost;
}

struct cell *cell_of(struct rollout *rollout, uint32_t organisation, uint32_t stratum)
{
    uint32_t at = rollout->organisations[organisation].cells;
    while (at != NONE && rollout->cells[at].stratum != stratum)
        at = rollout->cells[at].next;
    if (at == NONE) {
        at = rollout->cell_count++;
        ARRAY_ROOM(rollout->cells, at, rollout->cell_cap);
        rollout->cells[at] = (struct cell){
            .stratum = stratum,
            .next = rollout->organisations[organisation].cells,
        };
        rollout->organisations[organisation].cells = at;
    }
    return &rollout->cells[at];
}

/* After the counts of the stratum: the release of a device of the organisation has settled. */
void cell_settled(struct rollout *rollout, uint32_t organisation, uint32_t number, bool failed)
{
    struct cell *cell = cell_of(rollout, organisation, number);
    struct stratum *stratum = &rollout->strata[number];
    cell->release.settled++;
    cell->release.failed += failed;
    rollout->organisations[organisation].settled++;
    rollout->organisations[organisation].failed += failed;
    if (stratum->largest == NONE || cell->release.settled > stratum->largest_settled) {
        stratum->largest = (uint32_t)(cell - rollout->cells);
        stratum->largest_settled = cell->release.settled;
    }
}

void organisation_room(struct rollout *rollout, uint32_t organisation, uint32_t stratum, bool take)
{
    struct cell *cell = cell_of(rollout, organisation, stratum);
    struct organisation *owner = &rollout->organisations[organisation];
    assert(take || cell->rooms > 0);
    cell->rooms += take ? 1 : UINT64_MAX;
    owner->rooms += take ? 1 : UINT64_MAX;
}

bool organisation_allows(const struct rollout *rollout, uint32_t organisation, uint32_t stratum)
{
    if (rollout->fleet == 0)
        return true;
    uint64_t used = 0;
    for (uint32_t at = rollout->organisations[organisation].cells; at != NONE;
         at = rollout->cells[at].next)
        used += rollout->cells[at].rooms * rollout->strata[rollout->cells[at].stratum].cost;
    return used + rollout->strata[stratum].cost <= rollout->organisations[organisation].budget;
}

static bool below_share(const struct stratum *stratum, uint64_t share)
{
    return stratum->rooms == 0 || (stratum->rooms + 1) * stratum->cost <= share;
}

/* Of the strata that wait, none takes more than an equal part of H while another that waits has
 * less than that. */
static bool fair(const struct rollout *rollout, uint32_t asking)
{
    uint64_t waiting = 1;
    for (uint32_t i = 0; i < rollout->ranked_count; i++)
        if (rollout->ranked[i] != asking &&
            rollout->strata[rollout->ranked[i]].waiting_until > rollout->now)
            waiting++;
    uint64_t share = rollout->budget / waiting;
    if (waiting == 1 || below_share(&rollout->strata[asking], share))
        return true;
    for (uint32_t i = 0; i < rollout->ranked_count; i++) {
        const struct stratum *other = &rollout->strata[rollout->ranked[i]];
        if (rollout->ranked[i] != asking && other->waiting_until > rollout->now &&
            below_share(other, share))
            return false;
    }
    return true;
}

bool window_allows(struct rollout *rollout, uint32_t number)
{
    struct stratum *stratum = &rollout->strata[number];
    if (rollout->used + stratum->cost <= rollout->budget && fair(rollout, number)) {
        stratum->waiting_until = -INFINITY;
        return true;
    }
    stratum->waiting_until = rollout->now + PATIENCE * retry_soon(rollout);
    return false;
}
