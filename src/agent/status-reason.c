#include "agent/status-reason.h"

#include "base/buf.h"
#include "rollout/rollout.h"

#include <string.h>

/* The agent's own codes and the server's refusals; those of a rollout have their sentence there. */
static const struct {
    const char *code, *sentence;
} reasons[] = {
    {"adapter", "the adapter's command failed"},
    {"agent-crashed", "the agent ended in the middle of the trial"},
    {"agent-too-old", "the release needs a newer agent"},
    {"busy", "another product of this device holds a trial"},
    {"clone", "another machine uses this device's key: enrol this one again"},
    {"contract", "what this device provides does not fit what the release requires"},
    {"device-retired", "the device was retired: enrol it again"},
    {"device-unknown", "the server does not know this device: enrol it"},
    {"disk", "there is too little free space, or the disk cannot be written"},
    {"download", "the release cannot be downloaded; it is tried again"},
    {"excluded", "the release is not for devices with these attributes"},
    {"halted", "the release was halted"},
    {"in-trial", "the device is in a trial already"},
    {"interrupted-too-long", "the trial was interrupted for too long"},
    {"interrupted-too-often", "the trial was interrupted too often"},
    {"irreversible", "the release changes state for good, and nobody approved that"},
    {"journal-damaged", "the journal of the trial was damaged"},
    {"manifest",
     "the release's manifest is not signed by a key that is trusted here, or unreadable"},
    {"no-way-back", "there is nothing to go back to: give the product `adopt`, or the release "
                    "`deactivate`"},
    {"not-active", "the running product does not name the release as the one it has loaded"},
    {"not-removed", "it is to be removed, and that did not work yet; the log says why"},
    {"not-adopted", "what is installed could not be taken in as the first release"},
    {"not-offered", "no rollout offers this release now"},
    {"package-owned", "the files at `link` belong to a package, and agent.yaml says refuse"},
    {"package-path", "the release's state lies where the package manager's files lie"},
    {"package-transaction", "packages are being installed"},
    {"payload", "the release's payload is not what its manifest says"},
    {"permit-expired", "the permit's time was over"},
    {"power-cut", "the machine went down in the middle of the trial"},
    {"probe", "a probe failed"},
    {"quarantined", "the device is quarantined: another one uses its key; enrol it again"},
    {"reboot-pending", "a reboot is pending"},
    {"refused", "the server refused the question; its log says why"},
    {"refused-permission", "the release asks for a permission that this device refuses"},
    {"regressed", "it failed after it had been confirmed"},
    {"removed", "it was removed here; while agent.yaml names it, the next start adopts it again"},
    {"report-refused", "the server did not take the report"},
    {"settling", "the device started only a moment ago"},
    {"signal", "the product died of a signal"},
    {"slot-damaged", "the slot is not as it was staged"},
    {"snoozed", "a person asked for quiet (maeslant-agent snooze --end ends it)"},
    {"stale", "the permit could not be begun in time"},
    {"told-to-revert", "the server told it to go back"},
    {"unconfirmed", "nobody answered the report in time"},
    {"unhealthy-before", "the probes fail on the release that runs now"},
    {"window", "outside of the device's windows, or as many devices are trying the release as the "
               "harm budget allows"},
};

const char *status_reason(const char *code)
{
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
        if (strcmp(reasons[i].code, code) == 0)
            return reasons[i].sentence;
    for (unsigned i = REASON_NONE + 1; i < REASON_COUNT; i++)
        if (strcmp(rollout_reason_code((enum rollout_reason)i), code) == 0)
            return rollout_reason_sentence((enum rollout_reason)i);
    return code;
}
