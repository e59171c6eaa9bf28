#include "base/encode.h"
#include "rollout/internal.h"

#include <string.h>

/* Folds numbers into a digest block by block: block digest = SHA-256(digest before ‖ block). */
struct fold {
    uint8_t digest[SHA256_SIZE];
    uint8_t block[SHA256_SIZE + 8 * 4096];
    size_t used; /* of the part behind the digest */
};

static void fold_end(struct fold *fold)
{
    memcpy(fold->block, fold->digest, SHA256_SIZE);
    sha256(fold->block, SHA256_SIZE + fold->used, fold->digest);
    fold->used = 0;
}

static void add(struct fold *fold, uint64_t value)
{
    if (SHA256_SIZE + fold->used == sizeof fold->block)
        fold_end(fold);
    for (int i = 0; i < 8; i++)
        fold->block[SHA256_SIZE + fold->used++] = (uint8_t)(value >> (8 * i));
}

static void add_real(struct fold *fold, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    add(fold, value != value ? UINT64_MAX : bits); /* one NaN for all */
}

static void add_text(struct fold *fold, const char *text)
{
    uint8_t digest[SHA256_SIZE] = {0};
    if (text)
        sha256(text, strlen(text), digest);
    for (int i = 0; i < SHA256_SIZE; i += 8) {
        uint64_t part;
        memcpy(&part, digest + i, sizeof part);
        add(fold, part);
    }
}

static void add_names(struct fold *fold, const struct names *names)
{
    add(fold, names->count);
    for (uint32_t i = 0; i < names->count; i++)
        add_text(fold, names->text[i]);
}

static void add_strata(struct fold *fold, const struct rollout *rollout)
{
    add_names(fold, &rollout->stratum_names);
    for (uint32_t i = 0; i < rollout->stratum_names.count; i++) {
        const struct stratum *stratum = &rollout->strata[i];
        add(fold, stratum->rank);
        for (int arm = 0; arm < 2; arm++) {
            add(fold, stratum->arm[arm].begun);
            add(fold, stratum->arm[arm].settled);
            add(fold, stratum->arm[arm].failed);
        }
        add(fold, stratum->paired.begun);
        add(fold, stratum->paired.failed);
        add(fold, stratum->alone.begun);
        add(fold, stratum->alone.failed);
        add(fold, stratum->decided);
        add(fold, stratum->rooms);
        add(fold, stratum->cost);
        add(fold, stratum->half_open);
        add_real(fold, stratum->waiting_until);
        add(fold, (uint64_t)stratum->out_of_service << 1 | stratum->excused);
    }
}

static void add_slices(struct fold *fold, const struct rollout *rollout)
{
    add_names(fold, &rollout->slice_names);
    for (uint32_t i = 0; i < rollout->slice_names.count; i++) {
        const struct slice_counts *counts = &rollout->slices[i];
        add(fold, counts->begun);
        add(fold, counts->decided);
        add(fold, counts->k_release);
        add(fold, counts->k_placebo);
        add(fold, counts->settled);
        add(fold, counts->failed);
    }
}

static void add_organisations(struct fold *fold, const struct rollout *rollout)
{
    add_names(fold, &rollout->organisation_names);
    for (uint32_t i = 0; i < rollout->organisation_names.count; i++) {
        const struct organisation *organisation = &rollout->organisations[i];
        add(fold, organisation->devices);
        add(fold, organisation->granted);
        add(fold, organisation->rooms);
        add(fold, (uint64_t)organisation->accused << 1 | organisation->held);
        add(fold, organisation->settled);
        add(fold, organisation->regressed);
        add(fold, organisation->failed);
        add(fold, organisation->k_release);
        add(fold, organisation->k_placebo);
    }
    add_names(fold, &rollout->group_names);
    for (uint32_t i = 0; i < rollout->group_names.count; i++)
        add(fold, (uint64_t)rollout->groups[i].trials << 32 | rollout->groups[i].reverts);
}

static void add_exposure(struct fold *fold, const struct exposure *exposure)
{
    add_real(fold, exposure->deadline);
    add_real(fold, exposure->begun);
    add(fold, exposure->pair);
    add(fold, exposure->stratum);
    add(fold, exposure->check);
    add(fold, exposure->stage);
    add(fold, (uint64_t)exposure->arm << 24 | (uint64_t)exposure->member << 16 |
                  (uint64_t)exposure->interruptions << 8 | exposure->before);
}

static void add_devices(struct fold *fold, const struct rollout *rollout)
{
    add(fold, rollout->device_count);
    for (uint32_t i = 0; i < rollout->device_count; i++) {
        const struct device *device = &rollout->devices[i];
        add(fold, device->place);
        add(fold, (uint64_t)device->organisation << 32 | device->group);
        add(fold, (uint64_t)device_stratum(rollout, device) << 32 | device->pair);
        add(fold, (uint64_t)device->excluded << 24 | (uint64_t)device->round << 16 |
                      (uint64_t)device->state << 3 | (uint64_t)device->in_flight << 2 |
                      (uint64_t)device->reverting << 1 | device->was_silent);
        if (device->in_flight)
            add_exposure(fold, &rollout->exposures[device->slot]);
        if (device->reverting)
            add_real(fold, rollout->reverts[device->slot].lapses);
    }
}

static void add_pairs(struct fold *fold, const struct rollout *rollout)
{
    add(fold, rollout->pair_count);
    for (uint32_t i = 0; i < rollout->pair_count; i++) {
        const struct pair *pair = &rollout->pairs[i];
        add(fold, (uint64_t)pair->member[0] << 32 | pair->member[1]);
        add(fold, (uint64_t)pair->stratum << 32 | pair->release_stage);
        add(fold, (uint64_t)pair->outcome[0] << 16 | (uint64_t)pair->outcome[1] << 8 |
                      (uint64_t)pair->first_gets_release << 2 | (uint64_t)pair->decided << 1 |
                      pair->closed);
    }
}

static void add_rest(struct fold *fold, const struct rollout *rollout)
{
    const uint64_t numbers[] = {
        rollout->fleet,
        rollout->used,
        rollout->rooms,
        rollout->granted,
        rollout->k_release,
        rollout->k_placebo,
        rollout->proven_harm,
        rollout->excused,
        rollout->absolute_moved,
        rollout->placebos_moved,
        rollout->late_moved,
        rollout->world_well,
        rollout->opened,
        rollout->stage,
        rollout->stage_settled,
        rollout->stage_reach,
        rollout->halted,
        rollout->done,
        rollout->paused_person,
        rollout->paused_environment,
        rollout->paused_organisation,
        rollout->excused_organisation,
        rollout->accused,
        rollout->check,
        rollout->check_open,
        rollout->check_clean,
        rollout->check_failed,
        rollout->permits,
        rollout->placebos,
        rollout->in_flight,
        rollout->placebo_in_flight,
        rollout->settled,
        rollout->failed,
        rollout->healthy,
        rollout->declined,
        rollout->silent,
        rollout->interrupted,
        rollout->regressed,
        rollout->late,
        rollout->placebo_settled,
        rollout->placebo_failed,
        rollout->sequence,
        rollout->reverts_open,
        rollout->because.alarm,
        rollout->because.n,
        rollout->because.k,
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        add(fold, numbers[i]);
    add_real(fold, rollout->now);
    add_real(fold, rollout->check_moved_at);
    add_real(fold, rollout->stage_opened_at);
    add_real(fold, rollout->halted_at);
    add_real(fold, rollout->first_failure_at);
    add_text(fold, rollout->because_by);
    add_text(fold, rollout->because_reason);
    for (unsigned i = 0; i < rollout->approver_count; i++)
        add_text(fold, rollout->approvers[i]);
    for (size_t i = 0; i < rollout->policy.stage_count; i++)
        add(fold, rollout->approved[i]);
}

void rollout_fingerprint(const struct rollout *rollout, uint8_t ret[static 32])
{
    struct fold fold = {0};
    add_text(&fold, rollout->name);
    add_text(&fold, rollout->release);
    add_text(&fold, rollout->seed);
    add_real(&fold, rollout->started_at);
    add_strata(&fold, rollout);
    add_slices(&fold, rollout);
    add_organisations(&fold, rollout);
    add_devices(&fold, rollout);
    add_pairs(&fold, rollout);
    add_rest(&fold, rollout);
    fold_end(&fold);
    memcpy(ret, fold.digest, SHA256_SIZE);
}
