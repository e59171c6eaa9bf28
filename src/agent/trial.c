#include "agent/trial.h"

#include "agent/courier.h"
#include "agent/hooks.h"
#include "agent/leash.h"
#include "agent/remove.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

const char *trial_subject(const struct product *product)
{
    return product->journal.arm == TRIAL_PLACEBO ? product->journal.previous
                                                 : product->journal.release;
}

static void revert_halted(struct product *product, const struct halt *halt)
{
    struct verdict verdict = {.outcome = product->untouched ? "declined" : "reverted",
                              .reason = "halted",
                              .exit_status = -1,
                              .text = halt->reason,
                              .untouched = product->untouched};

    revert_begin(product, &verdict);
}

static void revert_failed(struct product *product, const char *reason, const char *probe,
                          const struct check_result *result, const char *text)
{
    struct verdict verdict = {.outcome = "failed",
                              .reason = reason,
                              .probe = probe,
                              .exit_status = result ? result->exit_status : -1,
                              .signal = result ? result->signal : 0,
                              .text = text,
                              .tail = result ? result->tail : NULL};

    revert_begin(product, &verdict);
}

/* The permit no longer holds and nothing has started yet: never started, hence declined. */
static void revert_unstarted(struct product *product, const char *reason)
{
    struct verdict verdict = {
        .outcome = "declined", .reason = reason, .exit_status = -1, .untouched = true};

    revert_begin(product, &verdict);
}

/* marked → active: `previous` and `current` move, in this order, so that there is always a way
 * back. */
static void activate_links(struct product *product)
{
    struct error error = ERROR_INIT;
    const char *reason;
    int r;

    if (!permit_holds(product, &reason)) {
        revert_unstarted(product, reason);
        return;
    }
    r = product_set(product, STATE_ACTIVE, &error);
    if (r == 0 && product->journal.arm == TRIAL_RELEASE) {
        if (*product->journal.previous)
            r = slot_set_link(product->dir, "previous", product->journal.previous, &error);
        if (r == 0)
            r = slot_set_link(product->dir, "current", product->journal.release, &error);
    }
    if (r < 0)
        revert_failed(product, "disk", NULL, NULL, error.text);
}

/* active → soaking: the adapter, then the running product must name the release. */
static void activate_product(struct product *product)
{
    const char *subject = trial_subject(product);
    struct manifest manifest = {0};
    struct check_vars vars = {0};
    struct check_result result = {.exit_status = -1};
    struct error error = ERROR_INIT;
    const char *reason;
    _cleanup_free_ char *probe = NULL;
    int r = 0;

    if (!permit_holds(product, &reason)) {
        revert_unstarted(product, reason);
        return;
    }
    product->untouched = false;
    product->activated = clock_now(CLOCK_REALTIME);
    if (*subject) {
        r = slot_manifest(product->dir, subject, &manifest, &error);
        if (r == 0) {
            product_vars(product, subject, &vars);
            if (product->journal.arm != TRIAL_PLACEBO || !manifest.disturbs)
                r = adapter_activate(&manifest, &vars, product->cancel_fd, &result, &error);
            crash_point("", "adapter-ran");
        }
        reason = "adapter";
        if (r == 0) {
            reason = "not-active";
            r = check_active_becomes(&manifest.active, &vars, subject, product->cancel_fd, &error);
        }
        /* It may name nothing because it is dead: then that is the cause. */
        if (r < 0 && r != -ECANCELED) {
            struct check_result death = {.exit_status = -1};
            const struct check *dead =
                check_death(&manifest, &vars, (int64_t)(product->activated * 1000), &death);

            if (dead) {
                reason = "signal";
                probe = xstrdup(dead->name);
                result.signal = death.signal;
                result.exit_status = -1;
            }
        }
    }
    check_vars_free(&vars);
    manifest_free(&manifest);
    if (r == -ECANCELED) {
        fd_clear(product->cancel_fd);
        return; /* the walk looks at the halts first */
    }
    if (r == 0) {
        reason = "disk";
        r = product_set(product, STATE_SOAKING, &error);
    }
    if (r < 0)
        revert_failed(product, reason, probe, &result, error.text);
}

static void confirm(struct product *product)
{
    struct journal *journal = &product->journal;
    struct slot_mark mark = {.at = clock_ms(CLOCK_REALTIME)};
    struct error error = ERROR_INIT;
    int r = 0;

    if (journal->arm == TRIAL_RELEASE) {
        memcpy(mark.from, journal->previous, sizeof(mark.from));
        memcpy(mark.permit, journal->permit, sizeof(mark.permit));
        r = slot_mark_write(product->dir, journal->release, &mark, &error);
        crash_point("", "mark-written");
        if (r == 0)
            r = product_set(product, STATE_CONFIRMED, &error);
        log_notice("trial-confirmed", "%s: %.12s… stays", product->config->name, journal->release);
    } else {
        product->next_ask = mono();
        journal->arm = TRIAL_NONE;
        r = product_set(product, STATE_STAGED, &error);
        log_info("placebo-done", "%s: placebo settled", product->config->name);
    }
    if (r < 0) {
        log_error("journal", "%s; the trial goes on until it can be written", error.text);
        product_wait(product, 1);
    }
}

/* reported: until it is answered, or `confirm_within` is over (rule 5). */
static int reported_walk(struct product *product)
{
    struct journal *journal = &product->journal;
    double within = product->confirm_within > 0 &&
                            product->confirm_within < product->agent->config.confirm_within
                        ? product->confirm_within
                        : product->agent->config.confirm_within;
    double left = within - (boottime() - (double)journal->clock / 1000);
    char answer[16];

    if (product_answer(product, journal->permit, journal->outcome, answer)) {
        if (strcmp(answer, "confirm") == 0) {
            confirm(product);
        } else if (strcmp(answer, "revert") == 0) {
            struct verdict verdict = {
                .outcome = "reverted", .reason = "told-to-revert", .exit_status = -1};

            revert_begin(product, &verdict);
        } else if (strcmp(answer, "refused") == 0) {
            revert_failed(product, "report-refused", NULL, NULL,
                          "the server did not take the report of this trial");
        }
        return 0;
    }
    if (agent_stopping(product->agent))
        return -ECANCELED;
    if (left <= 0) {
        struct verdict verdict = {
            .outcome = "reverted", .reason = "unconfirmed", .exit_status = -1};

        revert_begin(product, &verdict);
        return 0;
    }
    product_wait(product, left < 30 ? left : 30);
    return 0;
}

/* What the device's one trial leaves behind. */
static void finish(struct product *product)
{
    leash_stop(product->leash);
    product->leash = NULL;
    fd_clear(product->cancel_fd);
    trial_drop(product);
    product_show(product);
}

static int rejected_walk(struct product *product)
{
    struct error error = ERROR_INIT;
    int r;

    product->journal.release[0] = product->journal.previous[0] = '\0';
    product->journal.arm = TRIAL_NONE;
    r = product_set(product, STATE_IDLE, &error);
    if (r < 0) {
        log_error("journal", "%s", error.text);
        product_wait(product, 1);
    }
    return agent_stopping(product->agent) ? -ECANCELED : 0;
}

/* A reverted placebo or a declined permit leaves no rejection behind. */
static void leave_reverting(struct product *product)
{
    struct error error = ERROR_INIT;

    if (product->journal.state != STATE_REVERTING)
        return;
    product->journal.arm = TRIAL_NONE;
    product->next_ask = mono() + product->agent->config.poll;
    if (product_set(product, STATE_STAGED, &error) < 0)
        log_error("journal", "%s", error.text);
}

static bool may_be_halted(const struct product *product)
{
    switch (product->journal.state) {
    case STATE_MARKED:
    case STATE_ACTIVE:
    case STATE_SOAKING:
    case STATE_INTERRUPTED:
    case STATE_REPORTED:
        return product->journal.arm == TRIAL_RELEASE;
    default:
        return false;
    }
}

/* A person wants the product gone, now (rule 9). */
static void revert_removed(struct product *product)
{
    struct verdict verdict = {.outcome = product->untouched ? "declined" : "reverted",
                              .reason = REASON_REMOVED,
                              .exit_status = -1,
                              .untouched = product->untouched};

    revert_begin(product, &verdict);
}

static bool is_trial(enum trial_state state)
{
    return trial_state_holds_trial(state) && state != STATE_ASKED && state != STATE_REVERTING;
}

static int step(struct product *product)
{
    switch (product->journal.state) {
    case STATE_ASKED:
        return ask_walk(product);
    case STATE_MARKED:
        activate_links(product);
        return 0;
    case STATE_ACTIVE:
        activate_product(product);
        return 0;
    case STATE_SOAKING:
        return soak_walk(product);
    case STATE_INTERRUPTED:
        return resume_walk(product);
    case STATE_REPORTED:
        return reported_walk(product);
    case STATE_REVERTING:
        if (revert_walk(product) == 0) {
            leave_reverting(product);
        } else {
            product_wait(product, product->revert_pause);
            return agent_stopping(product->agent) ? -ECANCELED : 0;
        }
        return 0;
    case STATE_REJECTED:
        return rejected_walk(product);
    default:
        return 1;
    }
}

static bool needs_leash(const struct product *product)
{
    return !product->leash && *product->journal.permit && product->agent->enrolled &&
           may_be_halted(product);
}

int trial_walk(struct product *product)
{
    int r = 0;

    while (r == 0) {
        struct halt halt;

        if (needs_leash(product))
            product->leash = leash_start(product->agent, product->journal.permit, true, 5);
        if (may_be_halted(product) && product_halted(product, product->journal.release, &halt))
            revert_halted(product, &halt);
        if (is_trial(product->journal.state) && atomic_load(&product->removing) == REMOVE_NOW)
            revert_removed(product);
        r = step(product);
    }
    if (r == -ECANCELED && trial_state_holds_trial(product->journal.state)) {
        leash_stop(product->leash);
        product->leash = NULL;
        return r;
    }
    finish(product);
    return r == 1 ? 0 : r;
}
