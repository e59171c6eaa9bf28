#include "base/log.h"

#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct {
    char program[32];
    enum log_level max;
    bool journal;
    bool colour;
} state = {.program = "maeslant", .max = LOG_LEVEL_INFO};

static const struct {
    const char *name;
    const char *journal; /* sd-daemon(3) */
    const char *colour;
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error", "<3>", "\033[31m"},
    [LOG_LEVEL_WARNING] = {"warning", "<4>", "\033[33m"},
    [LOG_LEVEL_NOTICE] = {"notice", "<5>", "\033[1m"},
    [LOG_LEVEL_INFO] = {"info", "<6>", ""},
    [LOG_LEVEL_DEBUG] = {"debug", "<7>", "\033[2m"},
};

void log_init(const char *program, enum log_level max)
{
    const char *no_colour = getenv("NO_COLOR");

    (void)snprintf(state.program, sizeof(state.program), "%s", program);
    state.max = max;
    state.journal = getenv("JOURNAL_STREAM") != NULL;
    state.colour = !state.journal && isatty(STDERR_FILENO) == 1 && !(no_colour && *no_colour);
}

void log_event(enum log_level level, const char *id, const char *format, ...)
{
    char raw[2048 + 8], text[2048], line[2304], now[25];
    int saved = errno;
    va_list args;
    int len;

    if (level > state.max)
        return;
    va_start(args, format);
    len = vsnprintf(raw, sizeof(raw), format, args);
    va_end(args);
    (void)text_escape(text, sizeof(text), raw, len < 0 ? 0 : strnlen(raw, sizeof(raw)));
    if (state.journal) {
        len = snprintf(line, sizeof(line), "%s%s: %s\n", levels[level].journal, id, text);
    } else {
        clock_format(clock_ms(CLOCK_REALTIME), now);
        len = snprintf(line, sizeof(line), "%s %s%s%s %s %s: %s\n", now,
                       state.colour ? levels[level].colour : "", levels[level].name,
                       state.colour ? "\033[0m" : "", state.program, id, text);
    }
    if (len > 0) {
        size_t size = (size_t)len;

        if (size >= sizeof(line)) {
            size = sizeof(line) - 1;
            line[size - 1] = '\n';
        }
        /* One write, so that lines of several threads and processes never mix. */
        while (write(STDERR_FILENO, line, size) < 0 && errno == EINTR)
            ;
    }
    errno = saved;
}
