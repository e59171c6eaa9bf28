#include "agent/status.h"

#include "base/buf.h"

#include <string.h>

/* Codes of the agent, of the server's refusals and of the rollout (docs/protocol.md). */
static const struct {
    const char *code, *sentence;
} reasons[] = {
    {"adapter", "the adapter's command failed"},
    {"agent-too-old", "the release needs a newer agent"},
    {"budget", "the rollout's harm budget is in use by other devices: it waits for them"},
    {"busy", "another product of this device, or another device of its availability group, holds "
             "a trial"},
    {"clone", "another machine uses this device's key: enrol this one again"},
    {"contract", "what this device provides does not fit what the release requires"},
    {"device-retired", "the device was retired: enrol it again"},
    {"device-unknown", "the server does not know this device: enrol it"},
    {"disk", "there is too little free space, or the disk cannot be written"},
    {"excluded", "the release is not for devices with these attributes"},
    {"group", "another device of its availability group holds a trial"},
    {"halted", "the release was halted"},
    {"held", "the organisation holds this rollout"},
    {"hold", "the organisation holds this rollout"},
    {"interrupted-too-long", "the trial was interrupted for too long"},
    {"interrupted-too-often", "the trial was interrupted too often"},
    {"journal-damaged", "the journal of the trial was damaged"},
    {"not-active", "the running product does not name the release as the one it has loaded"},
    {"not-enrolled", "the device is not enrolled"},
    {"not-offered", "no release is offered to this device now"},
    {"packages", "a package transaction is under way"},
    {"paused", "the rollout is paused"},
    {"probe", "a probe failed"},
    {"quarantined", "the device is quarantined: another one uses its key; enrol it again"},
    {"reboot", "a reboot is pending"},
    {"reboot-pending", "a reboot is pending"},
    {"refused-permission", "the release asks for a permission that this device refuses"},
    {"rejected", "this release failed here before and is not tried again"},
    {"settling", "the device started only a moment ago"},
    {"settle", "the device started only a moment ago"},
    {"signal", "the product died of a signal"},
    {"signature", "the release's signature is not by a key that this device trusts"},
    {"slot-damaged", "the slot is damaged"},
    {"snoozed", "a person asked for quiet (maeslant-agent snooze --end ends it)"},
    {"stage", "the rollout's stage has no room for this device yet"},
    {"stale", "the permit could not be begun in time"},
    {"told-to-revert", "the server told it to go back"},
    {"unconfirmed", "nobody answered the report in time"},
    {"unhealthy-before", "the probes fail on the release that runs now"},
    {"unreachable", "the server cannot be reached"},
    {"window", "outside of the configured windows"},
};

const char *status_reason(const char *code)
{
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
        if (strcmp(reasons[i].code, code) == 0)
            return reasons[i].sentence;
    return code;
}
