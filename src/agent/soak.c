#include "agent/hooks.h"
#include "agent/prober.h"
#include "agent/remove.h"
#include "agent/trial.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RUNS_NEEDED 3
#define INTERRUPTIONS_MOST 2
#define SUSPEND_GAP 2.0 /* seconds by which CLOCK_BOOTTIME may outrun CLOCK_MONOTONIC */
#define RESUMING "resuming"

struct soak {
    struct prober *prober;
    double started; /* CLOCK_MONOTONIC */
    double gap;     /* CLOCK_BOOTTIME − CLOCK_MONOTONIC */
    uint64_t before_ms;
};

static void fail(struct product *product, const char *reason, const struct prober_view *view,
                 const char *text)
{
    struct verdict verdict = {.outcome = "failed",
                              .reason = reason,
                              .probe = view ? view->probe : NULL,
                              .exit_status = view ? view->exit_status : -1,
                              .signal = view ? view->signal : 0,
                              .text = text,
                              .tail = view ? view->tail : NULL};

    revert_begin(product, &verdict);
}

/* Marks an orderly interruption. A third one is told, which ends the trial for the server, but not
 * marked any more: the next start reverts. */
static bool interrupt(struct product *product, const char *reason)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;

    journal->interruptions++;
    if (journal->interruptions > INTERRUPTIONS_MOST) {
        if (product_set(product, journal->state, &error) < 0)
            log_error("journal", "%s", error.text);
        report_put(product, "interrupted", NULL);
        return false;
    }
    (void)snprintf(journal->reason, sizeof(journal->reason), "%s", reason);
    journal->confirm_by = clock_ms(CLOCK_REALTIME) + (int64_t)(INTERRUPTED_MOST * 1000);
    if (product_set(product, STATE_INTERRUPTED, &error) < 0) {
        log_error("journal", "%s", error.text);
        return false;
    }
    product->resume_by = boottime() + INTERRUPTED_MOST;
    log_notice("trial-interrupted", "%s: after %llu of %llu ms", product->config->name,
               (unsigned long long)journal->soaked_ms, (unsigned long long)journal->soak_ms);
    report_put(product, "interrupted", NULL);
    return true;
}

static int start(struct product *product, struct soak *soak)
{
    const char *subject = trial_subject(product);
    struct manifest manifest = {0};
    struct check_vars vars = {0};
    struct error error = ERROR_INIT;
    double rest = (double)(product->journal.soak_ms - product->journal.soaked_ms) / 1000;

    *soak = (struct soak){
        .started = mono(), .gap = boottime() - mono(), .before_ms = product->journal.soaked_ms};
    if (!*subject)
        return 0;
    if (slot_manifest(product->dir, subject, &manifest, &error) < 0) {
        fail(product, "slot-damaged", NULL, error.text);
        return -EBADMSG;
    }
    product_vars(product, subject, &vars);
    soak->prober = prober_start(
        &manifest, &vars, 0, rest / (RUNS_NEEDED + 1) > 0.2 ? rest / (RUNS_NEEDED + 1) : 0.2,
        RUNS_NEEDED, (int64_t)(product->activated * 1000), product->wake_fd);
    return 0;
}

/* What came of asking the running product: false when it does not name the release, which fails the
 * trial, or when a halt has to be looked at first. */
static bool is_active(struct product *product, int r, const struct error *error)
{
    if (r == -ECANCELED)
        fd_clear(product->cancel_fd);
    else if (r < 0)
        fail(product, "not-active", NULL, error->text);
    return r == 0;
}

/* The end of the soak: the running product still names the release (rule 4). */
static void finish(struct product *product)
{
    const char *subject = trial_subject(product);
    struct journal *journal = &product->journal;
    struct manifest manifest = {0};
    struct check_vars vars = {0};
    struct error error = ERROR_INIT;
    int r = 0;

    if (*subject) {
        r = slot_manifest(product->dir, subject, &manifest, &error);
        if (r == 0) {
            product_vars(product, subject, &vars);
            r = check_active_becomes(&manifest.active, &vars, subject, product->cancel_fd, &error);
        }
        check_vars_free(&vars);
        manifest_free(&manifest);
    }
    if (!is_active(product, r, &error))
        return;
    (void)snprintf(journal->outcome, sizeof(journal->outcome), "healthy");
    journal->reason[0] = '\0';
    journal->confirm_by =
        clock_ms(CLOCK_REALTIME) + (int64_t)(product->agent->config.confirm_within * 1000);
    if (product_set(product, STATE_REPORTED, &error) < 0) {
        fail(product, "disk", NULL, error.text);
        return;
    }
    report_put(product, "healthy", NULL);
}

static bool slept(const struct soak *soak)
{
    return boottime() - mono() - soak->gap > SUSPEND_GAP;
}

/* 0: the state changed or has to be looked at; 1: goes on. */
static int look(struct product *product, struct soak *soak)
{
    struct journal *journal = &product->journal;
    struct prober_view view = {.runs = RUNS_NEEDED};
    struct halt halt;

    if (slept(soak)) {
        if (!interrupt(product, RESUMING))
            fail(product, "interrupted-too-often", NULL, NULL);
        return 0;
    }
    journal->soaked_ms = soak->before_ms + (uint64_t)((mono() - soak->started) * 1000);
    if (product_halted(product, journal->release, &halt) && journal->arm == TRIAL_RELEASE)
        return 0;
    if (atomic_load(&product->removing) == REMOVE_NOW)
        return 0;
    if (soak->prober)
        prober_look(soak->prober, &view);
    product->usage = view.usage;
    product->soak_seconds = (double)journal->soaked_ms / 1000;
    if (view.failed) {
        fail(product, view.signal ? "signal" : "probe", &view, view.text);
        return 0;
    }
    if (agent_stopping(product->agent)) {
        (void)interrupt(product, "");
        return -ECANCELED;
    }
    if (journal->soaked_ms < journal->soak_ms || view.runs < RUNS_NEEDED)
        return 1;
    finish(product);
    return 0;
}

int soak_walk(struct product *product)
{
    struct journal *journal = &product->journal;
    struct soak soak;
    int r;

    if (journal->soaked_ms > journal->soak_ms)
        journal->soaked_ms = journal->soak_ms;
    if (start(product, &soak) < 0)
        return 0;
    while ((r = look(product, &soak)) == 1) {
        double left = ((double)journal->soak_ms - (double)journal->soaked_ms) / 1000;

        product_wait(product, left > 1 ? 1 : left > 0.02 ? left : 0.02);
        product_show(product);
    }
    prober_stop(soak.prober);
    return r;
}

/* Does the product still run the release? After a reboot it may have to be started. */
static int start_again(struct product *product, struct error *error)
{
    const char *subject = trial_subject(product);
    struct manifest manifest = {0};
    struct check_vars vars = {0};
    struct check_result result;
    char running[65];
    int r = *subject ? slot_manifest(product->dir, subject, &manifest, error) : 0;

    if (r == 0 && *subject) {
        product_vars(product, subject, &vars);
        r = check_active(&manifest.active, &vars, product->cancel_fd, running, error);
        if (r != -ECANCELED && (r < 0 || strcmp(running, subject) != 0)) {
            r = adapter_activate(&manifest, &vars, product->cancel_fd, &result, error);
            if (r == 0)
                r = check_active_becomes(&manifest.active, &vars, subject, product->cancel_fd,
                                         error);
        }
    }
    check_vars_free(&vars);
    manifest_free(&manifest);
    return r;
}

static void go_on(struct product *product)
{
    struct error error = ERROR_INIT;

    product->activated = clock_now(CLOCK_REALTIME);
    if (!is_active(product, start_again(product, &error), &error))
        return;
    product->journal.reason[0] = '\0';
    if (product_set(product, STATE_SOAKING, &error) < 0)
        fail(product, "disk", NULL, error.text);
}

int resume_walk(struct product *product)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;
    char answer[16];

    if (agent_stopping(product->agent)) {
        journal->interruptions++;
        if (journal->interruptions <= INTERRUPTIONS_MOST)
            journal->reason[0] = '\0';
        if (product_set(product, STATE_INTERRUPTED, &error) < 0)
            log_error("journal", "%s", error.text);
        return -ECANCELED;
    }
    if (product_answer(product, journal->permit, "interrupted", answer)) {
        if (strcmp(answer, "wait") == 0 || strcmp(answer, "confirm") == 0) {
            go_on(product);
        } else if (strcmp(answer, "revert") == 0) {
            struct verdict verdict = {
                .outcome = "reverted", .reason = "told-to-revert", .exit_status = -1};

            revert_begin(product, &verdict);
        } else {
            fail(product, "interrupted-too-long", NULL, "the server no longer waits for it");
        }
        return 0;
    }
    if (boottime() > product->resume_by) {
        fail(product, "interrupted-too-long", NULL, NULL);
        return 0;
    }
    product_wait(product, 5);
    return 0;
}
