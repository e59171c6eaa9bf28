#include "gate/bound.h"
#include "rollout/internal.h"

#include <inttypes.h>
#include <stdio.h>

/* One organisation can neither stop nor force the others (DESIGN, invariant 9). The counts that the
 * alarms look at pass through here; while an alarm is asked whether it stands without some
 * organisations, what those gave is taken off. */

void quorum_toss(struct rollout *rollout, uint32_t organisation, bool release)
{
    rollout->organisations[organisation].k_release += release;
    rollout->organisations[organisation].k_placebo += !release;
}

static const struct cell *find_cell(const struct rollout *rollout, uint32_t organisation,
                                    uint32_t stratum)
{
    uint32_t at = rollout->organisations[organisation].cells;
    while (at != NONE && rollout->cells[at].stratum != stratum)
        at = rollout->cells[at].next;
    return at == NONE ? NULL : &rollout->cells[at];
}

static uint64_t less(uint64_t all, uint64_t part)
{
    return all > part ? all - part : 0;
}

static void take_off(struct counts *all, const struct counts *part)
{
    all->begun = less(all->begun, part->begun);
    all->failed = less(all->failed, part->failed);
    all->settled = less(all->settled, part->settled);
    if (all->begun < all->failed)
        all->begun = all->failed;
}

struct counts quorum_counts(const struct rollout *rollout, uint32_t stratum, bool pairs_only,
                            struct counts all)
{
    for (uint32_t i = 0; i < rollout->left_count; i++) {
        const struct cell *cell = find_cell(rollout, rollout->left[i], stratum);
        if (!cell)
            continue;
        take_off(&all, &cell->paired);
        if (!pairs_only)
            take_off(&all, &cell->alone);
    }
    return all;
}

uint64_t quorum_decided(const struct rollout *rollout, uint32_t stratum, uint64_t all)
{
    for (uint32_t i = 0; i < rollout->left_count; i++) {
        const struct cell *cell = find_cell(rollout, rollout->left[i], stratum);
        all = less(all, cell ? cell->decided : 0);
    }
    return all;
}

void quorum_tosses(const struct rollout *rollout, uint64_t *k_release, uint64_t *k_placebo)
{
    *k_release = rollout->k_release;
    *k_placebo = rollout->k_placebo;
    for (uint32_t i = 0; i < rollout->left_count; i++) {
        *k_release = less(*k_release, rollout->organisations[rollout->left[i]].k_release);
        *k_placebo = less(*k_placebo, rollout->organisations[rollout->left[i]].k_placebo);
    }
}

static size_t part_key(char key[static 24], uint32_t slice, uint32_t organisation)
{
    return (size_t)snprintf(key, 24, "%" PRIu32 " %" PRIu32, slice, organisation);
}

void quorum_slice_toss(struct rollout *rollout, uint32_t slice, uint32_t organisation, bool decided,
                       bool k_release, bool k_placebo)
{
    char key[24];
    if (!rollout->many_organisations)
        return;
    uint32_t at = names_add(&rollout->part_names, key, part_key(key, slice, organisation));
    ARRAY_ROOM(rollout->parts, at, rollout->part_cap);
    rollout->parts[at].decided += decided;
    rollout->parts[at].k_release += k_release;
    rollout->parts[at].k_placebo += k_placebo;
}

void quorum_slice(const struct rollout *rollout, uint32_t slice, struct slice_counts *counts)
{
    char key[24];
    for (uint32_t i = 0; i < rollout->left_count; i++) {
        uint32_t at = names_find(&rollout->part_names, key, part_key(key, slice, rollout->left[i]));
        if (at == UINT32_MAX)
            continue;
        counts->decided = less(counts->decided, rollout->parts[at].decided);
        counts->k_release = less(counts->k_release, rollout->parts[at].k_release);
        counts->k_placebo = less(counts->k_placebo, rollout->parts[at].k_placebo);
    }
}

static bool is_left_out(const struct rollout *rollout, uint32_t organisation)
{
    for (uint32_t i = 0; i < rollout->left_count; i++)
        if (rollout->left[i] == organisation)
            return true;
    return false;
}

/* The one whose tosses speak most against the release, of those not left out yet. */
static uint32_t loudest(const struct rollout *rollout)
{
    uint32_t worst = NONE;
    for (uint32_t i = 0; i < rollout->organisation_names.count; i++)
        if (!is_left_out(rollout, i) && rollout->organisations[i].failed > 0 &&
            (worst == NONE ||
             rollout->organisations[i].failed > rollout->organisations[worst].failed))
            worst = i;
    return worst;
}

bool quorum_survives(struct rollout *rollout, bool (*stands)(struct rollout *, uint32_t),
                     uint32_t subject, uint32_t *ret_organisation)
{
    bool survives = true;
    *ret_organisation = NONE;
    if (!rollout->many_organisations || rollout->policy.quorum == 0)
        return true;
    for (uint64_t i = 1; i < rollout->policy.quorum; i++) {
        uint32_t worst = loudest(rollout);
        if (worst != NONE)
            rollout->left[rollout->left_count++] = worst;
    }
    for (uint32_t i = 0; i < rollout->organisation_names.count; i++) {
        uint64_t failed = rollout->organisations[i].failed + rollout->organisations[i].regressed;
        if (failed == 0 || is_left_out(rollout, i))
            continue;
        rollout->left[rollout->left_count++] = i;
        bool stood = stands(rollout, subject);
        rollout->left_count--;
        if (stood)
            continue;
        survives = false;
        if (*ret_organisation == NONE || failed > rollout->organisations[*ret_organisation].failed)
            *ret_organisation = i;
    }
    rollout->left_count = 0;
    return survives;
}

size_t rollout_organisations(const struct rollout *rollout, struct rollout_organisation_view *ret,
                             size_t cap)
{
    double alpha = rollout->policy.alpha;
    struct counts all = {0};
    size_t count = 0;
    for (uint32_t i = 0; i < rollout->organisation_names.count; i++) {
        all.settled += rollout->organisations[i].settled;
        all.failed += rollout->organisations[i].failed;
    }
    for (uint32_t i = 0; i < rollout->organisation_names.count && count < cap; i++) {
        const struct organisation *mine = &rollout->organisations[i];
        uint64_t n = all.settled - mine->settled, k = all.failed - mine->failed;
        ret[count++] = (struct rollout_organisation_view){
            .name = rollout->organisation_names.text[i],
            .n = mine->settled,
            .k = mine->failed,
            .k_release = mine->k_release,
            .k_placebo = mine->k_placebo,
            .stopped = mine->accused,
            .held = mine->held,
            .too_healthy =
                bound_upper(mine->settled, mine->failed, alpha) < bound_lower(n, k, alpha),
            .too_sick = bound_lower(mine->settled, mine->failed, alpha) > bound_upper(n, k, alpha),
        };
    }
    return count;
}
