#include "replay/lines.h"

#include "base/buf.h"
#include "replay/write.h"

#include <math.h>
#include <string.h>

static const char *const decision_names[] = {
    [DECISION_PERMIT] = "permit", [DECISION_PLACEBO] = "placebo", [DECISION_WAIT] = "wait",
    [DECISION_NO] = "no",         [DECISION_OPEN] = "open",       [DECISION_PAUSE] = "pause",
    [DECISION_RESUME] = "resume", [DECISION_HALT] = "halt",       [DECISION_DONE] = "done",
    [DECISION_REVERT] = "revert", [DECISION_SILENT] = "silent",
};

static void add_because(struct buf *buf, const struct rollout_because *because, bool person)
{
    buf_add_str(buf, ",\"because\":{\"alarm\":");
    json_write_string(buf, rollout_alarm_code(because->alarm),
                      strlen(rollout_alarm_code(because->alarm)));
    write_text(buf, "slice", because->slice ? because->slice : "");
    write_count(buf, "n", because->n);
    write_count(buf, "k", because->k);
    write_number(buf, "tolerated", because->tolerated);
    write_number(buf, "log_e", because->log_e);
    write_count(buf, "k_release", because->k_release);
    write_count(buf, "k_placebo", because->k_placebo);
    write_count(buf, "proven_harm", because->proven_harm);
    if (person) {
        write_text(buf, "by", because->by);
        write_text(buf, "reason", because->reason);
    }
    buf_add(buf, "}", 1);
}

static char *write_decision(const struct rollout_decision *decision, const char *device,
                            bool person)
{
    struct buf buf = BUF_INIT;

    write_head(&buf, decision->t, "decision", decision_names[decision->type]);
    switch (decision->type) {
    case DECISION_PERMIT:
    case DECISION_PLACEBO:
        write_text(&buf, "device", device);
        if (decision->pair)
            write_count(&buf, "pair", decision->pair);
        else
            buf_add_str(&buf, ",\"pair\":null");
        break;
    case DECISION_WAIT:
    case DECISION_NO:
        write_text(&buf, "device", device);
        write_text(&buf, "reason", rollout_reason_code(decision->reason));
        break;
    case DECISION_SILENT:
        write_text(&buf, "device", device);
        write_text(&buf, "arm", decision->arm == ARM_PLACEBO ? "placebo" : "release");
        break;
    case DECISION_REVERT:
        write_text(&buf, "device", device);
        break;
    case DECISION_OPEN:
        write_text(&buf, "stage", decision->stage);
        break;
    case DECISION_PAUSE:
    case DECISION_HALT:
    case DECISION_RESUME:
        add_because(&buf, &decision->because, person);
        break;
    case DECISION_DONE:
        break;
    }
    return write_end(&buf);
}

char *decision_text(const struct rollout_decision *decision, const char *device)
{
    return write_decision(decision, device, true);
}

char *decision_text_listed(const struct rollout_decision *decision, const char *device)
{
    switch (decision->type) {
    case DECISION_PERMIT:
    case DECISION_PLACEBO:
    case DECISION_WAIT:
    case DECISION_NO:
    case DECISION_OPEN:
    case DECISION_PAUSE:
    case DECISION_HALT:
        return write_decision(decision, device, false);
    case DECISION_RESUME:
    case DECISION_DONE:
    case DECISION_REVERT:
    case DECISION_SILENT:
        break;
    }
    return NULL;
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
