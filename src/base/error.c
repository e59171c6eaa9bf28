#include "base/error.h"

#include "base/text.h"

#include <stdio.h>
#include <string.h>

#undef error_set /* the analyzer's */
#undef error_prefix

enum { TEXT_SIZE = sizeof(((struct error *)0)->text) };

static size_t finished_length(int wanted, size_t size)
{
    if (wanted < 0)
        return 0;
    return (size_t)wanted < size ? (size_t)wanted : size - 1;
}

int error_set(struct error *error, int code, const char *format, ...)
{
    char raw[TEXT_SIZE + 8]; /* longer than the text, so that a cut shows as "…" */
    va_list args;
    int len;

    if (!error)
        return code;
    /* The arguments may point into error->text. */
    va_start(args, format);
    len = vsnprintf(raw, sizeof(raw), format, args);
    va_end(args);
    (void)text_escape(error->text, TEXT_SIZE, raw, finished_length(len, sizeof(raw)));
    return code;
}

int error_prefix(struct error *error, int code, const char *format, ...)
{
    char raw[2 * TEXT_SIZE];
    va_list args;
    size_t used;
    int len;

    if (!error)
        return code;
    va_start(args, format);
    len = vsnprintf(raw, TEXT_SIZE, format, args);
    va_end(args);
    used = finished_length(len, TEXT_SIZE);
    len = snprintf(raw + used, sizeof(raw) - used, ": %s", error->text);
    used += finished_length(len, sizeof(raw) - used);
    (void)text_escape(error->text, TEXT_SIZE, raw, used);
    return code;
}
