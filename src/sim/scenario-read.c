#include "sim/scenario-read.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/parse.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

void scenario_read_path(char *ret, size_t size, const char *where, const char *key)
{
    (void)snprintf(ret, size, "%s%s%s", where, *where && key && *key ? "." : "", key ? key : "");
}

int scenario_read_fail(struct scenario_reader *reader, const char *where, const char *key,
                       const char *format, ...)
{
    va_list arguments;
    scenario_read_path(reader->path, sizeof reader->path, where, key);
    va_start(arguments, format);
    char part[600];
    (void)vsnprintf(part, sizeof part, format, arguments);
    va_end(arguments);
    return error_set(reader->error, -EINVAL, "%s %s",
                     reader->path[0] ? reader->path : "the scenario", part);
}

/* What was found, for a sentence. */
static char *shown(const json_t *value)
{
    if (json_is_object(value))
        return xstrdup("a mapping");
    if (json_is_array(value))
        return xstrdup("a list");
    if (json_is_null(value))
        return xstrdup("empty");
    return json_text(value);
}

static int expected(struct scenario_reader *reader, const char *where, const char *key,
                    const json_t *value, const char *what)
{
    _cleanup_free_ char *text = shown(value);
    return scenario_read_fail(reader, where, key, "is %.80s: expected %s", text, what);
}

int scenario_read_object(struct scenario_reader *reader, const json_t *value, const char *where,
                         const char *const *known)
{
    const char *key;
    json_t *member;
    if (!json_is_object(value))
        return expected(reader, where, NULL, value, "a mapping");
    if (!known)
        return 0;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        const char *const *k = known;
        _cleanup_buf_ struct buf list = BUF_INIT;
        while (*k && strcmp(*k, key) != 0)
            k++;
        if (*k)
            continue;
        for (k = known; *k; k++)
            buf_addf(&list, "%s%s", k == known ? "" : ", ", *k);
        return scenario_read_fail(reader, where, key, "is not known here: expected one of %s",
                                  list.data);
    }
    return 0;
}

static int in_range(struct scenario_reader *reader, const char *where, const char *key,
                    double found, double min, double max, const char *what)
{
    if (found >= min && found <= max)
        return 0;
    return scenario_read_fail(reader, where, key, "is %.15g: expected %s", found, what);
}

int scenario_read_share(struct scenario_reader *reader, const json_t *object, const char *where,
                        const char *key, double min, double *ret)
{
    const json_t *value = json_object_get(object, key);
    const char *what = min > 0 ? "a share above 0, at most 1, such as 0.2 or 20%"
                               : "a share from 0 to 1, such as 0.2 or 20%";
    struct error ignored;
    double found;
    if (!value)
        return 0;
    if (json_is_number(value))
        found = json_number_value(value);
    else if (!json_is_string(value) || parse_share(json_string_value(value), &found, &ignored) < 0)
        return expected(reader, where, key, value, what);
    int r = in_range(reader, where, key, found, min, 1, what);
    if (r == 0)
        *ret = found;
    return r;
}

int scenario_read_duration(struct scenario_reader *reader, const json_t *object, const char *where,
                           const char *key, double min, double max, double *ret)
{
    const json_t *value = json_object_get(object, key);
    struct error ignored;
    double found;
    if (!value)
        return 0;
    if (json_is_integer(value) && json_integer_value(value) == 0)
        found = 0;
    else if (!json_is_string(value) ||
             parse_duration(json_string_value(value), &found, &ignored) < 0)
        return expected(reader, where, key, value, "a duration such as 90s, 5m or 2h");
    if (found < min || found > max) {
        char low[32], high[32];
        format_duration(min, low, sizeof low);
        format_duration(max, high, sizeof high);
        return scenario_read_fail(reader, where, key, "is %s: expected %s to %s",
                                  json_is_string(value) ? json_string_value(value) : "0", low,
                                  high);
    }
    *ret = found;
    return 0;
}

int scenario_read_number(struct scenario_reader *reader, const json_t *object, const char *where,
                         const char *key, double min, double max, double *ret)
{
    const json_t *value = json_object_get(object, key);
    char what[64];
    if (!value)
        return 0;
    (void)snprintf(what, sizeof what, "a number from %.15g to %.15g", min, max);
    if (!json_is_number(value))
        return expected(reader, where, key, value, what);
    int r = in_range(reader, where, key, json_number_value(value), min, max, what);
    if (r == 0)
        *ret = json_number_value(value);
    return r;
}

int scenario_read_count(struct scenario_reader *reader, const json_t *object, const char *where,
                        const char *key, uint64_t min, uint64_t max, uint64_t *ret)
{
    const json_t *value = json_object_get(object, key);
    char what[80];
    if (!value)
        return 0;
    (void)snprintf(what, sizeof what, "a whole number from %llu to %llu", (unsigned long long)min,
                   (unsigned long long)max);
    if (!json_is_integer(value) || json_integer_value(value) < 0 ||
        (uint64_t)json_integer_value(value) < min || (uint64_t)json_integer_value(value) > max)
        return expected(reader, where, key, value, what);
    *ret = (uint64_t)json_integer_value(value);
    return 0;
}

int scenario_read_bool(struct scenario_reader *reader, const json_t *object, const char *where,
                       const char *key, bool *ret)
{
    const json_t *value = json_object_get(object, key);
    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return expected(reader, where, key, value, "true or false");
    *ret = json_is_true(value);
    return 0;
}

int scenario_read_choice(struct scenario_reader *reader, const json_t *object, const char *where,
                         const char *key, const char *const *names, unsigned *ret)
{
    const json_t *value = json_object_get(object, key);
    _cleanup_buf_ struct buf list = BUF_INIT;
    if (!value)
        return 0;
    for (unsigned i = 0; names[i]; i++) {
        if (json_is_string(value) && strcmp(names[i], json_string_value(value)) == 0) {
            *ret = i;
            return 0;
        }
        buf_addf(&list, "%s%s", i ? ", " : "one of ", names[i]);
    }
    return expected(reader, where, key, value, list.data);
}

int scenario_read_array(struct scenario_reader *reader, const json_t *object, const char *where,
                        const char *key, const json_t **ret)
{
    *ret = json_object_get(object, key);
    if (*ret && !json_is_array(*ret))
        return expected(reader, where, key, *ret, "a list");
    return 0;
}

int scenario_read_member(struct scenario_reader *reader, const json_t *object, const char *where,
                         const char *key, const json_t **ret)
{
    *ret = json_object_get(object, key);
    if (!*ret)
        return scenario_read_fail(reader, where, NULL, "has no %s: expected it", key);
    return 0;
}
