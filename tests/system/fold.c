/* Recomputes a rollout from its events, as any outsider can: reads the lines that `maeslant rollout
 * events` prints, gives the events to the state machine and prints each event again with the
 * decisions that follow from it, then one line that says where the rollout stands. The decisions
 * that were logged are not looked at. */
#include "base/encode.h"
#include "replay/lines.h"
#include "replay/replay.h"

#include <math.h>
#include <stdio.h>

struct fold {
    struct replay *replay;
    double most_used; /* of the window, ever */
};

static void print_event(void *user, const char *text, size_t len)
{
    (void)user;
    printf("%.*s\n", (int)len, text);
}

static void print_decision(void *user, const struct rollout_decision *decision, const char *device)
{
    _cleanup_free_ char *text = decision_text(decision, device);

    (void)user;
    puts(text);
}

static int take_line(struct fold *fold, const char *text, size_t len, struct error *error)
{
    struct rollout_view view;
    int r = replay_line(fold->replay, text, len, error);

    if (r == 0 && replay_rollout(fold->replay)) {
        rollout_look(replay_rollout(fold->replay), &view);
        fold->most_used = fmax(fold->most_used, view.window_used);
    }
    return r;
}

static void print_state(const struct fold *fold)
{
    const struct rollout *rollout = replay_rollout(fold->replay);
    static const char *const states[] = {"running", "paused", "halted", "done"};
    struct rollout_view view;
    uint8_t digest[32];
    char text[65];

    rollout_look(rollout, &view);
    rollout_fingerprint(rollout, digest);
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

int main(void)
{
    struct fold fold = {.replay = replay_new(&(struct replay_calls){.event = print_event,
                                                                    .decide = print_decision})};
    struct error error = ERROR_INIT;
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;
    int r = 0;

    while (r == 0 && (len = getline(&line, &cap, stdin)) > 0) {
        if (line[len - 1] == '\n')
            line[--len] = '\0';
        r = take_line(&fold, line, (size_t)len, &error);
    }
    if (r == 0)
        r = replay_end(fold.replay, &error);
    if (r == 0)
        print_state(&fold);
    else
        fprintf(stderr, "fold: %s\n", error.text);
    free(line);
    replay_free(fold.replay);
    return r == 0 ? 0 : 1;
}
