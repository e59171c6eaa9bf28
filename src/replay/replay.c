#include "replay/replay.h"

#include "base/text.h"
#include "replay/column.h"
#include "replay/lines.h"
#include "replay/write.h"
#include "rollout/names.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What is remembered of a device beside the rollout. */
struct known {
    enum rollout_arm arm; /* of its last permit */
    bool permitted;
    bool told_late; /* the outcome of a permit whose deadline had passed has come */
};

struct replay {
    struct replay_calls calls;
    struct rollout *rollout;
    struct names devices; /* by the rollout's number */
    struct known *known;
    size_t known_cap;
    uint64_t line;
    double now;
    enum rollout_state state;
    double state_at; /* when it came into it */
    bool state_moved;
    double halt_log_e;          /* trials that obey the halt are no evidence */
    uint64_t permits, placebos; /* decided */
    bool refused;
};

struct replay *replay_new(const struct replay_calls *calls)
{
    struct replay *replay = xcalloc(1, sizeof *replay);

    replay->calls = *calls;
    return replay;
}

void replay_free(struct replay *replay)
{
    if (!replay)
        return;
    rollout_free(replay->rollout);
    names_free(&replay->devices);
    free(replay->known);
    free(replay);
}

const struct rollout *replay_rollout(const struct replay *replay)
{
    return replay->rollout;
}

uint64_t replay_line_number(const struct replay *replay)
{
    return replay->line;
}

static void note(void *user, const struct rollout_decision *decision)
{
    struct replay *replay = user;
    const char *device = NULL;
    struct rollout_view view;

    switch (decision->type) {
    case DECISION_PERMIT:
    case DECISION_PLACEBO:
        replay->known[decision->device] = (struct known){.arm = decision->arm, .permitted = true};
        *(decision->arm == ARM_RELEASE ? &replay->permits : &replay->placebos) += 1;
        /* fall through */
    case DECISION_WAIT:
    case DECISION_NO:
    case DECISION_REVERT:
    case DECISION_SILENT:
        device = replay->devices.text[decision->device];
        break;
    case DECISION_HALT:
        rollout_look(replay->rollout, &view);
        replay->halt_log_e = view.log_e;
        /* fall through */
    case DECISION_PAUSE:
    case DECISION_RESUME:
    case DECISION_DONE:
        replay->state_moved = true;
        break;
    case DECISION_OPEN:
        break;
    }
    if (replay->calls.decide)
        replay->calls.decide(replay->calls.user, decision, device);
}

static int take_start(struct replay *replay, const json_t *value, struct error *error)
{
    struct start_line line = {0};
    struct policy policy;
    int r = start_read(value, &line, error);

    if (r == 0 && (r = start_rollout(&line, &policy, &replay->rollout, error)) == 0) {
        policy_free(&policy);
        replay->now = line.t;
    }
    start_free(&line);
    return r;
}

/* A begin makes its device known or brings it up to date. */
static void meet(struct replay *replay, struct event_line *line)
{
    _cleanup_free_ struct rollout_attribute *attributes = NULL;
    struct rollout_device device = event_device(line, &attributes);
    uint32_t before = replay->devices.count;
    uint32_t number = names_add(&replay->devices, line->device, strlen(line->device));

    line->event.device = number;
    if (number < before) {
        rollout_device_update(replay->rollout, number, &device);
        return;
    }
    rollout_device_add(replay->rollout, &device);
    if (number >= replay->known_cap) {
        replay->known_cap = replay->known_cap ? 2 * replay->known_cap : 64;
        replay->known = xrealloc(replay->known, replay->known_cap, sizeof *replay->known);
    }
    replay->known[number] = (struct known){0};
}

static int name_device(struct replay *replay, struct event_line *line, struct error *error)
{
    line->event.device = UINT32_MAX;
    if (!line->device)
        return 0;
    if (line->event.type == EVENT_BEGIN) {
        meet(replay, line);
        return 0;
    }
    line->event.device = names_find(&replay->devices, line->device, strlen(line->device));
    if (line->event.device == UINT32_MAX)
        return error_set(error, -EINVAL,
                         "device is \"%.64s\": expected one that asked with a begin before",
                         line->device);
    return 0;
}

static int check_time(const struct replay *replay, double t, struct error *error)
{
    char is[32], was[32];

    if (t >= replay->now)
        return 0;
    double_to_text(t, is);
    double_to_text(replay->now, was);
    return error_set(error, -EINVAL,
                     "t is %s: expected at least %s, the time of the event before; time does not "
                     "run backwards",
                     is, was);
}

static int check_outcome(const struct replay *replay, const struct event_line *line,
                         struct error *error)
{
    static const char *const arms[] = {[ARM_RELEASE] = "release", [ARM_PLACEBO] = "placebo"};
    const struct known *known = &replay->known[line->event.device];

    if (known->told_late)
        return error_set(error, -EINVAL,
                         "device is \"%.64s\": it has reported the outcome of its permit already, "
                         "after its deadline",
                         line->device);
    if (line->arm && known->permitted && strcmp(line->arm, arms[known->arm]) != 0)
        return error_set(error, -EINVAL, "arm is \"%s\": expected \"%s\", as it was decided",
                         line->arm, arms[known->arm]);
    return 0;
}

/* The rollout knows devices by number, persons know them by name. */
static int name_in_error(const struct event_line *line, int r, struct error *error)
{
    char head[32];
    struct error rest = *error;
    size_t len = (size_t)snprintf(head, sizeof head, "device %" PRIu32 " ", line->event.device);

    if (line->device && strncmp(rest.text, head, len) == 0)
        return error_set(error, -EINVAL, "device is \"%.64s\": it %s", line->device,
                         rest.text + len);
    return r;
}

/* The member that an event's own rule is about. */
static const char *member_of(enum rollout_event_type type)
{
    switch (type) {
    case EVENT_APPROVE:
        return "stage";
    case EVENT_HOLD:
        return "org";
    case EVENT_OUTAGE:
        return "to";
    default:
        return NULL;
    }
}

/* More than one pause may be on, so a decision alone does not tell the state. */
static void note_state(struct replay *replay)
{
    struct rollout_view view;

    if (!replay->state_moved)
        return;
    replay->state_moved = false;
    rollout_look(replay->rollout, &view);
    if (view.state != replay->state)
        replay->state_at = replay->now;
    replay->state = view.state;
}

static int take_event(struct replay *replay, const json_t *value, struct error *error)
{
    struct event_line line;
    int r;

    if ((r = event_read(value, &line, error)) < 0 ||
        (r = check_time(replay, line.event.t, error)) < 0 ||
        (r = name_device(replay, &line, error)) < 0 ||
        (line.event.type == EVENT_OUTCOME && (r = check_outcome(replay, &line, error)) < 0))
        return r;
    r = rollout_apply(replay->rollout, &line.event, note, replay, error);
    if (r == -ETIME) {
        replay->known[line.event.device].told_late = line.event.outcome != OUTCOME_INTERRUPTED;
        r = 0;
    }
    if (r < 0) {
        const char *member = member_of(line.event.type);

        return member ? error_prefix(error, r, "%s", member) : name_in_error(&line, r, error);
    }
    replay->now = line.event.t;
    note_state(replay);
    return 0;
}

static int take(struct replay *replay, const char *text, size_t len, const json_t *value,
                struct error *error)
{
    const char *event = json_string_value(json_object_get(value, "event"));

    if (!json_is_object(value))
        return error_set(error, -EINVAL, "the line is no JSON object: expected an event");
    if (json_object_get(value, "decision") && !event) {
        if (replay->calls.logged)
            replay->calls.logged(replay->calls.user, text, len);
        return 0;
    }
    if (replay->calls.event)
        replay->calls.event(replay->calls.user, text, len);
    if (!replay->rollout)
        return take_start(replay, value, error);
    if (event && strcmp(event, "start") == 0)
        return error_set(error, -EINVAL, "event is \"start\": the rollout has started already");
    return take_event(replay, value, error);
}

static bool is_blank(const char *text, size_t len)
{
    size_t i = 0;

    while (i < len && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r'))
        i++;
    return i == len;
}

int replay_line(struct replay *replay, const char *text, size_t len, struct error *error)
{
    static const char first_line[] = "line 1, ";
    _cleanup_json_ json_t *value = NULL;
    int r;

    if (replay->refused)
        return error_set(error, -EINVAL, "an earlier line was refused");
    replay->line++;
    if (is_blank(text, len))
        return 0;
    r = json_parse(text, len, &value, error);
    if (r < 0) {
        struct error parse = *error;
        size_t skip =
            strncmp(parse.text, first_line, sizeof first_line - 1) == 0 ? sizeof first_line - 1 : 0;
        error_set(error, r, "line %" PRIu64 ", %s%s", replay->line,
                  skip ? "" : "column 1: ", parse.text + skip);
    } else if ((r = take(replay, text, len, value, error)) < 0) {
        error_prefix(error, r, "line %" PRIu64 ", column %zu", replay->line,
                     line_column(text, len, error->text));
    }
    replay->refused = r < 0;
    return r < 0 ? -EINVAL : 0;
}

int replay_end(const struct replay *replay, struct error *error)
{
    if (!replay->rollout)
        return error_set(error, -EINVAL,
                         "there is no event: expected a start event, then what happened");
    return 0;
}

void replay_summary(const struct replay *replay, struct buf *ret)
{
    static const char *const states[] = {[ROLLOUT_RUNNING] = "running",
                                         [ROLLOUT_PAUSED] = "paused",
                                         [ROLLOUT_HALTED] = "halted",
                                         [ROLLOUT_DONE] = "done"};
    struct rollout_view view;

    rollout_look(replay->rollout, &view);
    buf_addf(ret, "{\"summary\":{\"state\":\"%s\"", states[view.state]);
    write_number(ret, "at", view.state == ROLLOUT_RUNNING ? replay->now : replay->state_at);
    write_count(ret, "permits", replay->permits);
    write_count(ret, "placebos", replay->placebos);
    write_count(ret, "settled", view.settled);
    write_count(ret, "failed", view.failed);
    write_number(ret, "log_e", view.state == ROLLOUT_HALTED ? replay->halt_log_e : view.log_e);
    write_count(ret, "k_release", view.k_release);
    write_count(ret, "k_placebo", view.k_placebo);
    write_number(ret, "log_split", view.log_split);
    write_count(ret, "proven_harm", view.proven_harm);
    write_text(ret, "stage", view.stage);
    buf_add_str(ret, "}}");
}
