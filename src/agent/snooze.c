#include "agent/snooze.h"

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/parse.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define SNOOZE_FILE_MAX 4096
/* A clock that is set back by more than this makes the end meaningless. */
#define CLOCK_SLACK_MS (5 * 60 * 1000)

static char *snooze_path(const struct paths *paths)
{
    return path_join(paths->state, "snooze");
}

static void set(json_t *object, const char *name, json_t *value)
{
    if (json_object_set_new(object, name, value) < 0)
        abort();
}

static int check_span(double seconds, double most, struct error *error)
{
    char asked[32], allowed[32];

    format_duration(seconds, asked, sizeof(asked));
    format_duration(most, allowed, sizeof(allowed));
    if (most <= 0)
        return error_set(error, -EPERM,
                         "snooze_max in agent.yaml is 0: this device is not to be "
                         "snoozed");
    if (seconds <= 0)
        return error_set(error, -EINVAL,
                         "a snooze of %s: expected a time such as 2h; end one with "
                         "maeslant-agent snooze --end",
                         asked);
    if (seconds > most)
        return error_set(error, -ERANGE, "a snooze of %s: snooze_max in agent.yaml allows %s",
                         asked, allowed);
    return 0;
}

int snooze_set(const struct paths *paths, double seconds, double most, const char *reason,
               const char *by, int64_t now_ms, struct error *error)
{
    _cleanup_free_ char *path = snooze_path(paths);
    _cleanup_free_ char *text = NULL;
    _cleanup_json_ json_t *object = json_object();
    size_t len = strlen(reason);
    int r = check_span(seconds, most, error);

    if (r < 0)
        return r;
    if (len == 0 || len > 256 || !is_text(reason, len) || strchr(reason, '\n'))
        return error_set(error, -EINVAL,
                         "the reason \"%.64s\": expected one line of 1 to 256 bytes", reason);
    set(object, "until", json_integer(now_ms + (int64_t)(seconds * 1000)));
    set(object, "since", json_integer(now_ms));
    set(object, "reason", json_string(reason));
    set(object, "by", json_string(is_name(by) && strlen(by) < 65 ? by : "unknown"));
    text = json_text(object);
    return file_write(AT_FDCWD, path, text, strlen(text), 0644, error);
}

int snooze_end(const struct paths *paths, struct error *error)
{
    _cleanup_free_ char *path = snooze_path(paths);

    return file_unlink(AT_FDCWD, path, error);
}

static int read_file(const char *path, struct snooze *ret, struct error *error)
{
    _cleanup_buf_ struct buf text = BUF_INIT;
    _cleanup_json_ json_t *object = NULL;
    const char *reason, *by;
    int r = file_read(AT_FDCWD, path, SNOOZE_FILE_MAX, &text, error);

    if (r < 0)
        return r;
    r = json_parse(text.len ? text.data : "", text.len, &object, error);
    if (r == 0)
        r = json_need_integer(object, "snooze", "until", 1, INT64_MAX / 2, &ret->until_ms, error);
    if (r == 0)
        r = json_need_integer(object, "snooze", "since", 0, INT64_MAX / 2, &ret->since_ms, error);
    if (r == 0)
        r = json_need_string(object, "snooze", "reason", sizeof(ret->reason) - 1, &reason, error);
    if (r == 0)
        r = json_need_string(object, "snooze", "by", sizeof(ret->by) - 1, &by, error);
    if (r != 0)
        return error_prefix(error, -EBADMSG, "%s", path);
    (void)snprintf(ret->reason, sizeof(ret->reason), "%s", reason);
    (void)snprintf(ret->by, sizeof(ret->by), "%s", by);
    return 0;
}

int snooze_load(const struct paths *paths, double most, int64_t now_ms, struct snooze *ret,
                struct error *error)
{
    _cleanup_free_ char *path = snooze_path(paths);
    int64_t last;
    int r;

    *ret = (struct snooze){0};
    r = read_file(path, ret, error);
    if (r < 0) {
        *ret = (struct snooze){0};
        return r == -ENOENT ? 0 : r;
    }
    last = ret->since_ms + (int64_t)(most * 1000);
    if (ret->until_ms > last)
        ret->until_ms = last;
    if (now_ms >= ret->until_ms || now_ms < ret->since_ms - CLOCK_SLACK_MS)
        *ret = (struct snooze){0};
    return 0;
}

int64_t snooze_until(const struct paths *paths, double most, int64_t now_ms, bool emergency)
{
    struct snooze snooze;

    if (emergency)
        return 0;
    return snooze_load(paths, most, now_ms, &snooze, NULL) == 0 ? snooze.until_ms : 0;
}
