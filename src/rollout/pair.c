#include "base/buf.h"
#include "base/encode.h"
#include "rollout/internal.h"

#include <assert.h>
#include <inttypes.h>

static bool coin(const struct rollout *rollout, uint64_t pair)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    uint8_t digest[SHA256_SIZE];
    buf_addf(&text, "maeslant coin v1\n%s\n%" PRIu64, rollout->seed, pair);
    sha256(text.data, text.len, digest);
    return digest[0] & 1;
}

enum rollout_arm pair_arm(const struct pair *pair, unsigned member)
{
    return (member == 0) == pair->first_gets_release ? ARM_RELEASE : ARM_PLACEBO;
}

uint32_t pair_open(struct rollout *rollout, uint32_t device)
{
    uint32_t number = rollout->pair_count++;
    uint32_t stratum = device_stratum(rollout, &rollout->devices[device]);
    uint32_t organisation = rollout->devices[device].organisation;
    ARRAY_ROOM(rollout->pairs, number, rollout->pair_cap);
    rollout->pairs[number] = (struct pair){
        .member = {device, NONE},
        .organisation = {organisation, NONE},
        .stratum = stratum,
        .outcome = {'o', '-'},
        .first_gets_release = coin(rollout, (uint64_t)number + 1),
    };
    rollout->pairs_open++;
    rollout->strata[stratum].half_open = number;
    /* Both arms have begun as far as the evidence goes; close() takes back what never came. */
    rollout->strata[stratum].arm[ARM_RELEASE].begun++;
    rollout->strata[stratum].paired.begun++;
    rollout->strata[stratum].arm[ARM_PLACEBO].begun++;
    room_take(rollout, stratum);
    organisation_room(rollout, organisation, stratum, true);
    return number;
}

void pair_join(struct rollout *rollout, uint32_t number, uint32_t device)
{
    struct pair *pair = &rollout->pairs[number];
    uint32_t organisation = rollout->devices[device].organisation;
    pair->member[1] = device;
    pair->organisation[1] = organisation;
    pair->outcome[1] = 'o';
    rollout->strata[pair->stratum].half_open = NONE;
    /* One release is at stake in the pair, so an organisation with both partners pays once. */
    if (organisation != pair->organisation[0])
        organisation_room(rollout, organisation, pair->stratum, true);
}

static bool has_failed(char outcome)
{
    return outcome == 'f' || outcome == 's';
}

/* Takes the outcome of one partner into the counts that decide. */
static void reveal(struct rollout *rollout, const struct pair *pair, unsigned member)
{
    enum rollout_arm arm = pair_arm(pair, member);
    struct counts *counts = &rollout->strata[pair->stratum].arm[arm];
    counts->settled++;
    if (has_failed(pair->outcome[member])) {
        counts->failed++;
        rollout->absolute_moved = true;
        if (arm == ARM_RELEASE) {
            rollout->strata[pair->stratum].paired.failed++;
            cell_of(rollout, pair->organisation[member], pair->stratum)->paired.failed++;
        } else
            rollout->placebos_moved = true;
    }
    if (arm == ARM_RELEASE) {
        cell_of(rollout, pair->organisation[member], pair->stratum)->paired.begun++;
        cell_settled(rollout, pair->organisation[member], pair->stratum,
                     has_failed(pair->outcome[member]));
    }
    if (arm == ARM_RELEASE && pair->release_stage == rollout->stage)
        rollout->stage_settled++;
}

static void toss(struct rollout *rollout, const struct pair *pair, unsigned member)
{
    if (rollout->halted) /* trials revert from here on: partners are no longer alike */
        return;
    bool release = pair_arm(pair, member) == ARM_RELEASE;
    if (release && has_failed(pair->outcome[1 - member]))
        return alarm_toss(rollout);
    rollout->k_placebo += !release;
    rollout->k_release += release;
    quorum_toss(rollout, pair->organisation[member], release);
    alarm_toss(rollout);
}

static void close_pair(struct rollout *rollout, uint32_t number)
{
    struct pair *pair = &rollout->pairs[number];
    struct stratum *stratum = &rollout->strata[pair->stratum];
    for (unsigned member = 0; member < 2; member++) {
        enum rollout_arm arm = pair_arm(pair, member);
        char outcome = pair->outcome[member];
        if (outcome == '-' || outcome == 'd') {
            stratum->arm[arm].begun--;
            if (arm == ARM_RELEASE) {
                stratum->paired.begun--;
                rollout->absolute_moved = true; /* fewer have begun: more evidence */
            } else {
                rollout->placebos_moved = true;
            }
        } else {
            if (!pair->decided)
                reveal(rollout, pair, member);
            if (arm == ARM_RELEASE) {
                rollout->granted++;
                rollout->organisations[pair->organisation[member]].granted++;
            }
        }
    }
    pair->closed = true;
    rollout->pairs_open--;
    if (stratum->half_open == number)
        stratum->half_open = NONE;
    room_give(rollout, pair->stratum);
    organisation_room(rollout, pair->organisation[0], pair->stratum, false);
    if (pair->organisation[1] != NONE && pair->organisation[1] != pair->organisation[0])
        organisation_room(rollout, pair->organisation[1], pair->stratum, false);
}

void pair_settle(struct rollout *rollout, uint32_t number, unsigned member, char outcome)
{
    struct pair *pair = &rollout->pairs[number];
    unsigned partner = 1 - member;
    assert(pair->outcome[member] == 'o' && !pair->closed);
    pair->outcome[member] = outcome;
    if (has_failed(outcome)) {
        if (!pair->decided && pair->outcome[partner] == 'h')
            reveal(rollout, pair, partner);
        rollout->strata[pair->stratum].decided += !pair->decided;
        cell_of(rollout, pair->organisation[member], pair->stratum)->decided += !pair->decided;
        pair->decided = true;
        reveal(rollout, pair, member);
        toss(rollout, pair, member);
    } else if (outcome == 'h' && pair->decided) {
        reveal(rollout, pair, member);
    }
    if (pair->outcome[partner] != 'o')
        close_pair(rollout, number);
    stratum_price(rollout, pair->stratum);
}
