/* Recomputes a rollout from its events, as any outsider can: reads the lines that `maeslant rollout
 * events` prints, gives the events to the state machine and prints each event again with the
 * decisions that follow from it, then one line that says where the rollout stands. The decisions
 * that were logged are not looked at. */
#include "base/buf.h"
#include "base/encode.h"
#include "replay/lines.h"
#include "server/table.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

struct known {
    char id[129];
    uint32_t number;
};

struct fold {
    struct start_line start;
    struct policy policy;
    struct rollout *rollout;
    struct table by_id;
    char (*ids)[129]; /* by number */
    size_t count;
    double most_used; /* of the window, ever */
};

static void print(void *user, const struct rollout_decision *decision)
{
    const struct fold *fold = user;
    const char *device = decision->device < fold->count ? fold->ids[decision->device] : NULL;
    _cleanup_free_ char *text = decision_text(decision, device);

    puts(text);
}

/* A begin makes a device known or brings it up to date. */
static int name_device(struct fold *fold, struct event_line *line, struct error *error)
{
    _cleanup_free_ struct rollout_attribute *attributes = NULL;
    struct rollout_device as;
    struct known *known;

    line->event.device = UINT32_MAX;
    if (!line->device)
        return 0;
    known = table_get(&fold->by_id, line->device);
    if (line->event.type == EVENT_BEGIN) {
        as = event_device(line, &attributes);
        if (known) {
            rollout_device_update(fold->rollout, known->number, &as);
        } else {
            known = xcalloc(1, sizeof *known);
            snprintf(known->id, sizeof known->id, "%s", line->device);
            known->number = rollout_device_add(fold->rollout, &as);
            table_put(&fold->by_id, known);
            fold->ids = xrealloc(fold->ids, known->number + 1, sizeof *fold->ids);
            fold->count = known->number + 1;
            snprintf(fold->ids[known->number], sizeof *fold->ids, "%s", line->device);
        }
    }
    if (!known)
        return error_set(error, -ENOENT, "device %s never began", line->device);
    line->event.device = known->number;
    return 0;
}

static int take_event(struct fold *fold, const json_t *value, struct error *error)
{
    struct rollout_view view;
    struct event_line line;
    int r;

    if (!fold->rollout) {
        r = start_read(value, &fold->start, error);
        return r < 0 ? r : start_rollout(&fold->start, &fold->policy, &fold->rollout, error);
    }
    if ((r = event_read(value, &line, error)) < 0 || (r = name_device(fold, &line, error)) < 0)
        return r;
    r = rollout_apply(fold->rollout, &line.event, print, fold, error);
    rollout_look(fold->rollout, &view);
    fold->most_used = fmax(fold->most_used, view.window_used);
    return r == -ETIME ? 0 : r;
}

static int take_line(struct fold *fold, const char *text, size_t len, struct error *error)
{
    _cleanup_json_ json_t *value = NULL;
    int r = json_parse(text, len, &value, error);

    if (r < 0 || json_object_get(value, "decision"))
        return r;
    printf("%.*s\n", (int)len, text);
    return take_event(fold, value, error);
}

static void print_state(const struct fold *fold)
{
    static const char *const states[] = {"running", "paused", "halted", "done"};
    struct rollout_view view;
    uint8_t digest[32];
    char text[65];

    rollout_look(fold->rollout, &view);
    rollout_fingerprint(fold->rollout, digest);
    hex_encode(digest, sizeof digest, text);
    _cleanup_json_ json_t *state =
        json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:s}",
                  "state", states[view.state], "permits", (json_int_t)view.permits, "placebos",
                  (json_int_t)view.placebos, "settled", (json_int_t)view.settled, "failed",
                  (json_int_t)view.failed, "healthy", (json_int_t)view.healthy, "silent",
                  (json_int_t)view.silent, "late", (json_int_t)view.late, "in_flight",
                  (json_int_t)view.in_flight, "proven_harm", (json_int_t)view.proven_harm,
                  "placebo_failed", (json_int_t)view.placebo_failed, "window", view.window,
                  "most_used", fold->most_used, "t", view.t, "fingerprint", text);
    _cleanup_free_ char *line = json_text(state);
    puts(line);
}

static void fold_free(struct fold *fold)
{
    for (size_t i = 0; i < fold->by_id.cap; i++)
        free(fold->by_id.slots[i]);
    table_free(&fold->by_id);
    free(fold->ids);
    if (fold->rollout) {
        rollout_free(fold->rollout);
        policy_free(&fold->policy);
    }
    start_free(&fold->start);
}

int main(void)
{
    struct fold fold = {0};
    struct error error = ERROR_INIT;
    char *line = NULL;
    size_t cap = 0, number = 0;
    ssize_t len;
    int r = 0;

    while (r == 0 && (len = getline(&line, &cap, stdin)) > 0) {
        number++;
        if (line[len - 1] == '\n')
            line[--len] = '\0';
        r = take_line(&fold, line, (size_t)len, &error);
    }
    if (r == 0 && !fold.rollout)
        r = error_set(&error, -EINVAL, "no start event");
    if (r == 0)
        print_state(&fold);
    else
        fprintf(stderr, "fold: line %zu: %s\n", number, error.text);
    free(line);
    fold_free(&fold);
    return r == 0 ? 0 : 1;
}
