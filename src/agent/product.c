#include "agent/product.h"

#include "agent/client.h"
#include "agent/courier.h"
#include "agent/idle.h"
#include "agent/leash.h"
#include "agent/plan.h"
#include "agent/prober.h"
#include "agent/remove.h"
#include "agent/slot.h"
#include "agent/status.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void product_vars(struct product *product, const char *release, struct check_vars *ret)
{
    check_vars_make(product->dir, release, product->config->name, product->config->vars,
                    product->config->var_count, product->agent->config.probe_hosts, ret);
}

bool product_halted(struct product *product, const char *release, struct halt *ret)
{
    return halts_find(&product->agent->halts, release, ret);
}

static bool same(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

void product_show(struct product *product)
{
    struct agent *agent = product->agent;
    struct journal *journal = &product->journal;
    char current[65], previous[65];
    struct slot_mark mark;
    struct manifest manifest;
    uint64_t sequence = product->sequence;
    bool changed;

    (void)slot_link(product->dir, "current", current, NULL);
    (void)slot_link(product->dir, "previous", previous, NULL);
    if (!same(current, product->shown_current)) {
        sequence = 0;
        if (*current && slot_manifest(product->dir, current, &manifest, NULL) == 0) {
            sequence = manifest.sequence;
            manifest_free(&manifest);
        }
    }
    (void)pthread_mutex_lock(&agent->lock);
    changed = !same(current, product->shown_current) || !same(previous, product->shown_previous) ||
              !same(product->blocked, product->told_blocked) ||
              (product->shown.state != journal->state && !trial_state_holds_trial(journal->state));
    product->shown = *journal;
    product->sequence = sequence;
    (void)snprintf(product->shown_current, sizeof(product->shown_current), "%s", current);
    (void)snprintf(product->shown_previous, sizeof(product->shown_previous), "%s", previous);
    (void)snprintf(product->told_blocked, sizeof(product->told_blocked), "%s", product->blocked);
    product->trial_release[0] = product->trial_permit[0] = '\0';
    if (trial_state_holds_trial(journal->state)) {
        if (journal->state != STATE_REVERTING && journal->arm == TRIAL_RELEASE)
            memcpy(product->trial_release, journal->release, sizeof(product->trial_release));
        memcpy(product->trial_permit, journal->permit, sizeof(product->trial_permit));
    } else if (slot_mark_read(product->dir, current, &mark) == 0) {
        memcpy(product->trial_permit, mark.permit, sizeof(product->trial_permit));
    }
    (void)pthread_mutex_unlock(&agent->lock);
    status_write(agent);
    if (changed)
        courier_status_changed(agent->courier);
}

void product_block(struct product *product, const char *reason)
{
    bool changed;

    (void)pthread_mutex_lock(&product->agent->lock);
    changed = strcmp(product->blocked, reason) != 0;
    (void)snprintf(product->blocked, sizeof(product->blocked), "%s", reason);
    (void)pthread_mutex_unlock(&product->agent->lock);
    if (!changed)
        return;
    if (*reason)
        log_info("blocked", "%s: %s", product->config->name, reason);
    product_show(product);
}

int product_set(struct product *product, enum trial_state state, struct error *error)
{
    struct journal next = product->journal;
    int r;

    /* A time of another boot means nothing in this one. */
    if (next.state != state || state == STATE_ASKED || !same(next.boot, product->agent->boot))
        next.clock = (int64_t)(boottime() * 1000);
    next.state = state;
    r = journal_save(product->journal_path, &next, product->agent->boot, error);
    if (r < 0 && state != STATE_REVERTING)
        return error_prefix(error, r, "%s: the journal cannot be written", product->config->name);
    product->journal = next;
    log_debug("state", "%s: %s", product->config->name, trial_state_name(state));
    product_show(product);
    return r;
}

void product_wait(struct product *product, double seconds)
{
    struct pollfd fds[] = {{.fd = product->wake_fd, .events = POLLIN},
                           {.fd = product->agent->stop_fd, .events = POLLIN}};

    if (seconds > 3600)
        seconds = 3600;
    (void)poll(fds, 2, seconds > 0 ? (int)(seconds * 1000) + 1 : 0);
    fd_clear(product->wake_fd);
}

bool product_answer(struct product *product, const char *permit, const char *outcome,
                    char ret[static 16])
{
    struct answer *answer = &product->answer;
    bool here;

    (void)pthread_mutex_lock(&product->agent->lock);
    here = answer->here && same(answer->permit, permit) && same(answer->outcome, outcome);
    if (here) {
        memcpy(ret, answer->answer, sizeof(answer->answer));
        answer->here = false;
    }
    (void)pthread_mutex_unlock(&product->agent->lock);
    return here;
}

/* The holder's name, "" when it is free. Under agent->trial_lock. */
static void holder(struct agent *agent, char *ret, size_t size)
{
    _cleanup_buf_ struct buf text = BUF_INIT;

    ret[0] = '\0';
    if (file_read(AT_FDCWD, agent->trial_path, 256, &text, NULL) == 0 && text.data)
        (void)snprintf(ret, size, "%.*s", (int)strcspn(text.data, "\n"), text.data);
}

int trial_take(struct product *product, struct error *error)
{
    struct agent *agent = product->agent;
    _cleanup_free_ char *line = xasprintf("%s\n", product->config->name);
    char name[129];
    int r = 0;

    (void)pthread_mutex_lock(&agent->trial_lock);
    holder(agent, name, sizeof(name));
    if (*name && !same(name, product->config->name))
        r = error_set(error, -EBUSY, "%s holds the device's one trial", name);
    else if (!*name)
        r = file_write(AT_FDCWD, agent->trial_path, line, strlen(line), 0600, error);
    (void)pthread_mutex_unlock(&agent->trial_lock);
    return r;
}

void trial_drop(struct product *product)
{
    struct agent *agent = product->agent;
    struct error error = ERROR_INIT;
    char name[129];

    (void)pthread_mutex_lock(&agent->trial_lock);
    holder(agent, name, sizeof(name));
    if (same(name, product->config->name) && file_unlink(AT_FDCWD, agent->trial_path, &error) < 0)
        log_error("trial-lock", "%s", error.text);
    (void)pthread_mutex_unlock(&agent->trial_lock);
    agent_wake(agent);
}

int product_open(struct agent *agent, const struct config_product *config, struct product *ret,
                 struct error *error)
{
    *ret = (struct product){.agent = agent, .config = config, .leash_poll = true};
    ret->dir = path_join(agent->paths.state, config->name);
    ret->journal_path = path_join(ret->dir, "journal");
    ret->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    ret->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ret->wake_fd < 0 || ret->cancel_fd < 0)
        return error_set(error, -errno, "eventfd: %s", strerrordesc_np(errno));
    atomic_store(&ret->removing, remove_requested(ret));
    return slots_open(ret->dir, error);
}

static void *run(void *user)
{
    struct product *product = user;
    struct agent *agent = product->agent;

    idle_walk(product);
    prober_stop(product->watch);
    product->watch = NULL;
    leash_stop(product->leash);
    product->leash = NULL;
    product_show(product);
    if (atomic_load(&agent->once) && atomic_fetch_sub(&agent->busy, 1) == 1)
        fd_raise(agent->done_fd);
    return NULL;
}

int product_start(struct product *product, struct error *error)
{
    int r = client_new(product->agent, &product->http, error);

    if (r < 0)
        return r;
    r = pthread_create(&product->thread, NULL, run, product);
    if (r != 0)
        return error_set(error, -r, "a thread for %s: %s", product->config->name,
                         strerrordesc_np(r));
    product->running = true;
    return 0;
}

void product_close(struct product *product)
{
    if (product->running)
        (void)pthread_join(product->thread, NULL);
    http_client_free(product->http);
    plan_free(product->plan);
    if (product->wake_fd > 0)
        (void)close(product->wake_fd);
    if (product->cancel_fd > 0)
        (void)close(product->cancel_fd);
    free(product->dir);
    free(product->journal_path);
}
