#include "server/engine-internal.h"

#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#define SILENCE "silence: no report by the deadline"

/* Decisions of one event. Their strings live until the rollout is called again. */
struct decided {
    struct server_rollout *rollout;
    struct rollout_decision *list;
    char **texts;
    size_t count, cap;
};

static const char *device_name(const struct server_rollout *rollout, uint32_t number)
{
    const struct device *device = rollout_device_of(rollout, number);

    return device ? device->id : NULL;
}

static void note(void *user, const struct rollout_decision *decision)
{
    struct decided *decided = user;

    if (decided->count == decided->cap) {
        decided->cap = decided->cap ? 2 * decided->cap : 8;
        decided->list = xrealloc(decided->list, decided->cap, sizeof *decided->list);
        decided->texts = xrealloc(decided->texts, decided->cap, sizeof *decided->texts);
    }
    decided->list[decided->count] = *decision;
    decided->texts[decided->count++] =
        decision_text(decision, device_name(decided->rollout, decision->device));
}

static void decided_free(struct decided *decided)
{
    for (size_t i = 0; i < decided->count; i++)
        free(decided->texts[i]);
    free(decided->texts);
    free(decided->list);
}

static void map_device(struct server_rollout *rollout, struct device *device, uint32_t number)
{
    if (device->index >= rollout->number_cap) {
        size_t cap = rollout->number_cap ? rollout->number_cap : 64;

        while (cap <= device->index)
            cap *= 2;
        rollout->number_of = xrealloc(rollout->number_of, cap, sizeof *rollout->number_of);
        for (size_t i = rollout->number_cap; i < cap; i++)
            rollout->number_of[i] = UINT32_MAX;
        rollout->number_cap = cap;
    }
    if (number >= rollout->device_cap) {
        size_t cap = rollout->device_cap ? rollout->device_cap : 64;

        while (cap <= number)
            cap *= 2;
        rollout->devices = xrealloc(rollout->devices, cap, sizeof *rollout->devices);
        rollout->device_cap = cap;
    }
    while (rollout->device_count <= number)
        rollout->devices[rollout->device_count++] = NULL;
    rollout->number_of[device->index] = number;
    rollout->devices[number] = device;
}

static uint32_t number_of(const struct server_rollout *rollout, const struct device *device)
{
    return device->index < rollout->number_cap ? rollout->number_of[device->index] : UINT32_MAX;
}

/* Fills line->event.device; a begin makes the device known or brings it up to date. */
static int name_device(struct engine *engine, struct server_rollout *rollout,
                       struct event_line *line, struct error *error)
{
    _cleanup_free_ struct rollout_attribute *attributes = NULL;
    struct rollout_device as;
    struct device *device;
    uint32_t number;

    line->event.device = UINT32_MAX;
    if (!line->device)
        return 0;
    device = device_find(engine, line->device);
    if (!device)
        return error_set(error, -ENOENT, "device %s is not enrolled", line->device);
    number = number_of(rollout, device);
    if (line->event.type == EVENT_BEGIN) {
        as = event_device(line, &attributes);
        if (number == UINT32_MAX) {
            number = rollout_device_add(rollout->fold, &as);
            map_device(rollout, device, number);
        } else {
            rollout_device_update(rollout->fold, number, &as);
        }
    }
    if (number == UINT32_MAX)
        return error_set(error, -ENOENT, "device %s never began rollout %s", line->device,
                         rollout->id);
    line->event.device = number;
    return 0;
}

static void keep_line(struct engine *engine, const struct server_rollout *rollout, double t,
                      const char *text, bool decision)
{
    struct error error;

    if (engine->failure == 0)
        engine_keep(engine,
                    engine->store->does->event_add(
                        engine->store,
                        &(struct store_event){
                            .rollout = rollout->id, .t = t, .json = text, .decision = decision},
                        &error),
                    &error);
}

static void device_is_silent(struct engine *engine, struct server_rollout *rollout,
                             const struct rollout_decision *decision)
{
    struct device *device = rollout_device_of(rollout, decision->device);
    struct permit *permit = device ? device->open : NULL;

    if (!permit || permit->rollout != rollout)
        return;
    permit->state = PERMIT_SILENT;
    permit_put(engine, permit);
    engine_log(engine, "device-silent", NULL, rollout->id, device->id,
               "Device %.12s… did not report by its deadline: its %s counts as failed", device->id,
               permit_arm_names[permit->arm]);
    permit_close(engine, permit);
}

static void keep_copy(struct buf *buf, const char *text)
{
    buf_clear(buf);
    buf_add_str(buf, text);
}

static void count_cause(struct server_rollout *rollout, const char *why, const char *device,
                        enum rollout_arm arm, double t)
{
    struct cause *cause = rollout->causes;
    size_t i = 0;

    while (i < rollout->cause_count &&
           (rollout->causes[i].arm != arm || strcmp(rollout->causes[i].why, why) != 0))
        i++;
    if (i == CAUSES_MAX)
        return;
    if (i == rollout->cause_count) {
        rollout->causes = xrealloc(cause, i + 1, sizeof *cause);
        cause = &rollout->causes[rollout->cause_count++];
        *cause = (struct cause){.why = xstrdup(why), .arm = arm, .first_t = t};
        if (device)
            memcpy(cause->first_device, device, strnlen(device, sizeof cause->first_device - 1));
    }
    rollout->causes[i].count++;
}

static void tell_failure(struct server_rollout *rollout, uint32_t number, const char *why,
                         enum rollout_arm arm, double t)
{
    const struct device *device = rollout_device_of(rollout, number);

    if (device)
        story_failure(&rollout->story, t, device->id, device->organisation, why, arm);
}

/* What is remembered beside the fold, of stored decisions as of new ones. */
static void remember(struct server_rollout *rollout, const struct rollout_decision *decision,
                     const char *text)
{
    if (decision->type == DECISION_HALT) {
        keep_copy(&rollout->halt_decision, text);
        rollout->halted_at = decision->t;
    }
    if (decision->type == DECISION_PAUSE || decision->type == DECISION_RESUME)
        keep_copy(&rollout->pause_decision, text);
    if (decision->type == DECISION_SILENT) {
        count_cause(rollout, SILENCE, device_name(rollout, decision->device), decision->arm,
                    decision->t);
        tell_failure(rollout, decision->device, SILENCE, decision->arm, decision->t);
    }
    story_decision(&rollout->story, rollout->fold, decision);
}

static void mark_obeyed(struct server_rollout *rollout, uint32_t number)
{
    if (number >= rollout->obeys_cap) {
        size_t cap = rollout->device_cap > number ? rollout->device_cap : (size_t)number + 1;

        rollout->obeys = xrealloc(rollout->obeys, cap, sizeof *rollout->obeys);
        memset(rollout->obeys + rollout->obeys_cap, 0, cap - rollout->obeys_cap);
        rollout->obeys_cap = cap;
    }
    rollout->obeys[number] = true;
    rollout->obeyed++;
}

/* What the view shows beside the fold's own counts. */
static void tally(struct server_rollout *rollout, const struct event_line *line)
{
    const struct rollout_event *event = &line->event;
    bool after_halt = rollout->halted_at <= event->t; /* false while it is NAN */
    bool release = line->arm && strcmp(line->arm, "release") == 0;
    bool obeys = event->reason && strcmp(event->reason, "halted") == 0;

    if (event->type == EVENT_OUTCOME && obeys)
        mark_obeyed(rollout, event->device);
    if (event->type == EVENT_OUTCOME && !obeys &&
        (event->outcome == OUTCOME_FAILED || event->outcome == OUTCOME_REGRESSED)) {
        const char *why = line->why ? line->why : "no cause given";
        enum rollout_arm arm = release ? ARM_RELEASE : ARM_PLACEBO;

        count_cause(rollout, why, line->device, arm, event->t);
        tell_failure(rollout, event->device, why, arm, event->t);
    }
    if (after_halt && (event->type == EVENT_REVERTED || (event->type == EVENT_OUTCOME && release)))
        rollout->last_reverted_at = event->t;
    if (event->type == EVENT_APPROVE)
        rollout->approvals++;
}

static const char *alarm_words(const struct rollout_because *because)
{
    switch (because->alarm) {
    case ALARM_PROVEN_HARM:
        return "the coin tosses prove more harm than the budget";
    case ALARM_ABSOLUTE:
        return "it fails more often than the policy tolerates";
    case ALARM_ORGANISATION:
        return "one organisation's devices alone speak against it";
    case ALARM_ENVIRONMENT:
        return "the placebos may be failing in the same way";
    case ALARM_PERSON:
        return "a person said so";
    default:
        return "no reason is given";
    }
}

static void act(struct engine *engine, struct server_rollout *rollout,
                const struct rollout_decision *decision, uint32_t asked)
{
    const struct rollout_because *because = &decision->because;
    const char *by = because->alarm == ALARM_PERSON ? because->by : NULL;
    const char *why =
        because->alarm == ALARM_PERSON && because->reason ? because->reason : alarm_words(because);

    switch (decision->type) {
    case DECISION_PERMIT:
    case DECISION_PLACEBO:
        rollout->grants++;
        /* fall through */
    case DECISION_WAIT:
    case DECISION_NO:
    case DECISION_REVERT:
        if (decision->device == asked) {
            rollout->answer = *decision;
            rollout->answered = true;
        }
        return;
    case DECISION_SILENT:
        device_is_silent(engine, rollout, decision);
        return;
    case DECISION_HALT:
        halt_add(engine, rollout, decision);
        engine_log(engine, "rollout-halted", by, rollout->id, NULL, "Halted: %s", why);
        break;
    case DECISION_PAUSE:
        engine_log(engine, "rollout-paused", by, rollout->id, NULL, "Paused: %s", why);
        break;
    case DECISION_RESUME:
        engine_log(engine, "rollout-resumed", by, rollout->id, NULL, "Goes on: %s",
                   because->reason ? because->reason : "the reason for the pause is gone");
        break;
    case DECISION_OPEN:
        engine_log(engine, "stage-opened", NULL, rollout->id, NULL, "Stage %s is open",
                   decision->stage ? decision->stage : "");
        break;
    case DECISION_DONE:
        engine_log(engine, "rollout-done", NULL, rollout->id, NULL,
                   "Done: every device of it has settled");
        break;
    }
    engine->plans_changed = true;
}

static int apply(struct engine *engine, struct server_rollout *rollout, struct event_line *line,
                 bool keep_undecided, struct error *error)
{
    struct decided decided = {.rollout = rollout};
    int r;

    story_figures(&rollout->story, rollout->fold, rollout->obeyed, line->event.t);
    r = rollout_apply(rollout->fold, &line->event, note, &decided, error);

    if ((r == 0 || r == -ETIME) && (keep_undecided || decided.count > 0)) {
        _cleanup_free_ char *text = event_text(line);

        keep_line(engine, rollout, line->event.t, text, false);
        for (size_t i = 0; i < decided.count; i++) {
            keep_line(engine, rollout, decided.list[i].t, decided.texts[i], true);
            remember(rollout, &decided.list[i], decided.texts[i]);
            act(engine, rollout, &decided.list[i], line->event.device);
        }
        engine->state_changed = true;
    }
    decided_free(&decided);
    return r;
}

void fold_tick(struct engine *engine, struct server_rollout *rollout)
{
    struct event_line line = {
        .event = {.type = EVENT_TICK, .t = (double)engine_ms(engine) / 1000, .device = UINT32_MAX}};
    struct error error;

    if (rollout_next_tick(rollout->fold) > line.event.t)
        return;
    if (apply(engine, rollout, &line, false, &error) < 0)
        log_error("tick-refused", "rollout %s: %s", rollout->id, error.text);
}

int fold_event(struct engine *engine, struct server_rollout *rollout, struct event_line *line,
               struct error *error)
{
    int r;

    rollout->answered = false;
    r = name_device(engine, rollout, line, error);
    if (r < 0)
        return r;
    line->event.t = (double)engine_ms(engine) / 1000;
    if (line->event.type == EVENT_OUTAGE)
        line->event.t = line->event.to;
    if (line->event.type == EVENT_BEGIN)
        rollout->begins++;
    r = apply(engine, rollout, line, true, error);
    if (r == 0)
        tally(rollout, line);
    return r;
}

/* From the store */

struct refold {
    struct engine *engine;
    struct server_rollout *rollout;
    struct decided decided; /* of the last event */
    size_t compared;
    uint64_t mismatches;
    struct error mismatch;
    struct error *error;
};

static void mismatched(struct refold *refold, int64_t number, const char *stored, const char *now)
{
    if (refold->mismatches++ == 0)
        error_set(&refold->mismatch, -EUCLEAN,
                  "event %" PRId64 ": stored %.200s, recomputed %.200s", number, stored, now);
}

static void finish_event(struct refold *refold, int64_t number)
{
    while (refold->compared < refold->decided.count)
        mismatched(refold, number, "nothing", refold->decided.texts[refold->compared++]);
    decided_free(&refold->decided);
    refold->decided = (struct decided){.rollout = refold->rollout};
    refold->compared = 0;
}

static int refold_event(struct refold *refold, int64_t number, const json_t *value)
{
    struct server_rollout *rollout = refold->rollout;
    struct event_line line;
    int r = event_read(value, &line, refold->error);

    if (r < 0 || (r = name_device(refold->engine, rollout, &line, refold->error)) < 0)
        return error_prefix(refold->error, r, "event %" PRId64, number);
    story_figures(&rollout->story, rollout->fold, rollout->obeyed, line.event.t);
    r = rollout_apply(rollout->fold, &line.event, note, &refold->decided, refold->error);
    if (r < 0 && r != -ETIME)
        mismatched(refold, number, "an event that was applied", refold->error->text);
    for (size_t i = 0; i < refold->decided.count; i++)
        remember(rollout, &refold->decided.list[i], refold->decided.texts[i]);
    if (r == 0)
        tally(rollout, &line);
    return 0;
}

static int refold_start(struct refold *refold, const json_t *value)
{
    struct server_rollout *rollout = refold->rollout;
    int r = start_read(value, &rollout->start, refold->error);

    if (r < 0)
        return r;
    return start_rollout(&rollout->start, &rollout->policy, &rollout->fold, refold->error);
}

static int refold_row(void *user, const struct store_event *row)
{
    struct refold *refold = user;
    _cleanup_json_ json_t *value = NULL;
    int r;

    if (row->decision) {
        const char *now = refold->compared < refold->decided.count
                              ? refold->decided.texts[refold->compared++]
                              : "nothing";
        if (!decision_same(row->json, now))
            mismatched(refold, row->number, row->json, now);
        return 0;
    }
    finish_event(refold, row->number);
    r = json_parse(row->json, strlen(row->json), &value, refold->error);
    if (r < 0)
        return error_prefix(refold->error, r, "event %" PRId64, row->number);
    return refold->rollout->fold ? refold_event(refold, row->number, value)
                                 : refold_start(refold, value);
}

static struct server_rollout *rollout_make(struct engine *engine, const char *id,
                                           struct release *release)
{
    struct server_rollout *rollout = xcalloc(1, sizeof *rollout);

    rollout->id = xstrdup(id);
    rollout->release = release;
    rollout->last_reverted_at = rollout->halted_at = NAN;
    rollout->admit = 1;
    engine->rollout_list =
        xrealloc(engine->rollout_list, engine->rollout_count + 1, sizeof *engine->rollout_list);
    engine->rollout_list[engine->rollout_count++] = rollout;
    table_put(&engine->rollouts, rollout);
    plan_need(engine, release->manifest.product, release->manifest.channel);
    return rollout;
}

int fold_load(struct engine *engine, const struct store_rollout *row, struct error *error)
{
    struct release *release = release_find(engine, row->release);
    struct server_rollout *rollout;
    struct refold refold = {.engine = engine, .error = error};
    int r;

    if (!release)
        return error_set(error, -EUCLEAN, "rollout %s is of release %s, which is not in the store",
                         row->id, row->release);
    rollout = rollout_make(engine, row->id, release);
    rollout->at_ms = row->at_ms;
    rollout->by = xstrdup(row->by);
    refold.rollout = refold.decided.rollout = rollout;
    r = engine->store->does->events(engine->store, row->id, 0, 0, refold_row, &refold, error);
    finish_event(&refold, -1);
    if (r == 0 && !rollout->fold)
        r = error_set(error, -EUCLEAN, "no start event");
    if (r < 0)
        return error_prefix(error, r, "rollout %s", row->id);
    if (refold.mismatches > 0) {
        log_error("refold-mismatch",
                  "rollout %s: %" PRIu64 " decisions differ from the stored ones. First: %s",
                  row->id, refold.mismatches, refold.mismatch.text);
        rollout->mismatch = xstrdup(refold.mismatch.text);
    }
    return 0;
}

void fold_start(struct engine *engine, struct release *release, struct start_line *start,
                const char *by, int64_t at_ms, struct policy *policy, struct rollout *fold)
{
    struct server_rollout *rollout = rollout_make(engine, start->rollout, release);
    _cleanup_free_ char *text = start_text(start);

    rollout->start = *start;
    rollout->policy = *policy;
    rollout->fold = fold;
    rollout->by = xstrdup(by);
    rollout->at_ms = at_ms;
    keep_line(engine, rollout, start->t, text, false);
    engine->plans_changed = engine->state_changed = true;
}

struct server_rollout *fold_rollout(struct engine *engine, const char *id)
{
    return table_get(&engine->rollouts, id);
}

void server_rollout_free(struct server_rollout *rollout)
{
    if (rollout->fold) {
        rollout_free(rollout->fold);
        policy_free(&rollout->policy);
    }
    start_free(&rollout->start);
    for (size_t i = 0; i < rollout->cause_count; i++)
        free(rollout->causes[i].why);
    free(rollout->causes);
    story_free(&rollout->story);
    free(rollout->obeys);
    buf_free(&rollout->halt_decision);
    buf_free(&rollout->pause_decision);
    free(rollout->number_of);
    free(rollout->devices);
    free(rollout->mismatch);
    free(rollout->by);
    free(rollout->id);
    free(rollout);
}
