#include "agent/courier.h"
#include "agent/hooks.h"
#include "agent/rejected.h"
#include "agent/trial.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define PAUSE_MOST 60.0

void revert_begin(struct product *product, const struct verdict *verdict)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;

    (void)snprintf(journal->outcome, sizeof(journal->outcome), "%s", verdict->outcome);
    (void)snprintf(journal->reason, sizeof(journal->reason), "%s", verdict->reason);
    (void)snprintf(journal->probe, sizeof(journal->probe), "%s",
                   verdict->probe ? verdict->probe : "");
    journal->exit_status =
        verdict->exit_status >= 0 && verdict->exit_status <= 255 ? verdict->exit_status : -1;
    journal->signal = verdict->signal > 0 ? verdict->signal : 0;
    product->revert_tries = 0;
    product->revert_told = product->revert_done = false;
    product->untouched = verdict->untouched;
    (void)snprintf(product->verdict_text, sizeof(product->verdict_text), "%s%s%s",
                   verdict->text ? verdict->text : "", verdict->tail && *verdict->tail ? "\n" : "",
                   verdict->tail ? verdict->tail : "");
    log_warning("trial-reverts", "%s: release %.12s… (%s): %s%s%s", product->config->name,
                journal->release, trial_arm_name(journal->arm), verdict->reason,
                verdict->text ? ": " : "", verdict->text ? verdict->text : "");
    /* Without a record the way back is the same: the state before it reverts too. */
    if (product_set(product, STATE_REVERTING, &error) < 0)
        log_error("journal", "%s", error.text);
}

/* `current` names what ran before; `previous` what ran before that. */
static int set_links(struct product *product, struct error *error)
{
    const char *target = product->journal.previous;
    char current[65];
    int r = slot_link(product->dir, "current", current, NULL);

    if (r < 0 || strcmp(current, target) != 0)
        r = slot_set_link(product->dir, "current", target, error);
    return r;
}

static void set_previous(struct product *product)
{
    struct error error = ERROR_INIT;
    struct slot_mark mark;
    const char *before = "";

    if (slot_mark_read(product->dir, product->journal.previous, &mark) == 0 &&
        slot_exists(product->dir, mark.from))
        before = mark.from;
    if (slot_set_link(product->dir, "previous", before, &error) < 0)
        log_warning("link", "%s", error.text);
}

/* Brings the running product back to the target. */
static int activate_target(struct product *product, struct error *error)
{
    const struct journal *journal = &product->journal;
    const char *release = *journal->previous ? journal->previous : journal->release;
    struct manifest manifest = {0};
    struct check_vars vars = {0};
    struct check_result result;
    int r = slot_manifest(product->dir, release, &manifest, error);

    if (r == 0) {
        product_vars(product, release, &vars);
        if (!*journal->previous) {
            r = adapter_deactivate(&manifest, &vars, error);
        } else if (journal->arm != TRIAL_PLACEBO || !manifest.disturbs) {
            r = adapter_activate(&manifest, &vars, -1, &result, error);
            if (r == 0)
                r = check_active_becomes(&manifest.active, &vars, release, -1, error);
        }
    }
    check_vars_free(&vars);
    manifest_free(&manifest);
    return r;
}

static int finish(struct product *product, struct error *error)
{
    struct journal *journal = &product->journal;
    int r = 0;

    if (journal->arm != TRIAL_PLACEBO && strcmp(journal->outcome, "declined") != 0) {
        if (*journal->release && strcmp(journal->reason, REASON_REMOVED) != 0)
            r = rejected_add(product->agent->rejected, journal->release, journal->reason,
                             clock_ms(CLOCK_REALTIME), error);
        if (r == 0)
            r = product_set(product, STATE_REJECTED, error);
    }
    return r;
}

/* A failure is told at once, since others' permits hang on it; that the device went back, only when
 * it is back. Where an availability group waits, a failure too waits for the first try to go back:
 * the next of the group must not begin while this one is still out of service. */
static void tell(struct product *product)
{
    const char *outcome = product->journal.outcome;
    bool group = product->agent->config.group && product->revert_tries == 0;

    if (!*outcome || product->revert_told ||
        (!product->revert_done && (group || strcmp(outcome, "reverted") == 0)))
        return;
    report_put(product, outcome, product->verdict_text);
    product->revert_told = true;
}

int revert_walk(struct product *product)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;
    int r = 0;

    if (journal->arm != TRIAL_PLACEBO)
        r = set_links(product, &error);
    crash_point("", "revert-linked");
    if (r == 0)
        tell(product);
    if (r == 0 && !product->untouched && !product->revert_done)
        r = activate_target(product, &error);
    if (r == 0)
        product->revert_done = true;
    crash_point("", "revert-activated");
    if (r == 0 && journal->arm != TRIAL_PLACEBO)
        set_previous(product);
    if (r == 0) {
        tell(product);
        r = finish(product, &error);
    }
    if (r == 0) {
        log_notice("trial-reverted", "%s: back on %.12s…", product->config->name,
                   *journal->previous ? journal->previous : "nothing");
        return 0;
    }
    product->revert_tries++;
    log_error("revert-failed", "%s: %s; tries again", product->config->name, error.text);
    product->revert_pause = product->revert_tries < 6 ? 1 << product->revert_tries : PAUSE_MOST;
    return -EAGAIN;
}
