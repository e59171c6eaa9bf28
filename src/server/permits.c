#include "server/engine-internal.h"

#include "base/random.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

const char *const permit_arm_names[] = {
    [PERMIT_RELEASE] = "release",
    [PERMIT_PLACEBO] = "placebo",
    [PERMIT_REVERT] = "revert",
    [PERMIT_NONE] = "no",
};

void permit_put(struct engine *engine, const struct permit *permit)
{
    struct error error;

    if (engine->failure < 0)
        return;
    engine_keep(
        engine,
        engine->store->does->permit_put(engine->store,
                                        &(struct store_permit){
                                            .id = permit->id,
                                            .nonce = permit->nonce,
                                            .device = (int64_t)permit->device->index + 1,
                                            .rollout = permit->rollout ? permit->rollout->id : "",
                                            .arm = permit_arm_names[permit->arm],
                                            .t = permit->t,
                                            .deadline = permit->deadline,
                                            .begin_seq = permit->begin_seq,
                                            .state = permit->state,
                                            .outcome = permit->outcome[0] ? permit->outcome : NULL,
                                            .outcome_seq = permit->outcome_seq,
                                            .interrupted_seq = permit->interrupted_seq,
                                            .regressed_seq = permit->regressed_seq,
                                            .reverted_seq = permit->reverted_seq,
                                            .boot = permit->boot[0] ? permit->boot : NULL,
                                            .asked = permit->asked,
                                        },
                                        &error),
        &error);
}

static void copy_text(char *ret, size_t size, const char *text)
{
    size_t len = text ? strnlen(text, size - 1) : 0;

    if (len > 0)
        memcpy(ret, text, len);
    ret[len] = '\0';
}

struct permit *permit_from_row(struct engine *engine, const struct store_permit *row)
{
    struct server_rollout *rollout = fold_rollout(engine, row->rollout);
    struct permit *permit;

    if (row->device < 1 || (size_t)row->device > engine->device_count ||
        (!rollout && row->rollout[0]))
        return NULL;
    permit = xcalloc(1, sizeof *permit);
    copy_text(permit->id, sizeof permit->id, row->id);
    copy_text(permit->nonce, sizeof permit->nonce, row->nonce);
    permit->device = engine->device_list[row->device - 1];
    permit->rollout = rollout;
    permit->arm = PERMIT_NONE;
    for (size_t i = 0; i < PERMIT_NONE; i++)
        if (strcmp(row->arm, permit_arm_names[i]) == 0)
            permit->arm = (enum permit_arm)i;
    permit->t = row->t;
    permit->deadline = row->deadline;
    permit->begin_seq = row->begin_seq;
    permit->state = (enum store_permit_state)row->state;
    copy_text(permit->outcome, sizeof permit->outcome, row->outcome);
    permit->outcome_seq = row->outcome_seq;
    permit->interrupted_seq = row->interrupted_seq;
    permit->regressed_seq = row->regressed_seq;
    permit->reverted_seq = row->reverted_seq;
    copy_text(permit->boot, sizeof permit->boot, row->boot);
    permit->asked = row->asked;
    return permit;
}

struct found {
    struct engine *engine;
    struct permit *permit;
};

static int read_permit(void *user, const struct store_permit *row)
{
    struct found *found = user;

    found->permit = permit_from_row(found->engine, row);
    return 0;
}

static struct permit *look_up(struct engine *engine, const char *id, const char *nonce)
{
    struct found found = {engine, NULL};
    struct error error;
    int r = engine->store->does->permit(engine->store, id, nonce, read_permit, &found, &error);

    if (r < 0 && r != -ENOENT)
        engine_keep(engine, r, &error);
    return found.permit;
}

struct permit *permit_find(struct engine *engine, const char *id)
{
    const struct permit *open = table_get(&engine->permits, id);

    return open ? xmemdup(open, sizeof *open) : look_up(engine, id, NULL);
}

struct permit *permit_by_nonce(struct engine *engine, const char *nonce)
{
    return look_up(engine, NULL, nonce);
}

void permit_open(struct engine *engine, struct permit *permit)
{
    pthread_mutex_lock(&engine->lock);
    table_put(&engine->permits, permit);
    pthread_mutex_unlock(&engine->lock);
    if (permit->arm != PERMIT_REVERT)
        permit->device->open = permit;
}

void permit_close(struct engine *engine, struct permit *permit)
{
    pthread_mutex_lock(&engine->lock);
    table_remove(&engine->permits, permit->id);
    pthread_mutex_unlock(&engine->lock);
    if (permit->device->open == permit)
        permit->device->open = NULL;
    free(permit);
}

static int read_answer(void *user, const struct store_evidence *row)
{
    *(char **)user = xstrdup(row->answer);
    return 0;
}

char *stored_answer(struct engine *engine, const struct device *device, uint64_t seq)
{
    char *answer = NULL;
    struct error error;
    int r = engine->store->does->evidence(engine->store, (int64_t)device->index + 1, seq,
                                          read_answer, &answer, &error);

    if (r < 0)
        engine_keep(engine, r, &error);
    return answer;
}

/* Begins with the time, so that what is written together lies together in the store. */
static void draw_id(struct engine *engine, char ret[static 33])
{
    snprintf(ret, 13, "%012llx", (unsigned long long)engine_ms(engine) & 0xffffffffffff);
    random_hex(ret + 12, 10);
}

static bool halted(const struct server_rollout *rollout)
{
    return rollout && rollout->release->halted;
}

static void seal_no(struct engine *engine, struct engine_request *request, const char *reason,
                    const char *sentence)
{
    answer_sealed(engine, request, CONTEXT_PERMIT,
                  json_pack("{s:s, s:s, s:O, s:s, s:s}", "answer", "no", "device", request->device,
                            "nonce", json_object_get(request->value, "nonce"), "reason", reason,
                            "sentence", sentence));
}

void permit_answer_again(struct engine *engine, struct engine_request *request,
                         const struct permit *permit, const char *stored)
{
    if (permit->arm == PERMIT_RELEASE && halted(permit->rollout)) {
        seal_no(engine, request, rollout_reason_code(REASON_HALTED),
                rollout_reason_sentence(REASON_HALTED));
    } else if (permit->state == PERMIT_SILENT && permit->arm == PERMIT_RELEASE) {
        seal_no(engine, request, "permit-expired",
                "The permit's deadline has passed, so it may not be begun any more.");
    } else {
        request->status = 200;
        request->text = xstrdup(stored);
    }
}

/* A begin with a nonce that was answered before. */
static void again(struct engine *engine, struct engine_request *request, struct device *device,
                  const struct permit *permit)
{
    _cleanup_free_ char *stored = NULL;

    if (permit->device != device) {
        answer_refuse(request, 409, "nonce-of-another", "This nonce was used by another device",
                      "Draw 32 random bytes for every new begin.",
                      "nonce %.16s… belongs to device %.12s…", permit->nonce, permit->device->id);
        return;
    }
    stored = stored_answer(engine, device, permit->begin_seq);
    if (!stored)
        return;
    permit_answer_again(engine, request, permit, stored);
    device_evidence(engine, request, device, "begin");
}

/* The answer `no`, remembered by its nonce. */
static void answer_no(struct engine *engine, struct engine_request *request, struct device *device,
                      struct server_rollout *rollout, const char *reason, const char *sentence)
{
    struct permit permit = {.device = device,
                            .rollout = rollout,
                            .arm = PERMIT_NONE,
                            .t = (double)engine_ms(engine) / 1000,
                            .begin_seq = request->seq,
                            .state = PERMIT_SETTLED};

    draw_id(engine, permit.id);
    copy_text(permit.nonce, sizeof permit.nonce,
              json_string_value(json_object_get(request->value, "nonce")));
    seal_no(engine, request, reason, sentence);
    device_evidence(engine, request, device, "begin");
    permit_put(engine, &permit);
}

static void answer_wait(struct engine *engine, struct engine_request *request,
                        struct device *device, const char *reason, const char *sentence,
                        double seconds)
{
    seconds = fmax(0.1, seconds);
    request->retry_after = seconds;
    answer_sealed(engine, request, CONTEXT_PERMIT,
                  json_pack("{s:s, s:s, s:O, s:s, s:s, s:I}", "answer", "wait", "device",
                            request->device, "nonce", json_object_get(request->value, "nonce"),
                            "reason", reason, "sentence", sentence, "retry_after_ms",
                            (json_int_t)(seconds * 1000)));
    device_evidence(engine, request, device, "begin");
}

static void answer_permit(struct engine *engine, struct engine_request *request,
                          struct device *device, struct server_rollout *rollout,
                          enum permit_arm arm)
{
    const struct rollout_decision *decision = &rollout->answer;
    struct permit *permit = xcalloc(1, sizeof *permit);
    bool poll = leash_has_room(engine);
    json_t *value;

    draw_id(engine, permit->id);
    copy_text(permit->nonce, sizeof permit->nonce,
              json_string_value(json_object_get(request->value, "nonce")));
    permit->device = device;
    permit->rollout = rollout;
    permit->arm = arm;
    permit->t = decision->t;
    permit->deadline = decision->deadline;
    permit->begin_seq = request->seq;
    value = json_pack(
        "{s:s, s:s, s:s, s:O, s:O, s:O, s:s, s:s, s:o, s:I, s:I, s:I, s:{s:b, s:i}, "
        "s:I, s:I}",
        "answer", "permit", "permit", permit->id, "device", device->id, "nonce",
        json_object_get(request->value, "nonce"), "release",
        json_object_get(request->value, "release"), "from", json_object_get(request->value, "from"),
        "arm", permit_arm_names[arm], "stage", decision->stage ? decision->stage : "", "pair",
        decision->pair ? json_integer((json_int_t)decision->pair) : json_null(), "soak_ms",
        (json_int_t)llround(rollout->policy.soak * 1000), "deadline_ms",
        (json_int_t)llround(fmax(0, decision->deadline - decision->t) * 1000), "start_by_ms",
        (json_int_t)llround(rollout->policy.start_by * 1000), "leash", "poll", poll, "every_ms",
        LEASH_EVERY_MS, "issued_at", (json_int_t)engine_wall_ms(engine), "confirm_within_ms",
        (json_int_t)CONFIRM_WITHIN_MS);
    answer_sealed(engine, request, CONTEXT_PERMIT, value);
    device_evidence(engine, request, device, "begin");
    permit_put(engine, permit);
    permit_open(engine, permit);
}

static bool excluded(const struct manifest *manifest, const json_t *attributes)
{
    for (size_t i = 0; i < manifest->exclude_count; i++) {
        const char *value =
            json_string_value(json_object_get(attributes, manifest->exclude[i].name));
        if (value && strcmp(value, manifest->exclude[i].value) == 0)
            return true;
    }
    return false;
}

/* The rollout that speaks for the release: the newest. */
static struct server_rollout *rollout_of(struct engine *engine, const char *release)
{
    for (size_t i = engine->rollout_count; i-- > 0;)
        if (strcmp(engine->rollout_list[i]->release->id, release) == 0)
            return engine->rollout_list[i];
    return NULL;
}

static void ask(struct engine *engine, struct engine_request *request, struct device *device,
                struct server_rollout *rollout, bool revert)
{
    const char *group = json_string_value(json_object_get(request->value, "group"));
    struct event_line line = {.event = {.type = revert ? EVENT_REVERT : EVENT_BEGIN},
                              .device = device->id,
                              .organisation = device->organisation,
                              .group = group ? group : device->group,
                              .attributes = json_object_get(request->value, "attributes")};
    const struct rollout_decision *decision = &rollout->answer;
    struct error error;
    int r = fold_event(engine, rollout, &line, &error);

    if (engine->failure < 0)
        return;
    if (revert && r == -ENOENT) {
        answer_no(engine, request, device, rollout, "never-began",
                  "This device never began the release, so there is no order to go back in: it "
                  "may go back at once.");
        return;
    }
    if (r < 0 || !rollout->answered) {
        answer_refuse(request, 409, "begin-refused", "The rollout did not take this begin",
                      "Ask again later with a new seq.", "%s",
                      r < 0 ? error.text : "no decision fell");
        return;
    }
    if (decision->type == DECISION_WAIT)
        answer_wait(engine, request, device, rollout_reason_code(decision->reason),
                    rollout_reason_sentence(decision->reason), decision->retry_after);
    else if (decision->type == DECISION_NO)
        answer_no(engine, request, device, rollout, rollout_reason_code(decision->reason),
                  rollout_reason_sentence(decision->reason));
    else
        answer_permit(engine, request, device, rollout,
                      decision->type == DECISION_PERMIT    ? PERMIT_RELEASE
                      : decision->type == DECISION_PLACEBO ? PERMIT_PLACEBO
                                                           : PERMIT_REVERT);
}

static bool names_match(const struct release *release, const json_t *value)
{
    const char *product = json_string_value(json_object_get(value, "product"));
    const char *channel = json_string_value(json_object_get(value, "channel"));

    return product && channel && strcmp(product, release->manifest.product) == 0 &&
           strcmp(channel, release->manifest.channel) == 0;
}

static void begin(struct engine *engine, struct engine_request *request, struct device *device)
{
    const json_t *value = request->value;
    const char *id = json_string_value(json_object_get(value, "release"));
    const char *from = json_string_value(json_object_get(value, "from"));
    const char *purpose = json_string_value(json_object_get(value, "purpose"));
    bool revert = purpose && strcmp(purpose, "revert") == 0;
    struct server_rollout *rollout = rollout_of(engine, id);
    const struct release *release = release_find(engine, id);

    if (release && !names_match(release, value)) {
        answer_refuse(request, 400, "member-invalid", "The release is of another product",
                      "Send the product and channel of the plan that offers the release.",
                      "release %.12s… is of %s/%s", id, release->manifest.product,
                      release->manifest.channel);
        return;
    }
    if (!revert && release && release->halted) {
        answer_no(engine, request, device, rollout, rollout_reason_code(REASON_HALTED),
                  rollout_reason_sentence(REASON_HALTED));
        return;
    }
    if (!rollout) {
        answer_no(engine, request, device, NULL, "not-offered",
                  "This release is not offered: no rollout of it was started.");
        return;
    }
    if (revert) {
        if (device->open && device->open->rollout == rollout)
            answer_no(engine, request, device, rollout, "in-trial",
                      "The device is in trial: it goes back at once, without a permit.");
        else if (halted(rollout))
            ask(engine, request, device, rollout, true);
        else
            answer_no(engine, request, device, rollout, "not-halted",
                      "This release is not halted, so nothing has to go back.");
        return;
    }
    if (device->open) {
        answer_refuse(request, 409, "open-permit", "The device holds a permit already",
                      "Report the outcome of the open permit first (`declined` if it was never "
                      "begun).",
                      "permit %s of rollout %s is open", device->open->id,
                      device->open->rollout->id);
        return;
    }
    if (strcmp(from, id) == 0)
        answer_no(engine, request, device, rollout, rollout_reason_code(REASON_ALREADY),
                  rollout_reason_sentence(REASON_ALREADY));
    else if (excluded(&rollout->release->manifest, json_object_get(value, "attributes")))
        answer_no(engine, request, device, rollout, rollout_reason_code(REASON_EXCLUDED),
                  rollout_reason_sentence(REASON_EXCLUDED));
    else
        ask(engine, request, device, rollout, false);
}

void call_begin(struct engine *engine, struct engine_request *request)
{
    struct device *device = device_asking(engine, request);
    const char *nonce = json_string_value(json_object_get(request->value, "nonce"));
    struct permit *permit;

    if (!device)
        return;
    permit = permit_by_nonce(engine, nonce);
    if (permit)
        again(engine, request, device, permit);
    else if (engine->failure == 0)
        begin(engine, request, device);
    free(permit);
}
