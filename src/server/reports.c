#include "server/engine-internal.h"

#include <errno.h>
#include <string.h>

enum reported {
    REPORT_HEALTHY,
    REPORT_FAILED,
    REPORT_DECLINED,
    REPORT_INTERRUPTED,
    REPORT_REGRESSED,
    REPORT_REVERTED,
};
static const char *const reported_names[] = {"healthy",     "failed",    "declined",
                                             "interrupted", "regressed", "reverted"};

struct report {
    struct engine *engine;
    struct engine_request *request;
    struct device *device;
    struct permit *permit; /* a copy: the open one may end while the event is applied */
    enum reported outcome;
    const char *reason;
};

static bool halted(const struct permit *permit)
{
    return permit->rollout->release->halted;
}

static const char *answer_word(const struct permit *permit, enum reported outcome)
{
    if (permit->arm == PERMIT_PLACEBO)
        return "confirm";
    switch (outcome) {
    case REPORT_HEALTHY:
        return permit->arm == PERMIT_REVERT || halted(permit) ? "revert" : "confirm";
    case REPORT_INTERRUPTED:
        return halted(permit) ? "revert" : "wait";
    default:
        return "revert";
    }
}

static void seal_answer(const struct report *report)
{
    answer_sealed(report->engine, report->request, CONTEXT_ANSWER,
                  json_pack("{s:s, s:s, s:s, s:s, s:s?, s:I}", "answer",
                            answer_word(report->permit, report->outcome), "device",
                            report->device->id, "permit", report->permit->id, "outcome",
                            reported_names[report->outcome], "reason", report->reason, "at",
                            (json_int_t)engine_wall_ms(report->engine)));
}

static int outcome_of(const json_t *value)
{
    const char *name = json_string_value(json_object_get(value, "outcome"));

    for (size_t i = 0; name && i < ARRAY_SIZE(reported_names); i++)
        if (strcmp(name, reported_names[i]) == 0)
            return (int)i;
    return -1;
}

void report_answer_again(struct engine *engine, struct engine_request *request,
                         const struct permit *permit, const char *stored)
{
    struct report report = {
        .engine = engine,
        .request = request,
        .device = permit->device,
        .permit = (struct permit *)(uintptr_t)permit,
        .reason = json_string_value(json_object_get(request->value, "reason")),
    };
    int outcome = outcome_of(request->value);

    if (outcome >= 0 && permit->rollout && permit->arm != PERMIT_PLACEBO && halted(permit)) {
        report.outcome = (enum reported)outcome;
        seal_answer(&report);
        return;
    }
    request->status = 200;
    request->text = xstrdup(stored);
}

static uint64_t *seq_of(struct permit *permit, enum reported outcome)
{
    switch (outcome) {
    case REPORT_INTERRUPTED:
        return &permit->interrupted_seq;
    case REPORT_REGRESSED:
        return &permit->regressed_seq;
    case REPORT_REVERTED:
        return &permit->reverted_seq;
    default:
        return &permit->outcome_seq;
    }
}

static bool is_final(enum reported outcome)
{
    return outcome == REPORT_HEALTHY || outcome == REPORT_FAILED || outcome == REPORT_DECLINED;
}

/* An interruption shows twice: before it, if there was time, and from the next boot, to ask whether
 * to go on. Only the first of the two counts. */
static bool is_new_interruption(struct permit *permit, const char *boot)
{
    bool other = boot && strcmp(boot, permit->boot) != 0;
    bool fresh = permit->interrupted_seq == 0 || permit->asked;

    if (!fresh && other)
        permit->asked = true;
    else if (fresh)
        permit->asked = false;
    if (boot) {
        size_t len = strnlen(boot, sizeof permit->boot - 1);
        memcpy(permit->boot, boot, len);
        permit->boot[len] = '\0';
    }
    return fresh;
}

/* Back to the tables and the store. */
static void keep_permit(const struct report *report, bool settles)
{
    struct engine *engine = report->engine;
    struct permit *open = table_get(&engine->permits, report->permit->id);

    if (settles && report->permit->state == PERMIT_OPEN)
        report->permit->state = PERMIT_SETTLED;
    permit_put(engine, report->permit);
    if (!open)
        return;
    if (report->permit->state != PERMIT_OPEN) {
        permit_close(engine, open);
        return;
    }
    pthread_mutex_lock(&engine->lock);
    *open = *report->permit;
    pthread_mutex_unlock(&engine->lock);
}

/* "probe worker, signal 11", for people. */
static void describe(const struct report *report, struct buf *ret)
{
    const json_t *value = report->request->value;
    const char *probe = json_string_value(json_object_get(value, "probe"));
    json_t *signal = json_object_get(value, "signal");
    json_t *status = json_object_get(value, "exit_status");

    buf_add_str(ret, report->reason ? report->reason : reported_names[report->outcome]);
    if (probe)
        buf_addf(ret, ", probe %s", probe);
    if (json_is_integer(signal))
        buf_addf(ret, ", signal %lld", (long long)json_integer_value(signal));
    if (json_is_integer(status))
        buf_addf(ret, ", exit status %lld", (long long)json_integer_value(status));
}

static void log_outcome(const struct report *report, bool late)
{
    _cleanup_buf_ struct buf why = BUF_INIT;

    if (report->outcome == REPORT_HEALTHY && !late)
        return;
    if (report->permit->arm == PERMIT_PLACEBO && report->outcome != REPORT_FAILED)
        return;
    describe(report, &why);
    const char *outcome = reported_names[report->outcome];
    bool told = strcmp(why.data, outcome) == 0;
    engine_log(report->engine, late ? "report-late" : "device-report", NULL,
               report->permit->rollout->id, report->device->id, "Device %.12s… (%s): %s%s%s%s",
               report->device->id, permit_arm_names[report->permit->arm], outcome, told ? "" : ": ",
               told ? "" : why.data,
               late ? ". It came after the deadline and changes no evidence" : "");
}

/* A permit whose deadline has passed, of a device that has another one by now: an event names the
 * device only, so the rollout would take the outcome for that of the new permit. */
static bool is_of_the_past(const struct report *report)
{
    const struct permit *open = report->device->open;

    return report->permit->state != PERMIT_OPEN && open &&
           open->rollout == report->permit->rollout && strcmp(open->id, report->permit->id) != 0;
}

/* To the rollout; true when it is stored. The permit's copy is brought up to date first, since a
 * deadline may end the open one. */
static bool fold(const struct report *report, enum rollout_event_type type,
                 enum rollout_outcome outcome)
{
    struct permit *permit = report->permit;
    struct event_line line = {.event = {.type = type, .outcome = outcome},
                              .device = report->device->id,
                              .arm = type == EVENT_OUTCOME ? permit_arm_names[permit->arm] : NULL};
    _cleanup_buf_ struct buf why = BUF_INIT;
    struct error error;
    int r;

    if (type == EVENT_OUTCOME && is_of_the_past(report)) {
        log_outcome(report, true);
        return true;
    }
    if (report->outcome == REPORT_FAILED || report->outcome == REPORT_REGRESSED) {
        describe(report, &why);
        line.why = why.data;
    }
    /* A trial that obeys a halt is no failure of its own: the mark tells it apart. */
    if (type == EVENT_OUTCOME && halted(permit) &&
        (report->outcome == REPORT_REVERTED ||
         (report->reason && strcmp(report->reason, "halted") == 0)))
        line.event.reason = "halted";
    r = fold_event(report->engine, permit->rollout, &line, &error);
    if (report->engine->failure < 0)
        return false;
    if (type == EVENT_OUTCOME && permit->state == PERMIT_OPEN &&
        !table_get(&report->engine->permits, permit->id))
        permit->state = PERMIT_SILENT;
    if (r == 0 || r == -ETIME || r == -ENOENT || r == -EALREADY) {
        log_outcome(report, r == -ETIME);
        return true;
    }
    answer_refuse(report->request, 409, "outcome-refused", "The rollout did not take this outcome",
                  "Report the outcome again with a new seq.", "%s", error.text);
    return false;
}

static void accept_report(const struct report *report, bool settles)
{
    *seq_of(report->permit, report->outcome) = report->request->seq;
    seal_answer(report);
    device_evidence(report->engine, report->request, report->device, "report");
    keep_permit(report, settles);
}

static void take_final(const struct report *report)
{
    static const enum rollout_outcome outcomes[] = {
        [REPORT_HEALTHY] = OUTCOME_HEALTHY,
        [REPORT_FAILED] = OUTCOME_FAILED,
        [REPORT_DECLINED] = OUTCOME_DECLINED,
    };
    struct permit *permit = report->permit;
    size_t len = strlen(reported_names[report->outcome]);

    if (permit->arm != PERMIT_REVERT && !fold(report, EVENT_OUTCOME, outcomes[report->outcome]))
        return;
    memcpy(permit->outcome, reported_names[report->outcome], len + 1);
    accept_report(report, true);
}

static void take_interrupted(const struct report *report)
{
    const char *boot = json_string_value(json_object_get(report->request->value, "boot"));

    if (report->permit->state == PERMIT_OPEN && report->permit->arm != PERMIT_REVERT &&
        is_new_interruption(report->permit, boot) &&
        !fold(report, EVENT_OUTCOME, OUTCOME_INTERRUPTED))
        return;
    accept_report(report, false);
}

static void take_regressed(const struct report *report)
{
    if (strcmp(report->permit->outcome, "healthy") != 0) {
        answer_refuse(report->request, 409, "outcome-order", "`regressed` comes after `healthy`",
                      "Report `failed` for a trial that was not confirmed.", "permit %s has %s",
                      report->permit->id,
                      report->permit->outcome[0] ? report->permit->outcome : "no outcome yet");
        return;
    }
    if (report->permit->arm == PERMIT_RELEASE && !fold(report, EVENT_OUTCOME, OUTCOME_REGRESSED))
        return;
    accept_report(report, false);
}

/* A trial that goes back before it was confirmed has an outcome by that: it failed, or obeyed a
 * halt. */
static void take_reverted(const struct report *report)
{
    struct permit *permit = report->permit;
    bool trial = permit->state == PERMIT_OPEN && permit->arm != PERMIT_REVERT;

    if (trial) {
        if (!fold(report, EVENT_OUTCOME, OUTCOME_FAILED))
            return;
        memcpy(permit->outcome, "failed", sizeof "failed");
        permit->outcome_seq = report->request->seq;
    }
    if (permit->arm != PERMIT_PLACEBO && !fold(report, EVENT_REVERTED, 0))
        return;
    accept_report(report, true);
}

static void same_again(const struct report *report)
{
    _cleanup_free_ char *stored =
        stored_answer(report->engine, report->device, *seq_of(report->permit, report->outcome));

    if (!stored)
        return;
    report_answer_again(report->engine, report->request, report->permit, stored);
    device_evidence(report->engine, report->request, report->device, "report");
}

static bool check(const struct report *report)
{
    const struct permit *permit = report->permit;
    struct engine_request *request = report->request;
    const char *release = json_string_value(json_object_get(request->value, "release"));

    if (permit->device != report->device) {
        answer_refuse(request, 403, "permit-of-another", "The permit belongs to another device",
                      "Report only permits that this device was given.",
                      "permit %s belongs to device %.12s…, not to %.12s…", permit->id,
                      permit->device->id, report->device->id);
        return false;
    }
    if (strcmp(release, permit->rollout->release->id) != 0) {
        answer_refuse(request, 400, "member-invalid", "The permit is for another release",
                      "Send the release that the permit names.",
                      "report.release is %.12s…, permit %s is for %.12s…", release, permit->id,
                      permit->rollout->release->id);
        return false;
    }
    if (!report->reason &&
        (report->outcome == REPORT_FAILED || report->outcome == REPORT_DECLINED)) {
        answer_refuse(request, 400, "member-missing", "A reason is needed",
                      "Say why in `reason`, with a code such as `probe` or `stale`.",
                      "report.reason is missing for the outcome %s",
                      reported_names[report->outcome]);
        return false;
    }
    return true;
}

static void take(const struct report *report)
{
    struct permit *permit = report->permit;
    bool repeated = *seq_of(permit, report->outcome) != 0;

    if (is_final(report->outcome) && permit->outcome[0]) {
        if (strcmp(permit->outcome, reported_names[report->outcome]) == 0)
            same_again(report);
        else
            answer_refuse(report->request, 409, "outcome-settled",
                          "A different outcome was accepted before",
                          "Nothing is left to report for this permit.",
                          "permit %s is settled as %s; it can't be %s", permit->id, permit->outcome,
                          reported_names[report->outcome]);
        return;
    }
    switch (report->outcome) {
    case REPORT_INTERRUPTED:
        take_interrupted(report);
        break;
    case REPORT_REGRESSED:
        if (repeated)
            same_again(report);
        else
            take_regressed(report);
        break;
    case REPORT_REVERTED:
        if (repeated)
            same_again(report);
        else
            take_reverted(report);
        break;
    default:
        take_final(report);
    }
}

void call_report(struct engine *engine, struct engine_request *request)
{
    const char *id = json_string_value(json_object_get(request->value, "permit"));
    int outcome = outcome_of(request->value);
    struct report report = {
        .engine = engine,
        .request = request,
        .device = device_asking(engine, request),
        .outcome = (enum reported)outcome,
        .reason = json_string_value(json_object_get(request->value, "reason")),
    };

    if (!report.device)
        return;
    report.permit = permit_find(engine, id);
    if (engine->failure < 0 || outcome < 0) {
        free(report.permit);
        return;
    }
    if (!report.permit || report.permit->arm == PERMIT_NONE)
        answer_refuse(request, 404, "permit-unknown", "This permit is not known",
                      "Drop it, and ask again with a new nonce.", "no permit is named %s", id);
    else if (check(&report))
        take(&report);
    free(report.permit);
}
