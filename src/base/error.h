/* Errors that a person will read: one sentence with the value at fault, what was expected and,
 * where there is one, the way out. Functions return 0 or a negative errno and fill this.
 * Must never allocate. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

struct error {
    char text[768];
};

#define ERROR_INIT                                                                                 \
    {                                                                                              \
        .text = ""                                                                                 \
    }

/* Fills `error` (which may be NULL) and returns `code`, so that a caller can write
 * `return error_set(error, -EINVAL, "…")`. `code` is a negative errno. Control bytes and bytes that
 * are not UTF-8 in the finished text are shown as \xNN. */
int error_set(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "context: " before the text that is there. Returns `code`. */
int error_prefix(struct error *error, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* It does not see that the code comes back, and would follow an error's path as a success. */
#define error_set(error, code, ...) (error_set(error, code, __VA_ARGS__), (code))
#define error_prefix(error, code, ...) (error_prefix(error, code, __VA_ARGS__), (code))
#endif
