#include "rollout/rollout.h"

#include "base/buf.h"

#include <assert.h>

static const struct {
    const char *code, *sentence;
} reasons[REASON_COUNT] = {
    [REASON_NONE] = {"none", "There is nothing to say."},
    [REASON_WINDOW] = {"window", "As many devices are trying the release as the harm budget allows "
                                 "at this moment; the next may begin when one of them is done."},
    [REASON_ORGANISATION_BUDGET] = {"organisation-budget",
                                    "As many devices of this organisation are trying the release "
                                    "as its own harm budget allows at this moment."},
    [REASON_STAGE_FULL] = {"stage-full", "The stage has all the devices that it may have; the next "
                                         "stage opens on their evidence."},
    [REASON_STAGE_SHARE] = {"stage-share", "The stage takes a share of the devices, and this "
                                           "device's place comes in a later stage."},
    [REASON_STAGE_ORGANISATION] = {"stage-organisation", "The stage is for other organisations."},
    [REASON_GROUP] = {"group", "Another device of its availability group holds a trial or reverts; "
                               "never two of a group at once."},
    [REASON_PAUSED] = {"paused", "The rollout is paused: no new permits until it goes on."},
    [REASON_HOLD] = {"hold", "The device's organisation holds the rollout for its devices."},
    [REASON_NOT_STARTED] = {"not-started", "The rollout waits for the approvals that its policy "
                                           "asks for."},
    [REASON_OPEN_PERMIT] = {"open-permit", "The device holds a permit already and has not reported "
                                           "its outcome."},
    [REASON_HALTED] = {"halted", "The release is halted: no device will begin it any more."},
    [REASON_ALREADY] = {"already", "The device runs the release already."},
    [REASON_FAILED_BEFORE] = {"failed-before", "The device has failed with this release and is not "
                                               "offered it again."},
    [REASON_EXCLUDED] = {"excluded", "The device belongs to a slice that the rollout leaves out."},
    [REASON_PAIR_OPEN] = {"pair-open", "The device was a placebo and gets the release when its "
                                       "partner is done too."},
};

const char *rollout_reason_code(enum rollout_reason reason)
{
    assert((unsigned)reason < REASON_COUNT);
    return reasons[reason].code;
}

const char *rollout_reason_sentence(enum rollout_reason reason)
{
    assert((unsigned)reason < REASON_COUNT);
    return reasons[reason].sentence;
}

const char *rollout_alarm_code(enum rollout_alarm alarm)
{
    static const char *const codes[] = {"none",         "proven-harm", "absolute",
                                        "organisation", "environment", "person"};
    assert((unsigned)alarm < ARRAY_SIZE(codes));
    return codes[alarm];
}
