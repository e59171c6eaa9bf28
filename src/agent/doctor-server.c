#include "agent/client.h"
#include "agent/doctor.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "trust/envelope.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define HALTS_MAX ((size_t)16 * 1024 * 1024)
#define PATIENCE 10.0
/* The customer's windows go by the wall clock: minutes matter, seconds do not. */
#define CLOCK_ODD 120.0
#define CLOCK_BROKEN 86400.0

static const char *way_to_server(int code, const struct config *config)
{
    switch (code) {
    case -EPROTO:
        return "the server's certificate must be signed by the CA that `ca` names: compare it with "
               "ca.pem of the control plane";
    case -EHOSTUNREACH:
        return config->proxy ? "check the names in `server` and `proxy`, and the name service"
                             : "check the name in `server`, the name service, and whether a proxy "
                               "is needed";
    case -ECONNREFUSED:
        return "nobody listens there: check the port in `server`, and that maeslant serve runs";
    case -ETIMEDOUT:
        return "packets are dropped on the way: check firewalls and `proxy`";
    default:
        return "check `server`, `ca` and `proxy` in agent.yaml";
    }
}

static void check_clock(struct doctor *doctor, int64_t date)
{
    double off = clock_now(CLOCK_REALTIME) - (double)date;
    char span[32];

    if (date == 0)
        return;
    format_duration(floor(fabs(off)), span, sizeof(span));
    if (fabs(off) <= CLOCK_ODD)
        doctor_say(doctor, DOCTOR_OK, "clock", NULL, "within %s of the server's", span);
    else
        doctor_say(doctor, fabs(off) < CLOCK_BROKEN ? DOCTOR_WARN : DOCTOR_FAIL, "clock",
                   "let systemd-timesyncd or chrony set it",
                   "%s %s the server's: windows open at the wrong time, certificates may seem out "
                   "of date",
                   span, off > 0 ? "ahead of" : "behind");
}

static void check_halts(struct doctor *doctor, struct identity *identity,
                        const struct http_answer *answer)
{
    struct error error = ERROR_INIT;
    _cleanup_json_ json_t *value = NULL;
    int r;

    if (answer->status != 200) {
        doctor_say(doctor, DOCTOR_FAIL, "halts", "ask those who run the control plane",
                   "the server answers %u to GET /v1/halts", answer->status);
        return;
    }
    if (!*identity->device)
        return;
    r = envelope_open(&identity->server_key, CONTEXT_HALTS,
                      answer->body.len ? answer->body.data : "", answer->body.len, &value, &error);
    if (r < 0)
        doctor_say(doctor, DOCTOR_FAIL, "halts",
                   "this is not the control plane that enrolled the device: check `server`, or "
                   "enrol again",
                   "the halts' list: %s", error.text);
    else
        doctor_say(doctor, DOCTOR_OK, "halts", NULL, "the list is signed by the server we know");
}

void doctor_server(struct doctor *doctor)
{
    struct agent agent = {.paths = doctor->paths, .config = doctor->config};
    struct error error = ERROR_INIT;
    struct http_client *http = NULL;
    struct http_answer answer = {0};
    struct identity identity = {0};
    int r;

    if (doctor->offline)
        return;
    (void)identity_load(&doctor->paths, &identity, NULL);
    r = client_new(&agent, &http, &error);
    if (r < 0) {
        doctor_say(doctor, DOCTOR_FAIL, "server", "check `server`, `ca` and `proxy` in agent.yaml",
                   "%s", error.text);
        identity_free(&identity);
        return;
    }
    r = http_get(http, "/v1/halts", NULL, HALTS_MAX, PATIENCE, -1, &answer, &error);
    if (r < 0) {
        doctor_say(doctor, DOCTOR_FAIL, "server", way_to_server(r, &doctor->config), "%s",
                   error.text);
    } else {
        doctor_say(doctor, DOCTOR_OK, "server", NULL, "%s answers%s", doctor->config.server,
                   doctor->config.ca ? ", its certificate is by the pinned CA" : "");
        check_clock(doctor, answer.date);
        check_halts(doctor, &identity, &answer);
    }
    http_answer_free(&answer);
    http_client_free(http);
    identity_free(&identity);
}
