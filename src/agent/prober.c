#include "agent/prober.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define THREAD_STACK (256 * 1024)
#define RETRY_PAUSE 0.2
#define JITTER 0.1

struct probe {
    struct prober *prober;
    const struct check *check;
    struct check_memory memory;
    unsigned runs, in_a_row;
    bool measured; /* `first` is set */
    struct check_usage used, first;
};
struct prober {
    pthread_mutex_t lock;
    unsigned references;
    struct manifest manifest;
    struct check_vars vars;
    char **hosts; /* vars.hosts */
    struct probe *probes;
    double pace, longest, started;
    unsigned enough;
    bool told;
    struct prober_view view;
    int stop_fd, wake_fd;
};

static void release(struct prober *prober)
{
    unsigned left;

    (void)pthread_mutex_lock(&prober->lock);
    left = --prober->references;
    (void)pthread_mutex_unlock(&prober->lock);
    if (left > 0)
        return;
    manifest_free(&prober->manifest);
    check_vars_free(&prober->vars);
    for (char **host = prober->hosts; *host; host++)
        free(*host);
    free(prober->hosts);
    (void)close(prober->stop_fd);
    (void)close(prober->wake_fd);
    (void)pthread_mutex_destroy(&prober->lock);
    free(prober->probes);
    free(prober);
}

static bool stopped_within(const struct prober *prober, double seconds)
{
    struct pollfd fd = {.fd = prober->stop_fd, .events = POLLIN};
    double until = clock_now(CLOCK_MONOTONIC) + seconds;

    for (;;) {
        double left = until - clock_now(CLOCK_MONOTONIC);
        int got = poll(&fd, 1, left > 0 ? (int)(left * 1000) + 1 : 0);

        if (got > 0)
            return true;
        if (left <= 0)
            return false;
    }
}

static unsigned fewest_runs(const struct prober *prober)
{
    unsigned fewest = ~0U;

    for (size_t i = 0; i < prober->manifest.probe_count; i++)
        if (prober->probes[i].runs < fewest)
            fewest = prober->probes[i].runs;
    return fewest;
}

static void tell_owner(const struct prober *prober)
{
    const uint64_t one = 1;

    if (write(prober->wake_fd, &one, sizeof(one)) < 0)
        return; /* the owner looks again by itself */
}

/* Under the lock. */
static void note_usage(struct probe *probe, const struct check_usage *now)
{
    if (!probe->measured) {
        probe->measured = true;
        probe->first = *now;
    }
    if (now->rss_bytes > probe->used.rss_bytes)
        probe->used.rss_bytes = now->rss_bytes;
    if (now->cpu_ms > probe->first.cpu_ms)
        probe->used.cpu_ms = now->cpu_ms - probe->first.cpu_ms;
}

static void note(struct probe *probe, const struct check_result *result, double finished)
{
    struct prober *prober = probe->prober;
    struct prober_view *view = &prober->view;
    bool tell = false;
    struct check_usage now;
    bool measured = probe->check->kind == CHECK_PROCESS && check_usage(&probe->memory, &now) == 0;

    (void)pthread_mutex_lock(&prober->lock);
    if (measured)
        note_usage(probe, &now);
    probe->runs++;
    if (result->passed)
        probe->in_a_row = 0;
    else if (result->fatal || finished - prober->started >= probe->check->grace)
        probe->in_a_row++;
    view->runs = fewest_runs(prober);
    if (!view->failed && (result->fatal || probe->in_a_row >= probe->check->failures) &&
        !result->passed) {
        view->failed = tell = true;
        (void)snprintf(view->probe, sizeof(view->probe), "%s", probe->check->name);
        (void)snprintf(view->text, sizeof(view->text), "%s", result->text);
        (void)snprintf(view->tail, sizeof(view->tail), "%s", result->tail);
        view->exit_status = result->exit_status;
        view->signal = result->signal;
    }
    if (!prober->told && view->runs >= prober->enough)
        prober->told = tell = true;
    (void)pthread_mutex_unlock(&prober->lock);
    if (tell)
        tell_owner(prober);
}

static void *run(void *user)
{
    struct probe *probe = user;
    struct prober *prober = probe->prober;
    double interval = prober->pace > 0 ? prober->pace : probe->check->interval;

    if (prober->longest > 0 && interval > prober->longest)
        interval = prober->longest;
    do {
        struct check_result result;

        check_run(probe->check, &prober->vars, &probe->memory, prober->stop_fd, &result);
        if (stopped_within(prober, 0))
            break;
        note(probe, &result, clock_now(CLOCK_MONOTONIC));
    } while (!stopped_within(prober, interval * (1 - JITTER * random_unit())));
    release(prober);
    return NULL;
}

static char **copy_list(char *const *list)
{
    size_t count = 0;
    char **copy;

    while (list && list[count])
        count++;
    copy = xcalloc(count + 1, sizeof(char *));
    for (size_t i = 0; i < count; i++)
        copy[i] = xstrdup(list[i]);
    return copy;
}

static void start_thread(struct prober *prober, struct probe *probe,
                         const pthread_attr_t *attributes)
{
    pthread_t thread;

    (void)pthread_mutex_lock(&prober->lock);
    prober->references++;
    (void)pthread_mutex_unlock(&prober->lock);
    if (pthread_create(&thread, attributes, run, probe) == 0)
        return;
    (void)pthread_mutex_lock(&prober->lock);
    prober->view.failed = true;
    (void)snprintf(prober->view.probe, sizeof(prober->view.probe), "%s", probe->check->name);
    (void)snprintf(prober->view.text, sizeof(prober->view.text), "no thread to run it");
    prober->references--;
    (void)pthread_mutex_unlock(&prober->lock);
    tell_owner(prober);
}

struct prober *prober_start(struct manifest *manifest, struct check_vars *vars, double pace,
                            double longest, unsigned enough, int64_t since_ms, int wake_fd)
{
    struct prober *prober = xcalloc(1, sizeof(*prober));
    int64_t now_ms = clock_ms(CLOCK_REALTIME);
    pthread_attr_t attributes;

    (void)pthread_mutex_init(&prober->lock, NULL);
    prober->manifest = *manifest;
    prober->vars = *vars;
    *manifest = (struct manifest){0};
    *vars = (struct check_vars){0};
    prober->hosts = copy_list(prober->vars.hosts); /* a thread left behind outlives the owner's */
    prober->vars.hosts = prober->hosts;
    prober->pace = pace;
    prober->longest = longest;
    prober->enough = enough;
    prober->view.exit_status = -1;
    prober->started = clock_now(CLOCK_MONOTONIC);
    prober->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    prober->wake_fd = fcntl(wake_fd, F_DUPFD_CLOEXEC, 3);
    if (prober->stop_fd < 0 || prober->wake_fd < 0)
        abort(); /* nothing could stop the probes; the next start reverts */
    prober->probes = xcalloc(prober->manifest.probe_count + 1, sizeof(*prober->probes));
    prober->references = 1;
    for (size_t i = 0; i < prober->manifest.probe_count; i++)
        prober->probes[i] = (struct probe){.prober = prober,
                                           .check = &prober->manifest.probes[i],
                                           .memory = {.since_ms = since_ms, .settled_ms = now_ms}};
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    (void)pthread_attr_setstacksize(&attributes, THREAD_STACK);
    for (size_t i = 0; i < prober->manifest.probe_count; i++)
        start_thread(prober, &prober->probes[i], &attributes);
    (void)pthread_attr_destroy(&attributes);
    return prober;
}

void prober_look(struct prober *prober, struct prober_view *ret)
{
    (void)pthread_mutex_lock(&prober->lock);
    *ret = prober->view;
    if (prober->manifest.probe_count == 0)
        ret->runs = prober->enough;
    ret->seconds = clock_now(CLOCK_MONOTONIC) - prober->started;
    for (size_t i = 0; i < prober->manifest.probe_count; i++) {
        ret->usage.rss_bytes += prober->probes[i].used.rss_bytes;
        ret->usage.cpu_ms += prober->probes[i].used.cpu_ms;
    }
    (void)pthread_mutex_unlock(&prober->lock);
}

void prober_stop(struct prober *prober)
{
    const uint64_t one = 1;

    if (!prober)
        return;
    if (write(prober->stop_fd, &one, sizeof(one)) < 0)
        abort(); /* a counter at 0 takes a 1 */
    release(prober);
}

static bool canceled(int fd, double seconds)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

    return poll(&poll_fd, 1, (int)(seconds * 1000)) > 0;
}

int probes_pass(const struct manifest *manifest, const struct check_vars *vars, int cancel_fd,
                struct error *error)
{
    for (size_t i = 0; i < manifest->probe_count; i++) {
        const struct check *check = &manifest->probes[i];
        struct check_result result = {0};

        for (unsigned tries = 0; tries < check->failures && !result.passed; tries++) {
            struct check_memory memory = {0};

            if (canceled(cancel_fd, tries ? RETRY_PAUSE : 0))
                return error_set(error, -ECANCELED, "given up");
            check_run(check, vars, &memory, cancel_fd, &result);
        }
        if (canceled(cancel_fd, 0))
            return error_set(error, -ECANCELED, "given up");
        if (!result.passed)
            return error_set(error, -EIO, "probe %s: %s", check->name, result.text);
    }
    return 0;
}
