#include "agent/leash.h"

#include "agent/client.h"
#include "agent/courier.h"
#include "base/buf.h"
#include "base/log.h"
#include "base/random.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define HOLD 40.0 /* seconds: the server ends a poll after 25 */
#define HALTS_MAX ((size_t)16 * 1024 * 1024)
#define PAUSE_FIRST 0.2
#define PAUSE_MOST 5.0

struct leash {
    struct agent *agent;
    char permit[33];
    bool poll;
    double every;
    bool away; /* the last look got no answer */
    int stop_fd;
    pthread_t thread;
};

static bool stopped_within(const struct leash *leash, double seconds)
{
    struct pollfd fds[] = {{.fd = leash->stop_fd, .events = POLLIN},
                           {.fd = leash->agent->stop_fd, .events = POLLIN}};

    return poll(fds, 2, (int)(seconds * 1000)) > 0;
}

/* The leash finds a server that is back within seconds; a report has to be there before a deadline
 * that no longer stands still. */
static void heard(struct leash *leash, bool answered)
{
    if (answered && leash->away)
        courier_wake(leash->agent->courier);
    leash->away = !answered;
}

/* One look. Says how long to pause before the next; < 0: at once. */
static double look(struct leash *leash, struct http_client *http, double pause)
{
    _cleanup_free_ char *path = xasprintf("/v1/leash/%s", leash->permit);
    _cleanup_reply_ struct reply reply = {0};
    struct error error = ERROR_INIT;
    int r;

    /* A held poll is silent for 25 s, so it is the list that tells that the server is back. */
    if (!leash->poll || leash->away) {
        r = client_halts(leash->agent, http, 10, leash->stop_fd, &error);
        heard(leash, r == 0);
        if (r < 0 && r != -ECANCELED)
            log_debug("leash", "%s", error.text);
        if (!leash->poll || r < 0)
            return r < 0 ? pause * (0.5 + random_unit()) : leash->every;
    }
    r = client_get(leash->agent, http, path, NULL, NULL, HALTS_MAX, HOLD, leash->stop_fd, &reply,
                   &error);
    heard(leash, r == 0 && reply.status < 500);
    if (r == 0 && reply.status == 204)
        return -1;
    if (r == 0 && reply.status == 200) {
        r = agent_take_halts(leash->agent, reply.text, reply.len, &error);
        if (r == 0)
            return PAUSE_FIRST; /* the same list again means that the trial is ending */
    }
    if (r == 0 && (reply.status == 404 || reply.status == 503)) {
        leash->poll = reply.status != 404; /* not open any more: the list still tells */
        if (client_halts(leash->agent, http, 10, leash->stop_fd, NULL) == 0)
            return reply.retry_after > 0 ? reply.retry_after : leash->every;
    }
    if (r < 0 && r != -ECANCELED)
        log_debug("leash", "%s", error.text);
    return pause * (0.5 + random_unit());
}

static void *run(void *user)
{
    struct leash *leash = user;
    struct http_client *http = NULL;
    struct error error = ERROR_INIT;
    double pause = PAUSE_FIRST;

    if (client_new(leash->agent, &http, &error) < 0) {
        log_error("leash", "%s", error.text);
        return NULL;
    }
    while (!stopped_within(leash, 0)) {
        double next = look(leash, http, pause);

        pause = next < 0 ? PAUSE_FIRST : pause * 2 > PAUSE_MOST ? PAUSE_MOST : pause * 2;
        if (next >= 0 && stopped_within(leash, next))
            break;
    }
    http_client_free(http);
    return NULL;
}

struct leash *leash_start(struct agent *agent, const char *permit, bool poll, double every)
{
    struct leash *leash = xcalloc(1, sizeof(*leash));

    *leash = (struct leash){.agent = agent, .poll = poll, .every = every > 0 ? every : 5};
    (void)snprintf(leash->permit, sizeof(leash->permit), "%s", permit);
    leash->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (leash->stop_fd < 0 || pthread_create(&leash->thread, NULL, run, leash) != 0)
        abort(); /* without a leash there is no trial; the next start reverts */
    return leash;
}

void leash_stop(struct leash *leash)
{
    if (!leash)
        return;
    fd_raise(leash->stop_fd);
    (void)pthread_join(leash->thread, NULL);
    (void)close(leash->stop_fd);
    free(leash);
}
