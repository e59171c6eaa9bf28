#include "replay/lines.h"

#include "base/buf.h"
#include "gate/evidence.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

const char *const outcome_names[] = {
    [OUTCOME_HEALTHY] = "healthy",     [OUTCOME_FAILED] = "failed",
    [OUTCOME_DECLINED] = "declined",   [OUTCOME_INTERRUPTED] = "interrupted",
    [OUTCOME_REGRESSED] = "regressed", NULL,
};
static const char *const event_names[] = {
    [EVENT_BEGIN] = "begin",     [EVENT_OUTCOME] = "outcome",   [EVENT_TICK] = "tick",
    [EVENT_APPROVE] = "approve", [EVENT_PAUSE] = "pause",       [EVENT_RESUME] = "resume",
    [EVENT_HALT] = "halt",       [EVENT_HOLD] = "hold",         [EVENT_OUTAGE] = "outage",
    [EVENT_REVERT] = "revert",   [EVENT_REVERTED] = "reverted", NULL,
};
static const char *const decision_names[] = {
    [DECISION_PERMIT] = "permit", [DECISION_PLACEBO] = "placebo", [DECISION_WAIT] = "wait",
    [DECISION_NO] = "no",         [DECISION_OPEN] = "open",       [DECISION_PAUSE] = "pause",
    [DECISION_RESUME] = "resume", [DECISION_HALT] = "halt",       [DECISION_DONE] = "done",
    [DECISION_REVERT] = "revert", [DECISION_SILENT] = "silent",
};

void json_quote(struct buf *buf, const char *text)
{
    size_t plain = 0;

    while (text[plain] >= ' ' && text[plain] < 0x7f && text[plain] != '"' && text[plain] != '\\')
        plain++;
    if (text[plain] == '\0') {
        buf_add(buf, "\"", 1);
        buf_add(buf, text, plain);
        buf_add(buf, "\"", 1);
        return;
    }
    _cleanup_json_ json_t *value = json_string(text);
    _cleanup_free_ char *quoted = value ? json_dumps(value, JSON_ENCODE_ANY) : NULL;

    buf_add_str(buf, quoted ? quoted : "\"\"");
}

static void add_text(struct buf *buf, const char *name, const char *value)
{
    if (!value)
        return;
    buf_addf(buf, ",\"%s\":", name);
    json_quote(buf, value);
}

/* Evidence is written as it is compared: rounded to 1e-9. */
static void add_number(struct buf *buf, const char *name, double value)
{
    char text[40];
    int len;

    if (!isfinite(value)) {
        buf_addf(buf, ",\"%s\":null", name);
        return;
    }
    value = round_decision(value);
    len = snprintf(text, sizeof text, "%.9f", value == 0 ? 0.0 : value);
    while (len > 0 && text[len - 1] == '0')
        text[--len] = '\0';
    if (len > 0 && text[len - 1] == '.')
        text[--len] = '\0';
    buf_addf(buf, ",\"%s\":%s", name, text);
}

static void add_attributes(struct buf *buf, const json_t *attributes)
{
    const char *name, *comma = "";
    json_t *value;

    buf_add_str(buf, ",\"attributes\":{");
    json_object_foreach((json_t *)(uintptr_t)attributes, name, value)
    {
        buf_add_str(buf, comma);
        json_quote(buf, name);
        buf_add(buf, ":", 1);
        json_quote(buf, json_string_value(value));
        comma = ",";
    }
    buf_add(buf, "}", 1);
}

char *event_text(const struct event_line *line)
{
    const struct rollout_event *event = &line->event;
    struct buf buf = BUF_INIT;

    buf_addf(&buf, "{\"t\":%.3f,\"event\":\"%s\"", event->t, event_names[event->type]);
    add_text(&buf, "device", line->device);
    switch (event->type) {
    case EVENT_BEGIN:
        add_text(&buf, "org", line->organisation);
        add_text(&buf, "group", line->group);
        add_attributes(&buf, line->attributes);
        break;
    case EVENT_OUTCOME:
        add_text(&buf, "outcome", outcome_names[event->outcome]);
        add_text(&buf, "arm", line->arm);
        add_text(&buf, "reason", event->reason);
        add_text(&buf, "why", line->why);
        break;
    case EVENT_OUTAGE:
        buf_addf(&buf, ",\"from\":%.3f,\"to\":%.3f", event->from, event->to);
        break;
    default:
        add_text(&buf, "by", event->by);
        add_text(&buf, "reason", event->reason);
        add_text(&buf, "org", event->organisation);
        add_text(&buf, "stage", event->stage);
    }
    buf_add(&buf, "}", 1);
    return buf_take(&buf);
}

static int name_index(const char *const *names, const char *name)
{
    for (int i = 0; names[i]; i++)
        if (name && strcmp(names[i], name) == 0)
            return i;
    return -1;
}

static const char *text_of(const json_t *value, const char *key)
{
    return json_string_value(json_object_get(value, key));
}

int event_read(const json_t *value, struct event_line *ret, struct error *error)
{
    const char *name = text_of(value, "event");
    int type = name_index(event_names, name), outcome = 0;

    if (type < 0)
        return error_set(error, -EINVAL, "\"event\" is \"%s\": not known", name ? name : "");
    if (!json_is_number(json_object_get(value, "t")))
        return error_set(error, -EINVAL, "\"t\" is missing: expected seconds");
    if (type == EVENT_OUTCOME) {
        outcome = name_index(outcome_names, text_of(value, "outcome"));
        if (outcome < 0)
            return error_set(error, -EINVAL, "\"outcome\" is not known");
    }
    *ret = (struct event_line){
        .event = {.t = json_number_value(json_object_get(value, "t")),
                  .type = (enum rollout_event_type)type,
                  .outcome = (enum rollout_outcome)outcome,
                  .by = text_of(value, "by"),
                  .reason = text_of(value, "reason"),
                  .organisation = text_of(value, "org"),
                  .stage = text_of(value, "stage"),
                  .from = json_number_value(json_object_get(value, "from")),
                  .to = json_number_value(json_object_get(value, "to"))},
        .device = text_of(value, "device"),
        .organisation = text_of(value, "org"),
        .group = text_of(value, "group"),
        .attributes = json_object_get(value, "attributes"),
        .arm = text_of(value, "arm"),
        .why = text_of(value, "why"),
    };
    if (type == EVENT_BEGIN)
        ret->event.organisation = NULL;
    return 0;
}

struct rollout_device event_device(const struct event_line *line,
                                   struct rollout_attribute **ret_attributes)
{
    size_t count = json_object_size(line->attributes), i = 0;
    struct rollout_attribute *attributes = xcalloc(count ? count : 1, sizeof *attributes);
    const char *name;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)line->attributes, name, value)
    {
        const char *text = json_string_value(value);
        attributes[i++] = (struct rollout_attribute){name, text ? text : ""};
    }
    *ret_attributes = attributes;
    return (struct rollout_device){
        .id = line->device,
        .organisation = line->organisation,
        .group = line->group,
        .attributes = attributes,
        .attribute_count = i,
    };
}

static void add_because(struct buf *buf, const struct rollout_because *because)
{
    buf_addf(buf, ",\"because\":{\"alarm\":\"%s\",\"slice\":", rollout_alarm_code(because->alarm));
    json_quote(buf, because->slice ? because->slice : "");
    buf_addf(buf, ",\"n\":%" PRIu64 ",\"k\":%" PRIu64, because->n, because->k);
    add_number(buf, "tolerated", because->tolerated);
    add_number(buf, "log_e", because->log_e);
    buf_addf(buf, ",\"k_release\":%" PRIu64 ",\"k_placebo\":%" PRIu64 ",\"proven_harm\":%" PRIu64,
             because->k_release, because->k_placebo, because->proven_harm);
    add_text(buf, "by", because->by);
    add_text(buf, "reason", because->reason);
    buf_add(buf, "}", 1);
}

char *decision_text(const struct rollout_decision *decision, const char *device)
{
    struct buf buf = BUF_INIT;

    buf_addf(&buf, "{\"t\":%.3f,\"decision\":\"%s\"", decision->t, decision_names[decision->type]);
    switch (decision->type) {
    case DECISION_PERMIT:
    case DECISION_PLACEBO:
        add_text(&buf, "device", device);
        if (decision->pair)
            buf_addf(&buf, ",\"pair\":%" PRIu64, decision->pair);
        else
            buf_add_str(&buf, ",\"pair\":null");
        break;
    case DECISION_WAIT:
    case DECISION_NO:
        add_text(&buf, "device", device);
        add_text(&buf, "reason", rollout_reason_code(decision->reason));
        break;
    case DECISION_SILENT:
        add_text(&buf, "device", device);
        add_text(&buf, "arm", decision->arm == ARM_PLACEBO ? "placebo" : "release");
        break;
    case DECISION_REVERT:
        add_text(&buf, "device", device);
        break;
    case DECISION_OPEN:
        add_text(&buf, "stage", decision->stage);
        break;
    case DECISION_PAUSE:
    case DECISION_HALT:
    case DECISION_RESUME:
        add_because(&buf, &decision->because);
        break;
    case DECISION_DONE:
        break;
    }
    buf_add(&buf, "}", 1);
    return buf_take(&buf);
}

static bool same_value(const json_t *a, const json_t *b)
{
    const char *name;
    json_t *value;

    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);
        return fabs(x - y) <= 2e-9 * fmax(1, fabs(x));
    }
    if (!json_is_object(a) || !json_is_object(b))
        return json_equal(a, b);
    if (json_object_size(a) != json_object_size(b))
        return false;
    json_object_foreach((json_t *)(uintptr_t)a, name, value)
    {
        json_t *other = json_object_get(b, name);
        if (!other || !same_value(value, other))
            return false;
    }
    return true;
}

bool decision_same(const char *stored, const char *now)
{
    _cleanup_json_ json_t *a = NULL, *b = NULL;
    struct error error;

    if (strcmp(stored, now) == 0)
        return true;
    return json_parse(stored, strlen(stored), &a, &error) == 0 &&
           json_parse(now, strlen(now), &b, &error) == 0 && same_value(a, b);
}

char *start_text(const struct start_line *line)
{
    _cleanup_free_ char *policy = json_text(line->policy);
    struct buf buf = BUF_INIT;

    buf_addf(&buf, "{\"t\":%.3f,\"event\":\"start\"", line->t);
    add_text(&buf, "rollout", line->rollout);
    add_text(&buf, "release", line->release);
    add_text(&buf, "seed", line->seed);
    buf_addf(&buf, ",\"policy\":%s", policy);
    if (line->organisations) {
        _cleanup_free_ char *organisations = json_text(line->organisations);
        buf_addf(&buf, ",\"organisations\":%s", organisations);
    }
    if (line->gate_off)
        buf_add_str(&buf, ",\"gate\":\"off\"");
    buf_add(&buf, "}", 1);
    return buf_take(&buf);
}

int start_read(const json_t *value, struct start_line *ret, struct error *error)
{
    const char *event = text_of(value, "event"), *rollout = text_of(value, "rollout");
    const char *release = text_of(value, "release"), *seed = text_of(value, "seed");
    const char *gate = text_of(value, "gate");

    if (!event || strcmp(event, "start") != 0)
        return error_set(error, -EINVAL, "the first event is no start event");
    if (!rollout || !release || !seed || !json_is_object(json_object_get(value, "policy")))
        return error_set(error, -EINVAL,
                         "the start event lacks one of rollout, release, seed, policy");
    *ret = (struct start_line){
        .rollout = xstrdup(rollout),
        .release = xstrdup(release),
        .seed = xstrdup(seed),
        .t = json_number_value(json_object_get(value, "t")),
        .policy = json_incref(json_object_get(value, "policy")),
        .organisations = json_incref(json_object_get(value, "organisations")),
        .gate_off = gate && strcmp(gate, "off") == 0,
    };
    return 0;
}

void start_free(struct start_line *line)
{
    free(line->rollout);
    free(line->release);
    free(line->seed);
    json_decref(line->policy);
    json_decref(line->organisations);
    *line = (struct start_line){0};
}

int start_rollout(const struct start_line *line, struct policy *ret_policy, struct rollout **ret,
                  struct error *error)
{
    size_t count = json_object_size(line->organisations), i = 0;
    _cleanup_free_ struct rollout_organisation *organisations =
        xcalloc(count ? count : 1, sizeof *organisations);
    const char *name;
    json_t *devices;
    int r;

    json_object_foreach(line->organisations, name, devices)
    {
        organisations[i++] =
            (struct rollout_organisation){name, (uint64_t)json_integer_value(devices)};
    }
    r = policy_parse(line->policy, ret_policy, error);
    if (r < 0)
        return r;
    if (line->gate_off) {
        /* No evidence that this world can bring reaches such thresholds, and no window fills. */
        ret_policy->harm_budget = 1e9;
        ret_policy->alpha = 1e-300;
        ret_policy->tolerance_cap = 0.999999;
    }
    r = rollout_new(ret_policy,
                    &(struct rollout_start){.rollout = line->rollout,
                                            .release = line->release,
                                            .seed = line->seed,
                                            .t = line->t,
                                            .organisations = organisations,
                                            .organisation_count = i},
                    ret, error);
    if (r < 0)
        policy_free(ret_policy);
    return r;
}
