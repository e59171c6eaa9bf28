#include "base/json.h"

#include "base/buf.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

/* What jansson is lenient about: it goes down to 2048 levels, and takes a NUL byte behind the value
 * for the end. Looks only at brackets outside strings; the rest is left to it. */
static int check_bytes(const char *text, size_t len, struct error *error)
{
    size_t depth = 0;
    unsigned line = 1, column = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (((unsigned char)c & 0xc0) != 0x80)
            column++;
        if (c == '\n') {
            line++;
            column = 0;
        } else if (c == '\0') {
            return error_set(error, -EINVAL,
                             "line %u, column %u: not valid JSON: a NUL byte: expected text", line,
                             column);
        } else if (in_string) {
            if (c == '\\' && i + 1 < len && text[i + 1] != '\n' && text[i + 1] != '\0') {
                i++;
                column++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > JSON_MAX_DEPTH)
                return error_set(error, -EINVAL, "line %u, column %u: nested deeper than %d levels",
                                 line, column, JSON_MAX_DEPTH);
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return 0;
}

int json_parse(const char *text, size_t len, json_t **ret, struct error *error)
{
    json_error_t why;
    json_t *value;
    int r = check_bytes(text, len, error);

    if (r < 0)
        return r;
    value = json_loadb(text ? text : "", len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
    if (!value) {
        if (why.line < 1)
            return error_set(error, -EINVAL, "not valid JSON: %s", why.text);
        return error_set(error, -EINVAL, "line %d, column %d: not valid JSON: %s", why.line,
                         why.column, why.text);
    }
    *ret = value;
    return 0;
}

static const char *type_name(json_type type)
{
    switch (type) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    case JSON_NULL:
        return "null";
    }
    return "a value";
}

/* The value as it may stand in a sentence: short ones in full, lists and objects by their kind. */
static void show(const json_t *value, char *ret_text, size_t size)
{
    _cleanup_free_ char *text = NULL;
    const char *name;

    if (json_is_object(value) || json_is_array(value)) {
        name = type_name(json_typeof(value));
        (void)text_escape(ret_text, size, name, strlen(name));
        return;
    }
    text = json_text(value);
    (void)text_escape(ret_text, size, text, strlen(text));
}

static const char *dotted(const char *where)
{
    return where && *where ? where : NULL;
}

static int missing(const char *where, const char *key, const char *expected, struct error *error)
{
    if (!dotted(where))
        return error_set(error, -EINVAL, "\"%s\" is missing: expected %s", key, expected);
    return error_set(error, -EINVAL, "%s: \"%s\" is missing: expected %s", where, key, expected);
}

static int wrong(const char *where, const char *key, const json_t *value, const char *expected,
                 struct error *error)
{
    char text[80];

    show(value, text, sizeof(text));
    return error_set(error, -EINVAL, "%s%s%s is %s: expected %s", dotted(where) ? where : "",
                     dotted(where) ? "." : "", key, text, expected);
}

static int get_string(const json_t *object, const char *where, const char *key, size_t max_len,
                      bool need, const char **ret, struct error *error)
{
    const json_t *value = json_object_get(object, key);
    _cleanup_free_ char *expected = NULL;

    if (json_is_string(value) && json_string_length(value) <= max_len &&
        strlen(json_string_value(value)) == json_string_length(value)) {
        *ret = json_string_value(value);
        return 0;
    }
    if (!value && !need)
        return 0;
    expected = xasprintf("a string of at most %zu bytes", max_len);
    return value ? wrong(where, key, value, expected, error) : missing(where, key, expected, error);
}

int json_need_string(const json_t *object, const char *where, const char *key, size_t max_len,
                     const char **ret, struct error *error)
{
    return get_string(object, where, key, max_len, true, ret, error);
}

int json_may_string(const json_t *object, const char *where, const char *key, size_t max_len,
                    const char **ret, struct error *error)
{
    return get_string(object, where, key, max_len, false, ret, error);
}

static int get_integer(const json_t *object, const char *where, const char *key, int64_t min,
                       int64_t max, bool need, int64_t *ret, struct error *error)
{
    const json_t *value = json_object_get(object, key);
    _cleanup_free_ char *expected = NULL;

    if (json_is_integer(value) && json_integer_value(value) >= min &&
        json_integer_value(value) <= max) {
        *ret = json_integer_value(value);
        return 0;
    }
    if (!value && !need)
        return 0;
    expected = xasprintf("a whole number from %lld to %lld", (long long)min, (long long)max);
    return value ? wrong(where, key, value, expected, error) : missing(where, key, expected, error);
}

int json_need_integer(const json_t *object, const char *where, const char *key, int64_t min,
                      int64_t max, int64_t *ret, struct error *error)
{
    return get_integer(object, where, key, min, max, true, ret, error);
}

int json_may_integer(const json_t *object, const char *where, const char *key, int64_t min,
                     int64_t max, int64_t *ret, struct error *error)
{
    return get_integer(object, where, key, min, max, false, ret, error);
}

int json_may_number(const json_t *object, const char *where, const char *key, double min,
                    double max, double *ret, struct error *error)
{
    const json_t *value = json_object_get(object, key);
    _cleanup_free_ char *expected = NULL;
    char low[32], high[32];

    if (!value)
        return 0;
    if (json_is_number(value) && json_number_value(value) >= min &&
        json_number_value(value) <= max) {
        *ret = json_number_value(value);
        return 0;
    }
    double_to_text(min, low);
    double_to_text(max, high);
    expected = xasprintf("a number from %s to %s", low, high);
    return wrong(where, key, value, expected, error);
}

int json_may_bool(const json_t *object, const char *where, const char *key, bool *ret,
                  struct error *error)
{
    const json_t *value = json_object_get(object, key);

    if (!value)
        return 0;
    if (!json_is_boolean(value))
        return wrong(where, key, value, "true or false", error);
    *ret = json_is_true(value);
    return 0;
}

/* JSON_TRUE and JSON_FALSE both stand for a boolean, JSON_REAL for any number. */
static bool is_of_type(const json_t *value, json_type type)
{
    switch (type) {
    case JSON_TRUE:
    case JSON_FALSE:
        return json_is_boolean(value);
    case JSON_REAL:
        return json_is_number(value);
    default:
        return json_typeof(value) == type;
    }
}

int json_may(const json_t *object, const char *where, const char *key, json_type type,
             const json_t **ret, struct error *error)
{
    const json_t *value = json_object_get(object, key);

    if (!value)
        return 0;
    if (!is_of_type(value, type))
        return wrong(where, key, value, type_name(type), error);
    *ret = value;
    return 0;
}

int json_need(const json_t *object, const char *where, const char *key, json_type type,
              const json_t **ret, struct error *error)
{
    if (!json_object_get(object, key))
        return missing(where, key, type_name(type), error);
    return json_may(object, where, key, type, ret, error);
}

int json_only(const json_t *object, const char *where, const char *const *known,
              struct error *error)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        _cleanup_buf_ struct buf list = BUF_INIT;
        const char *const *k = known;

        while (*k && strcmp(*k, key) != 0)
            k++;
        if (*k)
            continue;
        for (k = known; *k; k++)
            buf_addf(&list, "%s%s", k == known ? "" : ", ", *k);
        return error_set(error, -EINVAL, "%s%s\"%.64s\" is not known here: expected %s%s",
                         dotted(where) ? where : "", dotted(where) ? ": " : "", key,
                         list.len ? "one of " : "no members", list.len ? list.data : "");
    }
    return 0;
}
