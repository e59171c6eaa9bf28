#include "agent/idle.h"

#include "agent/adopt.h"
#include "agent/client.h"
#include "agent/conditions.h"
#include "agent/courier.h"
#include "agent/plan.h"
#include "agent/prober.h"
#include "agent/rejected.h"
#include "agent/remove.h"
#include "agent/slot.h"
#include "agent/stage.h"
#include "agent/status.h"
#include "agent/trial.h"
#include "agent/watch.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "trust/envelope.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define PLAN_MAX (1024 * 1024)
#define ANSWER_WAIT                                                                                \
    3.0 /* seconds for a word about the availability group, even when in a hurry                   \
         */
#define PAUSE_AFTER_FAILURE 60.0

static double jittered(double seconds)
{
    return seconds * (0.8 + 0.4 * random_unit());
}

/* A pause after trouble: the next poll, but no storm. */
static double pause_after_trouble(const struct product *product)
{
    double poll = product->agent->config.poll;

    return jittered(poll > PAUSE_AFTER_FAILURE ? PAUSE_AFTER_FAILURE : poll);
}

static void take_plan(struct product *product, struct reply *reply)
{
    struct error error = ERROR_INIT;
    struct plan *plan = NULL;

    if (plan_read(reply->value, product->config->name, product->config->channel, &plan, &error) <
        0) {
        log_error("plan", "%s: %s", product->config->name, error.text);
        return;
    }
    plan_free(product->plan);
    product->plan = plan;
    (void)snprintf(product->plan_etag, sizeof(product->plan_etag), "%s", reply->etag);
}

static void say_trouble(struct product *product, const char *text)
{
    char shown[sizeof(product->plan_trouble)];

    (void)snprintf(shown, sizeof(shown), "%s", text);
    if (*shown && strcmp(shown, product->plan_trouble) != 0)
        log_info("plan", "%s: %s", product->config->name, text);
    memcpy(product->plan_trouble, shown, sizeof(shown));
}

static void poll_plan(struct product *product)
{
    struct agent *agent = product->agent;
    _cleanup_free_ char *path =
        xasprintf("/v1/plans/%s/%s", product->config->name, product->config->channel);
    _cleanup_reply_ struct reply reply = {0};
    struct error error = ERROR_INIT;
    int r = client_get(agent, product->http, path, product->plan ? product->plan_etag : NULL,
                       CONTEXT_PLAN, PLAN_MAX, 15, agent->stop_fd, &reply, &error);

    product->next_plan = mono() + jittered(agent->config.poll);
    (void)pthread_mutex_lock(&agent->lock);
    product->shown_next =
        clock_ms(CLOCK_REALTIME) + (int64_t)((product->next_plan - mono()) * 1000);
    (void)pthread_mutex_unlock(&agent->lock);
    status_write(agent);
    if (r == -ECANCELED)
        return;
    if (r < 0 || reply.status >= 500) {
        say_trouble(product, r < 0 ? error.text : reply.problem ? reply.problem : "no answer");
        product->server_away = true;
        return;
    }
    if (product->server_away)
        courier_wake(agent->courier);
    product->server_away = false;
    if (reply.status == 200)
        take_plan(product, &reply);
    say_trouble(product, reply.status == 200 || reply.status == 304 ? ""
                         : reply.problem                            ? reply.problem
                                                                    : "an unexpected answer");
    if (product->plan && product->plan->halts > halts_number(&agent->halts) &&
        client_halts(agent, product->http, 15, agent->stop_fd, &error) < 0)
        log_warning("halts", "%s", error.text);
}

static bool is_admitted(const struct product *product, const struct plan_release *offer)
{
    return plan_place(product->agent->identity.device, offer->release, offer->salt) < offer->admit;
}

/* What the plan offers this device now, or NULL: the newest that admits it, so that who waits for a
 * later stage, or came late, still gets the last good one; else the newest, to stage it. */
static const struct plan_release *find_offer(struct product *product)
{
    const struct plan_release *newest = NULL;
    struct error error = ERROR_INIT;
    struct halt halt;

    for (size_t i = 0; product->plan && i < product->plan->count; i++) {
        const struct plan_release *offer = &product->plan->releases[i];

        if (!offer->offered || offer->sequence <= product->sequence ||
            strcmp(offer->release, product->shown_current) == 0 ||
            product_halted(product, offer->release, &halt))
            continue;
        if (rejected_has(product->agent->rejected, offer->release, clock_ms(CLOCK_REALTIME),
                         &error)) {
            if (error.text[0])
                log_error("rejected", "%s: until it can be read, nothing is tried", error.text);
            continue;
        }
        if (is_admitted(product, offer))
            return offer;
        if (!newest)
            newest = offer;
    }
    return newest;
}

static void collect(struct product *product, const char *candidate)
{
    const struct journal *journal = &product->journal;
    const char *current = product->shown_current;
    struct slot_mark mark = {0};
    const char *keep[] = {
        current, product->shown_previous, journal->release, journal->previous, candidate, mark.from,
        NULL};

    (void)slot_mark_read(product->dir, current, &mark);
    slots_collect(product->dir, keep);
}

/* Drops what was staged for a release that is no longer offered. */
static void drop_offer(struct product *product)
{
    struct error error = ERROR_INIT;

    product->stage_release[0] = '\0';
    if (product->journal.state == STATE_STAGED) {
        product->journal.release[0] = product->journal.previous[0] = '\0';
        if (product_set(product, STATE_IDLE, &error) < 0)
            log_error("journal", "%s", error.text);
    }
    product_block(product, "");
    collect(product, "");
}

/* 0 when the slot is there. */
static int have_staged(struct product *product, const struct plan_release *offer, bool admitted)
{
    struct error error = ERROR_INIT;
    const char *reason = "";
    int r;

    if (strcmp(product->stage_release, offer->release) != 0) {
        memcpy(product->stage_release, offer->release, sizeof(product->stage_release));
        product->next_stage = mono() + offer->prestage * random_unit();
        product->next_ask = 0;
        if (admitted)
            product->next_stage = 0;
    } else if (admitted && product->stage_tries == 0) {
        product->next_stage = 0;
    }
    if (slot_exists(product->dir, offer->release))
        return 0;
    if (mono() < product->next_stage)
        return -EAGAIN;
    collect(product, offer->release);
    r = stage_release(product, offer, &reason, &error);
    if (r == 0) {
        product->stage_tries = 0;
        return 0;
    }
    if (r == -ECANCELED)
        return r;
    product->stage_tries++;
    product->next_stage = mono() + pause_after_trouble(product);
    log_warning("not-staged", "%s: %.12s…: %s: %s", product->config->name, offer->release, reason,
                error.text);
    product_block(product, reason);
    return r;
}

static int set_staged(struct product *product, const struct plan_release *offer)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;
    int r;

    if (journal->state == STATE_STAGED && strcmp(journal->release, offer->release) == 0 &&
        strcmp(journal->previous, product->shown_current) == 0)
        return 0;
    journal_reset(journal);
    memcpy(journal->release, offer->release, sizeof(journal->release));
    memcpy(journal->previous, product->shown_current, sizeof(journal->previous));
    r = product_set(product, STATE_STAGED, &error);
    if (r < 0) {
        log_error("journal", "%s", error.text);
        product_block(product, "disk");
    }
    return r;
}

/* Rule 7: the running release's probes, unless the new one repairs it. */
static int healthy_before(struct product *product, const struct manifest *next, struct error *error)
{
    struct manifest manifest;
    struct check_vars vars;
    int r;

    if (next->repairs || !*product->shown_current)
        return 0;
    r = slot_manifest(product->dir, product->shown_current, &manifest, error);
    if (r < 0)
        return r;
    product_vars(product, product->shown_current, &vars);
    r = probes_pass(&manifest, &vars, product->agent->stop_fd, error);
    check_vars_free(&vars);
    manifest_free(&manifest);
    return r;
}

/* Everything that has to be so before a permit is asked for; "" when it is. */
static const char *obstacle(struct product *product, const struct plan_release *offer,
                            struct error *error)
{
    struct manifest manifest;
    const char *reason;

    if (slot_manifest(product->dir, offer->release, &manifest, error) < 0)
        return "slot-damaged";
    reason =
        condition_now(product, manifest.has_policy && manifest.policy.class == POLICY_EMERGENCY);
    if (!*reason)
        reason = condition_fit(product, &manifest, error);
    if (!*reason && healthy_before(product, &manifest, error) < 0)
        reason = "unhealthy-before";
    manifest_free(&manifest);
    return reason;
}

static void consider(struct product *product)
{
    struct agent *agent = product->agent;
    const struct plan_release *offer = find_offer(product);
    struct error error = ERROR_INIT;
    const char *reason;
    bool admitted;

    if (!offer) {
        if (product->plan && (product->stage_release[0] || *product->blocked ||
                              product->journal.state == STATE_STAGED))
            drop_offer(product);
        return;
    }
    admitted = is_admitted(product, offer);
    if (have_staged(product, offer, admitted) < 0 || set_staged(product, offer) < 0)
        return;
    if (!admitted || mono() < product->next_ask)
        return;
    reason = obstacle(product, offer, &error);
    if (!*reason && trial_take(product, &error) < 0)
        reason = "busy";
    if (*reason) {
        if (agent_stopping(agent))
            return;
        if (error.text[0] && strcmp(reason, product->blocked) != 0)
            log_warning("not-asked", "%s: %.12s…: %s: %s", product->config->name, offer->release,
                        reason, error.text);
        product_block(product, reason);
        product->next_ask = mono() + pause_after_trouble(product);
        return;
    }
    watch_end(product);
    product->journal.arm = TRIAL_RELEASE;
    if (ask_begin(product, &error) < 0) {
        log_error("journal", "%s", error.text);
        trial_drop(product);
        product_block(product, "disk");
        product->next_ask = mono() + pause_after_trouble(product);
        return;
    }
    product_block(product, "");
}

/* Goes back from a confirmed release: halted, or regressed and told to. */
static void leave_current(struct product *product, const struct slot_mark *mark)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;

    if (trial_take(product, &error) < 0) {
        product->next_revert = mono() + 0.5;
        return;
    }
    watch_end(product);
    journal_reset(journal);
    memcpy(journal->release, product->shown_current, sizeof(journal->release));
    memcpy(journal->previous, mark->from, sizeof(journal->previous));
    journal->arm = TRIAL_REVERT;
    if (ask_begin(product, &error) < 0) {
        log_error("journal", "%s", error.text);
        trial_drop(product);
        product->next_revert = mono() + 1;
    }
}

static bool has_way_back(struct product *product, const struct slot_mark *mark)
{
    struct manifest manifest = {0};
    struct halt halt;
    bool can = false;

    if (*mark->from)
        return slot_exists(product->dir, mark->from) && !product_halted(product, mark->from, &halt);
    /* It began from nothing, and goes back to nothing. */
    if (slot_manifest(product->dir, product->shown_current, &manifest, NULL) == 0)
        can = manifest.deactivate != NULL;
    manifest_free(&manifest);
    return can;
}

/* Rule 14, for what runs and was confirmed. */
static void obey_halt(struct product *product)
{
    const char *current = product->shown_current;
    struct slot_mark mark;
    struct halt halt = {0};
    char answer[16];
    bool told;

    if (!*current || slot_mark_read(product->dir, current, &mark) < 0 || !*mark.permit)
        return;
    if (strcmp(product->told_back, current) != 0 &&
        product_answer(product, mark.permit, "regressed", answer) && strcmp(answer, "revert") == 0)
        memcpy(product->told_back, current, sizeof(product->told_back));
    told = strcmp(product->told_back, current) == 0;
    if (product_halted(product, current, &halt) ? !halt.revert && !told : !told)
        return;
    if (!has_way_back(product, &mark)) {
        product_block(product, "no-way-back");
        return;
    }
    if (strcmp(product->revert_release, current) != 0 || product->revert_halt != halt.number) {
        memcpy(product->revert_release, current, sizeof(product->revert_release));
        product->revert_halt = halt.number;
        product->revert_by = mono() + (told ? 0.001 : halt.now ? ANSWER_WAIT : halt.spread);
        product->next_revert = halt.now || told ? 0 : mono() + halt.spread * random_unit();
    }
    if (mono() >= product->next_revert)
        leave_current(product, &mark);
}

static void adopt(struct product *product)
{
    struct error error = ERROR_INIT;
    const char *reason;
    int r;

    if (mono() < product->next_adopt)
        return;
    r = adopt_content(product, &reason, &error);
    if (r == 0) {
        product->adopted = true;
        if (strcmp(product->blocked, "not-adopted") == 0 ||
            strcmp(product->blocked, "package-owned") == 0)
            product_block(product, "");
    } else if (r != -ECANCELED) {
        log_error("not-adopted", "%s: %s; tries again", product->config->name, error.text);
        product_block(product, reason);
        product->next_adopt = mono() + 10 * (0.8 + 0.4 * random_unit());
    }
}

/* 0: nobody asked for it, or it was refused. 1: it is done. */
static int remove_if_asked(struct product *product)
{
    struct error error = ERROR_INIT;
    int r;

    if (atomic_load(&product->removing) == REMOVE_NOT)
        return 0;
    watch_end(product);
    fd_clear(product->cancel_fd);
    r = remove_product(product, &error);
    if (r == 0) {
        journal_reset(&product->journal);
        product_block(product, "removed");
        return 1;
    }
    log_error("not-removed", "%s: %s", product->config->name, error.text);
    if (r == -EPERM) {
        atomic_store(&product->removing, REMOVE_NOT);
        return 0;
    }
    product_block(product, "not-removed");
    return r;
}

static double next_time(const struct product *product)
{
    double next = product->next_plan;

    if (!product->adopted)
        next = fmin(next, product->next_adopt);
    if (product->stage_release[0] && product->next_ask > 0)
        next = fmin(next, fmax(product->next_ask, mono() + 0.05));
    if (product->stage_release[0] && product->next_stage > mono())
        next = fmin(next, product->next_stage);
    if (product->revert_release[0] && product->next_revert > 0 &&
        strcmp(product->revert_release, product->shown_current) == 0)
        next = fmin(next, fmax(product->next_revert, mono() + 0.05));
    return next;
}

void idle_walk(struct product *product)
{
    struct agent *agent = product->agent;
    int removed;

    product->next_plan =
        atomic_load(&agent->once) ? 0 : mono() + fmin(agent->config.poll, 2) * 0.5 * random_unit();
    while (!agent_stopping(agent)) {
        if (trial_state_holds_trial(product->journal.state) ||
            product->journal.state == STATE_REJECTED) {
            if (trial_walk(product) == -ECANCELED)
                break;
            product->next_plan = fmin(product->next_plan, mono() + 0.2);
            continue;
        }
        removed = remove_if_asked(product);
        if (removed == 1)
            break;
        if (removed < 0) {
            product_wait(product, 10);
            continue;
        }
        if (!product->adopted)
            adopt(product);
        if (mono() >= product->next_plan && !agent_stopping(agent))
            poll_plan(product);
        if (product->adopted) {
            adopt_look_after(product);
            obey_halt(product);
            if (!trial_state_holds_trial(product->journal.state))
                watch_walk(product);
            if (!trial_state_holds_trial(product->journal.state))
                consider(product);
        }
        if (trial_state_holds_trial(product->journal.state))
            continue;
        if (atomic_load(&agent->once) && product->plan_polls++ > 0)
            break;
        product_wait(product, next_time(product) - mono());
    }
    watch_end(product);
}
