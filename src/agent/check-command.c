#include "agent/check-internal.h"

#include "base/buf.h"
#include "base/process.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_KEPT (CHECK_TAIL + 1) /* one more shows that there was more */
#define SAID_MAX 160

static void free_list(char ***list)
{
    for (char **p = *list; p && *p; p++)
        free(*p);
    free(*list);
}
#define _cleanup_list_ __attribute__((cleanup(free_list)))

static int fill_list(char *const *list, const struct check_vars *vars, char ***ret,
                     struct error *error)
{
    size_t count = 0;
    int r = 0;

    while (list[count])
        count++;
    *ret = xcalloc(count + 1, sizeof(char *));
    for (size_t i = 0; i < count && r == 0; i++)
        r = check_fill(list[i], vars, &(*ret)[i], error);
    return r;
}

/* The last bytes of `output` as text: what is neither printable nor UTF-8 becomes '?', one for one,
 * so that the tail never grows past its limit. */
static void keep_tail(const struct buf *output, char ret[static CHECK_TAIL + 1])
{
    const char *p = output->len ? output->data : "";
    const char *end = p + output->len;
    size_t len = 0;

    if (output->len > CHECK_TAIL) {
        p = end - CHECK_TAIL;
        for (int i = 0; i < 3 && ((unsigned char)*p & 0xc0) == 0x80; i++)
            p++; /* the cut went through a character */
    }
    while (p < end) {
        size_t size = utf8_sequence(p, (size_t)(end - p));
        unsigned char first = (unsigned char)*p;

        if (size > 1) {
            memcpy(ret + len, p, size);
            len += size;
            p += size;
            continue;
        }
        p++;
        if (first == '\r' && p < end && *p == '\n')
            continue;
        if (first == '\r')
            ret[len++] = '\n';
        else
            ret[len++] = first == '\n' || first == '\t' || (size && first >= ' ' && first != 0x7f)
                             ? (char)first
                             : '?';
    }
    ret[len] = '\0';
}

/* The last line that says something. */
static void last_line(const char *tail, char *ret, size_t size)
{
    size_t end = strlen(tail), start;

    while (end > 0 && strchr(" \t\n", tail[end - 1]))
        end--;
    start = end;
    while (start > 0 && tail[start - 1] != '\n')
        start--;
    (void)text_escape(ret, size, tail + start, end - start);
}

int check_command(const char *what, char *const *command, const struct check_vars *vars,
                  double timeout, int expected, int cancel_fd, struct check_result *ret,
                  struct error *error)
{
    struct process_limits limits = {.timeout = timeout, .output = MEMORY_KEPT, .keep_last = true};
    struct process_result result = {0};
    _cleanup_list_ char **argv = NULL;
    char how[128], said[SAID_MAX];
    int r = fill_list(command, vars, &argv, error);

    if (r == 0)
        r = process_run(argv, NULL, NULL, NULL, &limits, cancel_fd, &result, error);
    keep_tail(&result.output, ret->tail);
    if (r == 0) {
        ret->exit_status = result.timed_out ? -1 : result.exit_status;
        ret->signal = result.timed_out ? 0 : result.signal;
        if (result.timed_out || result.exit_status != expected) {
            process_describe(&result, how, sizeof(how));
            last_line(ret->tail, said, sizeof(said));
            r = error_set(error, result.timed_out ? -ETIMEDOUT : -EIO, "%s%s: expected exit %d%s%s",
                          what, how, expected, *said ? "; it said: " : "", said);
        }
    }
    process_result_free(&result);
    return r;
}
