#include "agent/check-internal.h"

#include "agent/check-process.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/text.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#define ACTIVE_PAUSE 0.1
#define ACTIVE_SHORTEST 0.05 /* the last look inside `within` still has a chance */
#define ACTIVE_MAX ((size_t)CHECK_TAIL)

static int run_process(const struct check *check, const struct check_vars *vars,
                       struct check_memory *memory, struct check_result *ret, struct error *error)
{
    _cleanup_free_ char *pid_file = NULL;
    _cleanup_free_ char *exit_file = NULL;
    int r = check_fill(check->pid_file, vars, &pid_file, error);

    if (r == 0 && check->exit_file)
        r = check_fill(check->exit_file, vars, &exit_file, error);
    return r == 0 ? check_process(pid_file, exit_file, memory, ret, error) : r;
}

void check_run(const struct check *check, const struct check_vars *vars,
               struct check_memory *memory, int cancel_fd, struct check_result *ret)
{
    struct error error = ERROR_INIT;
    int r = -EINVAL;

    *ret = (struct check_result){.exit_status = -1};
    switch (check->kind) {
    case CHECK_EXEC:
        r = check_command("", check->command, vars, check->timeout, check->expect_exit, cancel_fd,
                          ret, &error);
        break;
    case CHECK_HTTP:
        r = check_http(check, vars, cancel_fd, &error);
        break;
    case CHECK_TCP:
        r = check_tcp(check, vars, cancel_fd, &error);
        break;
    case CHECK_PROCESS:
        r = run_process(check, vars, memory, ret, &error);
        break;
    }
    ret->passed = r == 0;
    if (r == 0)
        (void)snprintf(ret->text, sizeof(ret->text), "passed");
    else
        (void)text_escape(ret->text, sizeof(ret->text), error.text, strlen(error.text));
}

/* 64 hex digits with white space around them. */
static int read_digest(const char *text, size_t len, char ret[static 65], struct error *error)
{
    static const char blanks[] = " \t\r\n\v\f";

    while (len > 0 && memchr(blanks, text[len - 1], sizeof(blanks) - 1))
        len--;
    while (len > 0 && memchr(blanks, *text, sizeof(blanks) - 1)) {
        text++;
        len--;
    }
    if (len == 64) {
        memcpy(ret, text, 64);
        ret[64] = '\0';
    }
    if (len != 64 || !is_digest(ret)) {
        ret[0] = '\0';
        return error_set(error, -EINVAL, "\"%.*s\": expected the release's 64 hex digits",
                         (int)(len < 80 ? len : 80), text);
    }
    return 0;
}

int check_active(const struct check *active, const struct check_vars *vars, int cancel_fd,
                 char ret[static 65], struct error *error)
{
    _cleanup_buf_ struct buf answer = BUF_INIT;
    struct check_result result;
    int r;

    ret[0] = '\0';
    if (active->kind == CHECK_EXEC) {
        r = check_command("", active->command, vars, active->timeout, 0, cancel_fd, &result, error);
        if (r == 0)
            buf_add_str(&answer, result.tail);
    } else {
        r = check_http_body(active, vars, ACTIVE_MAX, cancel_fd, &answer, error);
    }
    if (r == 0)
        r = read_digest(answer.len ? answer.data : "", answer.len, ret, error);
    return r < 0 ? error_prefix(error, r, "active") : 0;
}

static bool canceled_within(int cancel_fd, double seconds)
{
    struct pollfd fd = {.fd = cancel_fd, .events = POLLIN};

    return poll(&fd, 1, (int)(seconds * 1000)) > 0;
}

int check_active_becomes(const struct check *active, const struct check_vars *vars,
                         const char *release, int cancel_fd, struct error *error)
{
    double until = clock_now(CLOCK_MONOTONIC) + active->within;
    struct check look = *active;

    for (;;) {
        double left = until - clock_now(CLOCK_MONOTONIC);
        struct error inner = ERROR_INIT;
        char found[65];
        int r;

        if (left < look.timeout)
            look.timeout = left > ACTIVE_SHORTEST ? left : ACTIVE_SHORTEST;
        r = check_active(&look, vars, cancel_fd, found, &inner);
        if (r == 0 && strcmp(found, release) == 0)
            return 0;
        if (r == -ECANCELED)
            return error_set(error, r, "given up");
        if (clock_now(CLOCK_MONOTONIC) >= until) {
            if (r < 0)
                return error_set(error, -ETIMEDOUT, "%s, %gs after activation", inner.text,
                                 active->within);
            return error_set(error, -ETIMEDOUT,
                             "active: %.12s… still runs %gs after the activation of %.12s…", found,
                             active->within, release);
        }
        if (canceled_within(cancel_fd, ACTIVE_PAUSE))
            return error_set(error, -ECANCELED, "given up");
    }
}

const struct check *check_death(const struct manifest *manifest, const struct check_vars *vars,
                                int64_t since_ms, struct check_result *ret)
{
    for (size_t i = 0; i < manifest->probe_count; i++) {
        const struct check *probe = &manifest->probes[i];
        struct check_memory memory = {.since_ms = since_ms};

        if (probe->kind != CHECK_PROCESS)
            continue;
        check_run(probe, vars, &memory, -1, ret);
        if (ret->fatal)
            return probe;
    }
    return NULL;
}
