#include "server/engine-internal.h"

#include "base/parse.h"
#include "base/random.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define PAIRS 300 /* newest ones in one answer */
#define PAGE 1000 /* lines of events or log in one answer, unless asked otherwise */

static bool lives(const struct server_rollout *rollout)
{
    struct rollout_view view;

    rollout_look(rollout->fold, &view);
    return view.state == ROLLOUT_RUNNING || view.state == ROLLOUT_PAUSED;
}

static bool same_channel(const struct release *a, const struct release *b)
{
    return strcmp(a->manifest.product, b->manifest.product) == 0 &&
           strcmp(a->manifest.channel, b->manifest.channel) == 0;
}

static bool has_product(const struct device *device, const char *product)
{
    json_t *products = device->products ? json_loads(device->products, 0, NULL) : NULL, *entry;
    bool found = false;
    size_t i;

    json_array_foreach(products, i, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "product"));
        found = found || (name && strcmp(name, product) == 0);
    }
    json_decref(products);
    return found;
}

/* Enrolled devices by organisation: those that have the product, or all where none said so. */
static json_t *count_organisations(struct engine *engine, const char *product)
{
    json_t *all = json_object(), *with = json_object(), *ret = json_object();
    const char *name;
    json_t *count;

    for (size_t i = 0; i < engine->device_count; i++) {
        const struct device *device = engine->device_list[i];
        json_t *into[] = {all, has_product(device, product) ? with : NULL};

        if (device->standing != STANDING_GOOD)
            continue;
        for (size_t j = 0; j < ARRAY_SIZE(into); j++)
            if (into[j])
                json_object_set_new(into[j], device->organisation,
                                    json_integer(1 + json_integer_value(json_object_get(
                                                         into[j], device->organisation))));
    }
    json_object_foreach(all, name, count)
    {
        json_t *some = json_object_get(with, name);
        if (some || json_object_size(with) == 0)
            json_object_set(ret, name, some ? some : count);
    }
    json_decref(all);
    json_decref(with);
    if (json_object_size(ret) > 0)
        return ret;
    json_decref(ret);
    return NULL;
}

static bool check_organisations(struct engine_request *request, const json_t *organisations)
{
    const char *name;
    json_t *count;

    json_object_foreach((json_t *)(uintptr_t)organisations, name, count)
    {
        if (is_name(name) && json_is_integer(count) && json_integer_value(count) > 0)
            continue;
        answer_refuse(request, 400, "member-invalid", "`organisations` is wrong",
                      "Give every organisation its number of devices, at least 1.",
                      "organisations.%s is no number of devices", name);
        return false;
    }
    return true;
}

/* The policy of the request, else of the manifest, every key written out. */
static json_t *policy_of(struct engine *engine, struct engine_request *request,
                         const struct release *release)
{
    json_t *given = json_object_get(request->value, "policy"), *ret;
    struct policy policy;
    struct error error;

    if (!given && !release->manifest.has_policy) {
        answer_refuse(request, 400, "policy-missing", "There is no policy",
                      "Give one with `rollout start --policy FILE`, or write `policy` into the "
                      "manifest. It needs `class` and `harm_budget`.",
                      "neither the request nor release %.12s… has a policy", release->id);
        return NULL;
    }
    if (!given)
        return policy_json(&release->manifest.policy);
    if (policy_parse(given, &policy, &error) < 0) {
        answer_refuse(request, 400, "policy", "The policy can't work", "Correct it.", "%s",
                      error.text);
        return NULL;
    }
    ret = policy_json(&policy);
    policy_free(&policy);
    return ret;
}

static void open_the_gate(json_t *policy)
{
    json_object_set_new(policy, "placebo", json_string("none"));
    json_object_set_new(policy, "organisation_share", json_real(1));
    json_object_set_new(policy, "stages", json_pack("[{s:s, s:f}]", "name", "all", "share", 1.0));
}

static bool may_start(struct engine *engine, struct engine_request *request,
                      const struct release *release)
{
    bool supersede = json_is_true(json_object_get(request->value, "supersede"));
    const struct release *halted = release_halted_payload(engine, release);

    if (release->halted) {
        answer_refuse(request, 409, "release-halted", "This release was halted",
                      "Build a corrected release: a halted one never comes back.",
                      "release %s (%s) was halted", release->id, release->manifest.version);
        return false;
    }
    if (halted && !strstr(release->lab, "\"acknowledge_halted_payload\"")) {
        answer_refuse(request, 409, "payload-halted", "This payload was halted",
                      "Build a release with a corrected payload.",
                      "payload %.12s… is that of release %s (%s), which was halted meanwhile",
                      release->manifest.payload_sha256, halted->id, halted->manifest.version);
        return false;
    }
    for (size_t i = 0; i < engine->rollout_count; i++) {
        const struct server_rollout *other = engine->rollout_list[i];

        if (other->release == release) {
            answer_refuse(request, 409, "rollout-exists", "This release has a rollout already",
                          "Look at it with `maeslant rollout status`.",
                          "rollout %s is of release %s", other->id, release->id);
            return false;
        }
        if (same_channel(other->release, release) && lives(other) && !other->superseded &&
            !supersede) {
            answer_refuse(request, 409, "rollout-running", "Another rollout is under way",
                          "Wait until it is done, halt it, or start this one with `supersede`, "
                          "which pauses the other for good.",
                          "rollout %s of release %.12s… (%s) is not done", other->id,
                          other->release->id, other->release->manifest.version);
            return false;
        }
    }
    return true;
}

static void supersede(struct engine *engine, struct engine_request *request,
                      const struct release *release, const char *by_rollout)
{
    for (size_t i = 0; i < engine->rollout_count; i++) {
        struct server_rollout *other = engine->rollout_list[i];
        _cleanup_free_ char *reason = xasprintf("superseded by %s", by_rollout);
        struct event_line line = {
            .event = {.type = EVENT_PAUSE, .by = request->by, .reason = reason}};
        struct error error;

        if (!same_channel(other->release, release) || !lives(other))
            continue;
        fold_event(engine, other, &line, &error);
        other->superseded = true;
    }
}

static char *rollout_name(struct engine *engine, const struct release *release)
{
    char *name = xasprintf("%s-%" PRIu64, release->manifest.product, release->manifest.sequence);

    for (unsigned i = 2; fold_rollout(engine, name); i++) {
        free(name);
        name = xasprintf("%s-%" PRIu64 "-%u", release->manifest.product, release->manifest.sequence,
                         i);
    }
    return name;
}

static void start(struct engine *engine, struct engine_request *request, struct release *release,
                  struct start_line *line)
{
    const struct manifest *manifest = &release->manifest;
    struct policy policy;
    struct rollout *fold;
    struct error error;
    struct server_rollout *rollout;
    int64_t now = engine_wall_ms(engine);

    if (start_rollout(line, &policy, &fold, &error) < 0) {
        start_free(line);
        answer_refuse(request, 400, "policy", "The rollout can't start", "Correct the policy.",
                      "%s", error.text);
        return;
    }
    supersede(engine, request, release, line->rollout);
    if (engine->failure == 0)
        engine_keep(engine,
                    engine->store->does->rollout_add(engine->store,
                                                     &(struct store_rollout){
                                                         .id = line->rollout,
                                                         .release = release->id,
                                                         .product = manifest->product,
                                                         .channel = manifest->channel,
                                                         .by = request->by,
                                                         .at_ms = now,
                                                     },
                                                     &error),
                    &error);
    fold_start(engine, release, line, request->by, now, &policy, fold);
    rollout = engine->rollout_list[engine->rollout_count - 1];
    engine_log(engine, "rollout-started", request->by, rollout->id, NULL,
               "Release %.12s… (%s %s)%s", release->id, manifest->product, manifest->version,
               line->gate_off ? " WITHOUT THE GATE: nothing halts it" : "");
    /* Whoever starts it approves it by that. */
    struct event_line approve = {.event = {.type = EVENT_APPROVE,
                                           .by = request->by[0] ? request->by : "admin",
                                           .reason = "started the rollout",
                                           .stage = "start"}};
    if (fold_event(engine, rollout, &approve, &error) < 0 && engine->failure == 0)
        engine_log(engine, "approval-refused", request->by, rollout->id, NULL, "%s", error.text);
    fold_tick(engine, rollout);
    answer_json(request, view_rollout(engine, rollout));
}

void call_rollout_start(struct engine *engine, struct engine_request *request)
{
    const char *id = json_string_value(json_object_get(request->value, "release"));
    const char *name = json_string_value(json_object_get(request->value, "name"));
    json_t *organisations = json_object_get(request->value, "organisations"), *policy;
    struct release *release = id ? release_find(engine, id) : NULL;
    char seed[65];

    if (!release) {
        answer_refuse(request, 404, "release-unknown", "This release is not known",
                      "Publish it first: `maeslant release publish`.", "no release is named %s",
                      id ? id : "(none)");
        return;
    }
    if (!may_start(engine, request, release) || !check_organisations(request, organisations))
        return;
    if (name && (!is_name(name) || fold_rollout(engine, name))) {
        answer_refuse(request, 409, "name-taken", "The rollout's name can't be used",
                      "Give another name: letters, digits and ._+-.", "name is \"%.128s\"%s", name,
                      is_name(name) ? ", which another rollout has" : "");
        return;
    }
    policy = policy_of(engine, request, release);
    if (!policy)
        return;
    if (engine->options.no_gate)
        open_the_gate(policy);
    random_hex(seed, 32);
    struct start_line line = {
        .rollout = name ? xstrdup(name) : rollout_name(engine, release),
        .release = xstrdup(release->id),
        .seed = xstrdup(seed),
        .t = (double)engine_ms(engine) / 1000,
        .policy = policy,
        .organisations = organisations && json_object_size(organisations) > 0
                             ? json_incref(organisations)
                             : count_organisations(engine, release->manifest.product),
        .gate_off = engine->options.no_gate,
    };
    start(engine, request, release, &line);
}

static struct server_rollout *named(struct engine *engine, struct engine_request *request)
{
    const char *id = json_string_value(json_object_get(request->value, "rollout"));
    struct server_rollout *rollout = id ? fold_rollout(engine, id) : NULL;

    if (!rollout)
        answer_refuse(request, 404, "rollout-unknown", "This rollout is not known",
                      "Look for it with `maeslant rollout list`.", "no rollout is named %s",
                      id ? id : "(none)");
    return rollout;
}

static enum rollout_event_type event_of(const struct engine_request *request)
{
    switch (request->call) {
    case CALL_ROLLOUT_PAUSE:
        return EVENT_PAUSE;
    case CALL_ROLLOUT_RESUME:
        return EVENT_RESUME;
    case CALL_ROLLOUT_HALT:
        return EVENT_HALT;
    case CALL_ROLLOUT_APPROVE:
        return EVENT_APPROVE;
    default:
        return json_is_true(json_object_get(request->value, "lift")) ? EVENT_RESUME : EVENT_HOLD;
    }
}

/* What only some states allow, said before anything is written. */
static bool fits(struct engine_request *request, const struct server_rollout *rollout,
                 enum rollout_event_type type)
{
    struct rollout_view view;

    rollout_look(rollout->fold, &view);
    if (view.state == ROLLOUT_HALTED && type != EVENT_HALT)
        answer_refuse(request, 409, "rollout-halted", "The rollout is halted",
                      "A halted release never comes back: publish a corrected one.",
                      "rollout %s was halted", rollout->id);
    else if (type == EVENT_RESUME && rollout->superseded)
        answer_refuse(request, 409, "rollout-superseded", "A newer rollout took its place",
                      "Go on with the newer one.", "rollout %s was superseded", rollout->id);
    else if (request->call == CALL_ROLLOUT_RESUME && view.state != ROLLOUT_PAUSED)
        answer_refuse(request, 409, "rollout-not-paused", "The rollout is not paused",
                      "Nothing is to be done.", "rollout %s is %s", rollout->id,
                      rollout_state_names[view.state]);
    else
        return true;
    return false;
}

void call_rollout_person(struct engine *engine, struct engine_request *request)
{
    struct server_rollout *rollout = named(engine, request);
    const json_t *value = request->value;
    enum rollout_event_type type = event_of(request);
    struct event_line line = {
        .event = {.type = type,
                  .by = request->by[0] ? request->by : "admin",
                  .reason = json_string_value(json_object_get(value, "reason")),
                  .organisation = json_string_value(json_object_get(value, "organisation")),
                  .stage = json_string_value(json_object_get(value, "stage"))}};
    struct error error;

    if (!rollout || !fits(request, rollout, type))
        return;
    engine->halt_now = json_is_true(json_object_get(value, "now"));
    if (fold_event(engine, rollout, &line, &error) < 0) {
        if (engine->failure == 0)
            answer_refuse(request, 409, "refused", "The rollout did not take this",
                          "See the detail.", "%s", error.text);
        engine->halt_now = false;
        return;
    }
    if (type == EVENT_HALT && engine->halt_now)
        halt_hurry(engine, rollout, request->by, line.event.reason);
    engine->halt_now = false;
    if (type == EVENT_APPROVE)
        engine_log(engine, "approved", request->by, rollout->id, NULL, "%s%s%s",
                   line.event.stage ? line.event.stage : "the next stage",
                   line.event.reason ? ": " : "", line.event.reason ? line.event.reason : "");
    if (request->call == CALL_HOLD)
        engine_log(engine, type == EVENT_HOLD ? "organisation-holds" : "organisation-goes-on",
                   request->by, rollout->id, NULL, "Organisation %s: %s", line.event.organisation,
                   line.event.reason ? line.event.reason : "no reason given");
    engine->plans_changed = true;
    answer_json(request, view_rollout(engine, rollout));
}

void call_rollout_list(struct engine *engine, struct engine_request *request)
{
    json_t *list = json_array();

    for (size_t i = engine->rollout_count; i-- > 0;)
        json_array_append_new(list, view_rollout(engine, engine->rollout_list[i]));
    answer_json(request, json_pack("{s:o}", "rollouts", list));
}

/* Lines */

static int add_line(void *user, const struct store_event *row)
{
    json_array_append_new(user, json_pack("{s:I, s:o}", "number", (json_int_t)row->number, "line",
                                          json_loads(row->json, 0, NULL)));
    return 0;
}

static void range_of(const struct engine_request *request, int64_t *after, uint64_t *limit)
{
    json_int_t many = json_integer_value(json_object_get(request->value, "limit"));

    *after = json_integer_value(json_object_get(request->value, "after"));
    *limit = many > 0 ? (uint64_t)many : PAGE;
}

void call_rollout_events(struct engine *engine, struct engine_request *request)
{
    struct server_rollout *rollout = named(engine, request);
    json_t *list;
    struct error error;
    uint64_t limit;
    int64_t after;

    if (!rollout)
        return;
    list = json_array();
    range_of(request, &after, &limit);
    if (engine_keep(engine,
                    engine->store->does->events(engine->store, rollout->id, after, limit, add_line,
                                                list, &error),
                    &error) < 0) {
        json_decref(list);
        return;
    }
    answer_json(request, json_pack("{s:s, s:o}", "rollout", rollout->id, "events", list));
}

static int add_entry(void *user, const struct store_log *row)
{
    json_array_append_new(user, json_pack("{s:I, s:I, s:s, s:s?, s:s?, s:s?, s:s}", "number",
                                          (json_int_t)row->number, "at", (json_int_t)row->at_ms,
                                          "code", row->code, "by", row->by, "rollout", row->rollout,
                                          "device", row->device, "text", row->text));
    return 0;
}

void call_log(struct engine *engine, struct engine_request *request)
{
    json_t *list = json_array();
    struct error error;
    uint64_t limit;
    int64_t after;

    range_of(request, &after, &limit);
    if (engine_keep(engine,
                    engine->store->does->log(engine->store, after, limit, add_entry, list, &error),
                    &error) < 0) {
        json_decref(list);
        return;
    }
    answer_json(request, json_pack("{s:o}", "entries", list));
}

static int keep_decision(void *user, const struct store_event *row)
{
    json_t *list = user, *line = row->decision ? json_loads(row->json, 0, NULL) : NULL;

    if (!line)
        return 0;
    json_object_set_new(line, "number", json_integer(row->number));
    json_array_append_new(list, line);
    if (json_array_size(list) > 400)
        for (size_t i = 0; i < 200; i++)
            json_array_remove(list, 0);
    return 0;
}

static json_t *decisions_of(struct engine *engine, struct server_rollout *rollout)
{
    json_t *list = json_array();
    struct error error;

    engine_keep(
        engine,
        engine->store->does->events(engine->store, rollout->id, 0, 0, keep_decision, list, &error),
        &error);
    while (json_array_size(list) > 200)
        json_array_remove(list, 0);
    return list;
}

static json_t *stages_of(const struct server_rollout *rollout)
{
    _cleanup_json_ json_t *policy = policy_json(&rollout->policy);
    json_t *stages = json_incref(json_object_get(policy, "stages")), *stage;
    struct rollout_view view;
    size_t i;

    rollout_look(rollout->fold, &view);
    json_array_foreach(stages, i, stage)
    {
        const char *state = i < view.stage_index || view.state == ROLLOUT_DONE ? "done"
                            : i > view.stage_index                             ? "to come"
                            : view.stage_opened_at > 0                         ? "open"
                                                                               : "to come";
        json_object_set_new(stage, "state", json_string(state));
    }
    return stages;
}

static json_t *device_states(struct engine *engine, const struct server_rollout *rollout)
{
    json_t *list = json_array();

    for (size_t i = 0; i < engine->device_count; i++) {
        const struct device *device = engine->device_list[i];
        const char *state = rollout_device_name(rollout, device);

        if (!state && device->standing != STANDING_GOOD)
            continue;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s?, s:s}", "device", device->id,
                                              "organisation", device->organisation, "group",
                                              device->group, "state", state ? state : "not begun"));
    }
    return list;
}

/* Small enough to be asked for several times a second. */
void call_rollout_history(struct engine *engine, struct engine_request *request)
{
    struct server_rollout *rollout = named(engine, request);
    double after = (double)json_integer_value(json_object_get(request->value, "after")) / 1000;

    if (!rollout)
        return;
    answer_json(request,
                json_pack("{s:s, s:b, s:o, s:o, s:o, s:o, s:o, s:o}", "rollout", rollout->id,
                          "tossed", rollout->policy.placebo_pairs, "history",
                          story_points_json(&rollout->story, rollout->fold, rollout->obeyed, after),
                          "moments", story_moments_json(&rollout->story), "failures",
                          story_failures_json(&rollout->story), "pair_list",
                          view_pairs(rollout, PAIRS), "stages", stages_of(rollout), "explain",
                          explain_rollout(engine, rollout)));
}

void call_rollout_show(struct engine *engine, struct engine_request *request)
{
    struct server_rollout *rollout = named(engine, request);
    json_t *ret;

    if (!rollout)
        return;
    ret = view_rollout(engine, rollout);
    json_object_set_new(ret, "policy", policy_json(&rollout->policy));
    json_object_set_new(ret, "organisations",
                        rollout->start.organisations ? json_incref(rollout->start.organisations)
                                                     : json_object());
    json_object_set_new(ret, "stages", stages_of(rollout));
    json_object_set_new(ret, "pair_list", view_pairs(rollout, 200));
    json_object_set_new(ret, "failures", story_failures_json(&rollout->story));
    json_object_set_new(ret, "decisions", decisions_of(engine, rollout));
    json_object_set_new(ret, "explain", explain_rollout(engine, rollout));
    json_object_set_new(ret, "device_states", device_states(engine, rollout));
    answer_json(request, ret);
}
