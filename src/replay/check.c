#include "replay/check.h"

#include "base/buf.h"
#include "replay/lines.h"
#include "replay/replay.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

struct replay_check {
    struct replay *replay;
    char **due; /* decisions of the last event, to be found in the log */
    size_t due_count, due_cap, next;
    uint64_t same;
    bool differs;
    char *logged, *recomputed; /* where they differ first */
};

/* The log went on, or ended, before all decisions of an event. */
static void finish_event(struct replay_check *check)
{
    if (check->next < check->due_count && !check->differs) {
        check->differs = true;
        check->recomputed = xstrdup(check->due[check->next]);
    }
    for (size_t i = 0; i < check->due_count; i++)
        free(check->due[i]);
    check->due_count = check->next = 0;
}

static void event(void *user, const char *text, size_t len)
{
    (void)text;
    (void)len;
    finish_event(user);
}

static void decided(void *user, const struct rollout_decision *decision, const char *device)
{
    struct replay_check *check = user;

    if (check->due_count == check->due_cap) {
        check->due_cap = check->due_cap ? 2 * check->due_cap : 16;
        check->due = xrealloc(check->due, check->due_cap, sizeof *check->due);
    }
    check->due[check->due_count++] = decision_text(decision, device);
}

static void logged(void *user, const char *text, size_t len)
{
    struct replay_check *check = user;
    char *line = xstrndup(text, len);
    const char *now = check->next < check->due_count ? check->due[check->next++] : NULL;

    if (now && decision_same(line, now)) {
        check->same++;
        free(line);
        return;
    }
    check->differs = true;
    check->logged = line;
    check->recomputed = now ? xstrdup(now) : NULL;
}

struct replay_check *replay_check_new(void)
{
    struct replay_check *check = xcalloc(1, sizeof *check);

    check->replay = replay_new(
        &(struct replay_calls){.event = event, .decide = decided, .logged = logged, .user = check});
    return check;
}

void replay_check_free(struct replay_check *check)
{
    if (!check)
        return;
    finish_event(check);
    free(check->due);
    free(check->logged);
    free(check->recomputed);
    replay_free(check->replay);
    free(check);
}

static int verdict(const struct replay_check *check, int r, struct error *error)
{
    if (!check->differs)
        return r;
    return error_set(error, -EUCLEAN, "line %" PRIu64 ": %s", replay_line_number(check->replay),
                     check->logged ? "the log's decision is not what its events give"
                                   : "the log leaves out a decision that its events give");
}

int replay_check_line(struct replay_check *check, const char *text, size_t len, struct error *error)
{
    return verdict(check, replay_line(check->replay, text, len, error), error);
}

int replay_check_end(struct replay_check *check, struct error *error)
{
    int r = replay_end(check->replay, error);

    finish_event(check);
    return verdict(check, r, error);
}

uint64_t replay_check_count(const struct replay_check *check)
{
    return check->same;
}

const char *replay_check_logged(const struct replay_check *check)
{
    return check->logged;
}

const char *replay_check_recomputed(const struct replay_check *check)
{
    return check->recomputed;
}
