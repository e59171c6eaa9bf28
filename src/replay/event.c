#include "replay/lines.h"

#include "base/buf.h"
#include "replay/write.h"

#include <errno.h>
#include <string.h>

#define ID_MAX 256 /* bytes of a device, an organisation, a group, a stage, an attribute's name */
#define TEXT_MAX 65536

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

/* Members beside `t` and `event`. */
static const char *const begin_members[] = {"t",     "event",      "device", "org",
                                            "group", "attributes", NULL};
static const char *const outcome_members[] = {"t",   "event",  "device", "outcome",
                                              "arm", "reason", "why",    NULL};
static const char *const tick_members[] = {"t", "event", NULL};
static const char *const person_members[] = {"t", "event", "by", "reason", "org", "stage", NULL};
static const char *const outage_members[] = {"t", "event", "from", "to", NULL};
static const char *const device_members[] = {"t", "event", "device", NULL};

static void add_attributes(struct buf *buf, const json_t *attributes)
{
    const char *name, *comma = "";
    json_t *value;

    buf_add_str(buf, ",\"attributes\":{");
    json_object_foreach((json_t *)(uintptr_t)attributes, name, value)
    {
        buf_add_str(buf, comma);
        json_write_string(buf, name, strlen(name));
        buf_add(buf, ":", 1);
        json_write_string(buf, json_string_value(value), json_string_length(value));
        comma = ",";
    }
    buf_add(buf, "}", 1);
}

char *event_text(const struct event_line *line)
{
    const struct rollout_event *event = &line->event;
    struct buf buf = BUF_INIT;

    write_head(&buf, event->t, "event", event_names[event->type]);
    write_text(&buf, "device", line->device);
    switch (event->type) {
    case EVENT_BEGIN:
        write_text(&buf, "org", line->organisation);
        write_text(&buf, "group", line->group);
        add_attributes(&buf, line->attributes);
        break;
    case EVENT_OUTCOME:
        write_text(&buf, "outcome", outcome_names[event->outcome]);
        write_text(&buf, "arm", line->arm);
        write_text(&buf, "reason", event->reason);
        write_text(&buf, "why", line->why);
        break;
    case EVENT_OUTAGE:
        write_number(&buf, "from", event->from);
        write_number(&buf, "to", event->to);
        break;
    case EVENT_TICK:
    case EVENT_REVERT:
    case EVENT_REVERTED:
        break;
    case EVENT_APPROVE:
    case EVENT_PAUSE:
    case EVENT_RESUME:
    case EVENT_HALT:
    case EVENT_HOLD:
        write_text(&buf, "by", event->by);
        write_text(&buf, "reason", event->reason);
        write_text(&buf, "org", event->organisation);
        write_text(&buf, "stage", event->stage);
    }
    return write_end(&buf);
}

/* An index into `names`, which the error lists. */
static int read_name(const json_t *value, const char *key, const char *const *names,
                     struct error *error)
{
    _cleanup_buf_ struct buf list = BUF_INIT;
    const char *name = NULL;
    int i, r = json_need_string(value, NULL, key, ID_MAX, &name, error);

    if (r < 0)
        return r;
    for (i = 0; names[i]; i++) {
        if (strcmp(names[i], name) == 0)
            return i;
        buf_addf(&list, "%s%s", i ? ", " : "", names[i]);
    }
    return error_set(error, -EINVAL, "%s is \"%.64s\": expected one of %s", key, name, list.data);
}

static int need_number(const json_t *value, const char *key, double *ret, struct error *error)
{
    const json_t *number;
    int r = json_need(value, NULL, key, JSON_REAL, &number, error);

    if (r == 0)
        *ret = json_number_value(number);
    return r;
}

static int need_id(const json_t *value, const char *key, const char **ret, struct error *error)
{
    int r = json_need_string(value, NULL, key, ID_MAX, ret, error);

    if (r == 0 && !**ret)
        return error_set(error, -EINVAL, "%s is \"\": expected 1 to %d bytes", key, ID_MAX);
    return r;
}

static int read_begin(const json_t *value, struct event_line *ret, struct error *error)
{
    const char *name, *text;
    json_t *attribute;
    int r;

    if ((r = need_id(value, "device", &ret->device, error)) < 0 ||
        (r = need_id(value, "org", &ret->organisation, error)) < 0 ||
        (r = json_may_string(value, NULL, "group", ID_MAX, &ret->group, error)) < 0 ||
        (r = json_need(value, NULL, "attributes", JSON_OBJECT, &ret->attributes, error)) < 0)
        return r;
    json_object_foreach((json_t *)(uintptr_t)ret->attributes, name, attribute)
    {
        r = json_need_string(ret->attributes, "attributes", name, TEXT_MAX, &text, error);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_outcome(const json_t *value, struct event_line *ret, struct error *error)
{
    static const char *const arms[] = {"release", "placebo", NULL};
    int r, outcome;

    if ((r = need_id(value, "device", &ret->device, error)) < 0 ||
        (outcome = r = read_name(value, "outcome", outcome_names, error)) < 0 ||
        (r = json_may_string(value, NULL, "reason", TEXT_MAX, &ret->event.reason, error)) < 0 ||
        (r = json_may_string(value, NULL, "why", TEXT_MAX, &ret->why, error)) < 0)
        return r;
    ret->event.outcome = (enum rollout_outcome)outcome;
    if (!json_object_get(value, "arm"))
        return 0;
    r = read_name(value, "arm", arms, error);
    if (r >= 0)
        ret->arm = arms[r];
    return r < 0 ? r : 0;
}

static int read_person(const json_t *value, struct event_line *ret, struct error *error)
{
    struct rollout_event *event = &ret->event;
    int r;

    if ((r = json_may_string(value, NULL, "by", TEXT_MAX, &event->by, error)) < 0 ||
        (r = json_may_string(value, NULL, "reason", TEXT_MAX, &event->reason, error)) < 0 ||
        (r = json_may_string(value, NULL, "stage", ID_MAX, &event->stage, error)) < 0)
        return r;
    return json_object_get(value, "org") ? need_id(value, "org", &event->organisation, error) : 0;
}

int event_read(const json_t *value, struct event_line *ret, struct error *error)
{
    const char *const *known = device_members;
    int r, type = read_name(value, "event", event_names, error);

    if (type < 0)
        return type;
    *ret = (struct event_line){.event.type = (enum rollout_event_type)type};
    if ((r = need_number(value, "t", &ret->event.t, error)) < 0)
        return r;
    switch (ret->event.type) {
    case EVENT_BEGIN:
        known = begin_members;
        r = read_begin(value, ret, error);
        break;
    case EVENT_OUTCOME:
        known = outcome_members;
        r = read_outcome(value, ret, error);
        break;
    case EVENT_TICK:
        known = tick_members;
        break;
    case EVENT_OUTAGE:
        known = outage_members;
        if ((r = need_number(value, "from", &ret->event.from, error)) == 0)
            r = need_number(value, "to", &ret->event.to, error);
        break;
    case EVENT_REVERT:
    case EVENT_REVERTED:
        r = need_id(value, "device", &ret->device, error);
        break;
    case EVENT_APPROVE:
    case EVENT_PAUSE:
    case EVENT_RESUME:
    case EVENT_HALT:
    case EVENT_HOLD:
        known = person_members;
        r = read_person(value, ret, error);
    }
    return r < 0 ? r : json_only(value, NULL, known, error);
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
