#include "agent/product.h"

#include "agent/adopt.h"
#include "agent/courier.h"
#include "agent/slot.h"
#include "agent/trial.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define RESUMING "resuming"

static void revert(struct product *product, const char *outcome, const char *reason, bool untouched)
{
    struct verdict verdict = {
        .outcome = outcome, .reason = reason, .exit_status = -1, .untouched = untouched};

    revert_begin(product, &verdict);
}

/* What ended the process that wrote this record: a boot in between means power or panic. */
static const char *cause(const struct product *product, bool rebooted)
{
    if (product->journal.interruptions > 2)
        return "interrupted-too-often";
    return rebooted ? "power-cut" : "agent-crashed";
}

static void recover_interrupted(struct product *product, bool rebooted)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;

    /* The last process had gone on already, and did not end in order. */
    if (strcmp(journal->reason, RESUMING) == 0) {
        revert(product, "failed", cause(product, rebooted), false);
        return;
    }
    /* Only across a boot the wall clock is all there is. */
    product->resume_by =
        rebooted ? boottime() + (double)(journal->confirm_by - clock_ms(CLOCK_REALTIME)) / 1000
                 : (double)journal->clock / 1000 + INTERRUPTED_MOST;
    if (boottime() > product->resume_by) {
        revert(product, "failed", "interrupted-too-long", false);
        return;
    }
    (void)snprintf(journal->reason, sizeof(journal->reason), RESUMING);
    if (product_set(product, STATE_INTERRUPTED, &error) < 0) {
        log_error("journal", "%s", error.text);
        revert(product, "failed", "disk", false);
        return;
    }
    report_put(product, "interrupted", NULL);
}

static void recover_reported(struct product *product, bool rebooted)
{
    struct error error = ERROR_INIT;

    /* Rule 5: without an answer a reboot reverts it. */
    if (rebooted && product->journal.arm == TRIAL_RELEASE)
        revert(product, "reverted", "unconfirmed", false);
    else
        report_put(product, product->journal.outcome, NULL);
    /* A placebo waits on, by the clock of this boot. */
    if (rebooted && product->journal.state == STATE_REPORTED &&
        product_set(product, STATE_REPORTED, &error) < 0)
        log_error("journal", "%s", error.text);
}

/* The links decide when the journal cannot: `current` if it is whole and was confirmed, else the
 * one before it. True when it goes back. */
static bool go_by_links(struct product *product)
{
    struct slot_mark mark;
    char current[65], previous[65];

    (void)slot_link(product->dir, "current", current, NULL);
    (void)slot_link(product->dir, "previous", previous, NULL);
    if (!*previous || strcmp(current, previous) == 0 ||
        slot_verify(product->dir, previous, NULL) < 0)
        return false;
    if (*current && slot_mark_read(product->dir, current, &mark) == 0 &&
        slot_verify(product->dir, current, NULL) == 0)
        return false;
    journal_reset(&product->journal);
    memcpy(product->journal.release, current, sizeof(current));
    memcpy(product->journal.previous, previous, sizeof(previous));
    product->journal.arm = TRIAL_RELEASE;
    revert(product, "failed", "journal-damaged", false);
    return true;
}

/* A copy is kept for people. The damaged file itself stays until a whole record takes its place: a
 * cut in between must find the damage again. */
static void recover_damaged(struct product *product, const char *why)
{
    _cleanup_free_ char *kept = path_join(product->dir, "journal.damaged");
    _cleanup_buf_ struct buf text = BUF_INIT;
    struct error error = ERROR_INIT;

    log_error("journal-damaged", "%s; kept as %s, goes by the links", why, kept);
    if (file_read(AT_FDCWD, product->journal_path, 1024 * 1024, &text, &error) < 0 ||
        file_write(AT_FDCWD, kept, text.data ? text.data : "", text.len, 0600, &error) < 0)
        log_warning("journal-damaged", "%s", error.text);
    journal_reset(&product->journal);
    if (!go_by_links(product) && product_set(product, STATE_IDLE, &error) < 0)
        log_error("journal", "%s", error.text);
    (void)pthread_mutex_lock(&product->agent->lock);
    (void)snprintf(product->blocked, sizeof(product->blocked), "journal-damaged");
    (void)pthread_mutex_unlock(&product->agent->lock);
}

/* A cut between the two links of an activation or a first use. */
static void repair_current(struct product *product)
{
    struct error error = ERROR_INIT;
    char current[65], previous[65];

    if (slot_link(product->dir, "current", current, &error) == 0 &&
        (!*current || slot_exists(product->dir, current)))
        return;
    log_error("current-damaged", "%s: %s", product->config->name,
              error.text[0] ? error.text : "current names a slot that is not there");
    if (slot_link(product->dir, "previous", previous, NULL) == 0 &&
        slot_verify(product->dir, previous, NULL) == 0) {
        if (slot_set_link(product->dir, "current", previous, &error) < 0)
            log_error("current-damaged", "%s", error.text);
    }
}

void product_recover(struct product *product)
{
    struct journal *journal = &product->journal;
    struct error error = ERROR_INIT;
    bool rebooted;
    int r = journal_load(product->journal_path, journal, &error);

    adopt_look_after(product); /* a folder that an upgrade made damages no slot */
    if (r < 0 && r != -ENOENT) {
        recover_damaged(product, error.text);
        rebooted = false;
    } else if (r == -ENOENT) {
        rebooted = false;
        if (go_by_links(product)) /* a first use has no `previous` yet */
            log_error("journal-missing", "%s: there is none, though a trial was on",
                      product->config->name);
    } else {
        rebooted = *journal->boot && strcmp(journal->boot, product->agent->boot) != 0;
    }
    if (rebooted && trial_state_holds_trial(journal->state) && journal->state != STATE_ASKED)
        journal->boots++;
    switch (journal->state) {
    case STATE_MARKED:
        revert(product, "failed", cause(product, rebooted), true);
        break;
    case STATE_ACTIVE:
    case STATE_SOAKING:
        revert(product, "failed", cause(product, rebooted), false);
        break;
    case STATE_INTERRUPTED:
        recover_interrupted(product, rebooted);
        break;
    case STATE_REPORTED:
        recover_reported(product, rebooted);
        break;
    default:
        break;
    }
    repair_current(product);
    product_show(product);
    if (journal->state == STATE_REVERTING)
        (void)revert_walk(product); /* what fails is tried again by the product's thread */
    product_show(product);
}
