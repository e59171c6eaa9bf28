#include "agent/command-common.h"
#include "agent/doctor.h"
#include "agent/identity.h"
#include "agent/outbox.h"
#include "agent/snooze.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Others may not read (`secret`) or change it. They may pass through a secret folder: what lies in
 * it has a mode of its own, and products read their slots there. Missing files are another check's.
 */
static void check_mode(struct doctor *doctor, const char *path, bool secret)
{
    _cleanup_free_ char *way_out = NULL;
    mode_t wrong = secret ? S_IRWXG | S_IRWXO : S_IWGRP | S_IWOTH;
    struct stat st;

    if (stat(path, &st) < 0) {
        if (errno == EACCES)
            doctor_say(doctor, DOCTOR_WARN, "permissions", "ask as root",
                       "%s cannot be looked at: it is closed to others", path);
        return;
    }
    if (S_ISDIR(st.st_mode))
        wrong &= ~(mode_t)(S_IXGRP | S_IXOTH);
    if (st.st_mode & wrong) {
        way_out = xasprintf("chmod %s %s", secret ? "go-rwx" : "go-w", path);
        doctor_say(doctor, DOCTOR_FAIL, "permissions", way_out,
                   "%s has mode %04o: others may %s it", path, st.st_mode & 07777,
                   secret ? "read" : "change");
    } else if (st.st_uid != 0 && st.st_uid != geteuid()) {
        way_out = xasprintf("chown root: %s, or the user that the agent runs as", path);
        doctor_say(doctor, DOCTOR_WARN, "permissions", way_out,
                   "%s belongs to user %u, who is neither root nor you", path, st.st_uid);
    } else {
        doctor_say(doctor, DOCTOR_OK, "permissions", NULL, "%s, mode %04o", path,
                   st.st_mode & 07777);
    }
}

static void check_below(struct doctor *doctor, const char *path, bool secret)
{
    _cleanup_free_ char *full = path ? paths_below(&doctor->paths, path) : NULL;

    if (!full)
        return;
    if (access(full, F_OK) < 0 && errno == ENOENT)
        doctor_say(doctor, DOCTOR_FAIL, "configuration", "make the file, or correct the path",
                   "agent.yaml names %s, which is not there", full);
    else
        check_mode(doctor, full, secret);
}

static void check_modes(struct doctor *doctor)
{
    _cleanup_free_ char *config = path_join(doctor->paths.etc, "agent.yaml");
    _cleanup_free_ char *key = path_join(doctor->paths.state, "device.key");

    check_mode(doctor, config, false);
    check_mode(doctor, doctor->paths.state, true);
    check_mode(doctor, key, true);
    check_below(doctor, doctor->config.ca, false);
    check_below(doctor, doctor->config.extra_ca, false);
    check_below(doctor, doctor->config.proxy_auth_file, true);
    /* A token is used up by the enrolment and may be gone. */
    if (doctor->config.token_file) {
        _cleanup_free_ char *token = paths_below(&doctor->paths, doctor->config.token_file);

        check_mode(doctor, token, true);
    }
}

static void check_release_keys(struct doctor *doctor)
{
    for (char *const *name = doctor->config.release_keys; name && *name; name++) {
        _cleanup_free_ char *path = paths_below(&doctor->paths, *name);
        struct error error = ERROR_INIT;
        struct public_key key;
        char id[KEY_ID_SIZE];

        if (key_public_load(path, &key, &error) < 0) {
            doctor_say(doctor, DOCTOR_FAIL, "release key", "put the vendor's public key there",
                       "%s", error.text);
            continue;
        }
        key_id(&key, id);
        doctor_say(doctor, DOCTOR_OK, "release key", NULL, "%s, key %s", path, id);
        check_mode(doctor, path, false);
    }
}

static void check_identity(struct doctor *doctor)
{
    struct error error = ERROR_INIT;
    struct identity identity;
    int r = identity_load(&doctor->paths, &identity, &error);

    if (r == 0) {
        doctor_say(doctor, DOCTOR_OK, "identity", NULL, "device %.12s… of %s, ring %s",
                   identity.device, identity.organisation, identity.ring);
        if (!doctor->config.release_keys[0] && identity.release_key_count == 0)
            doctor_say(doctor, DOCTOR_FAIL, "release key",
                       "name the vendor's public key under release_keys in agent.yaml",
                       "neither agent.yaml nor the enrolment names one: no release can be checked");
        identity_free(&identity);
    } else if (r == -EACCES) {
        doctor_say(doctor, DOCTOR_WARN, "identity", "ask as root", "%s", error.text);
    } else {
        doctor_say(doctor, DOCTOR_FAIL, "identity", NULL, "%s", error.text);
    }
}

static void check_space(struct doctor *doctor)
{
    struct error error = ERROR_INIT;
    unsigned long long mib = doctor->config.min_free >> 20;
    uint64_t left;

    if (space_free(AT_FDCWD, doctor->paths.state, &left, &error) < 0)
        doctor_say(doctor, DOCTOR_WARN, "space", NULL, "%s", error.text);
    else if (left < doctor->config.min_free)
        doctor_say(doctor, DOCTOR_FAIL, "space", "make room, or lower min_free in agent.yaml",
                   "%s has %llu MiB free, min_free asks for %llu MiB beside what a release needs",
                   doctor->paths.state, (unsigned long long)left >> 20, mib);
    else
        doctor_say(doctor, DOCTOR_OK, "space", NULL, "%s has %llu MiB free", doctor->paths.state,
                   (unsigned long long)left >> 20);
}

static void check_outbox(struct doctor *doctor)
{
    _cleanup_free_ char *outbox = path_join(doctor->paths.state, "outbox");
    size_t count = outbox_count(outbox);

    if (count > 0)
        doctor_say(doctor, DOCTOR_WARN, "reports",
                   "they go out as soon as the server answers: see the line about it",
                   "%zu wait%s to be delivered", count, count == 1 ? "s" : "");
    else
        doctor_say(doctor, DOCTOR_OK, "reports", NULL, "none waits");
}

void doctor_files(struct doctor *doctor)
{
    check_modes(doctor);
    check_release_keys(doctor);
    check_identity(doctor);
    check_space(doctor);
    check_outbox(doctor);
}

void doctor_agent(struct doctor *doctor)
{
    struct error error = ERROR_INIT;
    struct snooze snooze;
    bool running;
    json_t *status = command_agent_status(&doctor->paths, &running);
    char when[48];

    json_decref(status);
    if (running)
        doctor_say(doctor, DOCTOR_OK, "agent", NULL, "it runs");
    else
        doctor_say(doctor, DOCTOR_WARN, "agent", "systemctl start maeslant-agent",
                   "it does not run: nothing is updated, and nothing goes back by itself");
    if (snooze_load(&doctor->paths, doctor->config.snooze_max, clock_ms(CLOCK_REALTIME), &snooze,
                    &error) < 0) {
        doctor_say(doctor, DOCTOR_WARN, "snooze", "maeslant-agent snooze --end", "%s", error.text);
    } else if (snooze.until_ms > 0) {
        command_when(snooze.until_ms, when, sizeof(when));
        doctor_say(doctor, DOCTOR_WARN, "snooze", "maeslant-agent snooze --end",
                   "%s asked for quiet, which ends %s: %s", snooze.by, when, snooze.reason);
    }
}
