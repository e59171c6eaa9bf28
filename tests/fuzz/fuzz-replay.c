/* Event files, as maeslant replay reads them: every line is taken or refused with line and column,
 * and what was taken is the same when it is told again. */
#include "fuzz.h"

#include "replay/check.h"
#include "replay/lines.h"
#include "replay/replay.h"

#include <string.h>

#define PREFIX "line "

static void event(void *user, const char *text, size_t len)
{
    buf_add(user, text, len);
    buf_add(user, "\n", 1);
}

static void decide(void *user, const struct rollout_decision *decision, const char *device)
{
    _cleanup_free_ char *listed = decision_text_listed(decision, device);
    _cleanup_free_ char *text = decision_text(decision, device);

    must(text != NULL && (!listed || strncmp(listed, text, 8) == 0));
    buf_add_str(user, text);
    buf_add(user, "\n", 1);
}

/* Calls `line` for each line; where it stopped, or NULL. */
static const char *each_line(const char *text, size_t len,
                             int (*line)(void *user, const char *text, size_t len,
                                         struct error *error),
                             void *user, struct error *error)
{
    const char *end = text + len;

    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        size_t count = (size_t)((stop ? stop : end) - text);

        if (line(user, text, count, error) < 0)
            return text;
        text += count + 1;
    }
    return NULL;
}

static int take(void *user, const char *text, size_t len, struct error *error)
{
    return replay_line(user, text, len, error);
}

static int check(void *user, const char *text, size_t len, struct error *error)
{
    return replay_check_line(user, text, len, error);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf log = BUF_INIT, summary = BUF_INIT;
    struct error error = ERROR_INIT;
    struct replay *replay =
        replay_new(&(struct replay_calls){.event = event, .decide = decide, .user = &log});
    const char *stopped = each_line((const char *)data, size, take, replay, &error);

    if (stopped) {
        must(strncmp(error.text, PREFIX, sizeof PREFIX - 1) == 0);
        must(strstr(error.text, ", column ") != NULL);
        must(replay_line(replay, "", 0, &error) < 0);
    } else if (replay_end(replay, &error) == 0) {
        struct replay_check *again = replay_check_new();

        replay_summary(replay, &summary);
        must(!each_line(log.data, log.len, check, again, &error));
        must(replay_check_end(again, &error) == 0);
        replay_check_free(again);
    }
    replay_free(replay);
    return 0;
}
