/* Logging to stderr: one line an event, "<level>" prefixes under systemd, a stable message id, and
 * key=value fields. The only global state. Must never be given a secret. */
#pragma once

enum log_level {
    LOG_LEVEL_ERROR,
    LOG_LEVEL_WARNING,
    LOG_LEVEL_NOTICE,
    LOG_LEVEL_INFO,
    LOG_LEVEL_DEBUG
};

void log_init(const char *program, enum log_level max);
/* `id` is a stable lower-case message id such as "trial-reverted"; the text is one line (control
 * bytes are escaped). */
void log_event(enum log_level level, const char *id, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(id, ...) log_event(LOG_LEVEL_ERROR, id, __VA_ARGS__)
#define log_warning(id, ...) log_event(LOG_LEVEL_WARNING, id, __VA_ARGS__)
#define log_notice(id, ...) log_event(LOG_LEVEL_NOTICE, id, __VA_ARGS__)
#define log_info(id, ...) log_event(LOG_LEVEL_INFO, id, __VA_ARGS__)
#define log_debug(id, ...) log_event(LOG_LEVEL_DEBUG, id, __VA_ARGS__)
