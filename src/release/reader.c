#include "release/reader.h"

#include "base/buf.h"
#include "base/parse.h"
#include "base/yaml.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define LIST_MAX 256
#define ITEM_MAX 4096

/* Every key of the format. An object without a list takes any name. */
static const struct {
    const char *kind;
    const char *const *keys;
} known_keys[] = {
    {"", (const char *const[]){"maeslant",    "product",  "channel",  "version",  "sequence",
                               "description", "requires", "provides", "critical", "permissions",
                               "repairs",     "state",    "adapter",  "active",   "probes",
                               "lab",         "exclude",  "policy",   "payload",  NULL}},
    {"state", (const char *const[]){"paths", "on_revert", NULL}},
    {"adapter",
     (const char *const[]){"kind", "activate", "mode", "timeout", "deactivate", "disturbs", NULL}},
    {"active", (const char *const[]){"kind", "command", "url", "timeout", "within", NULL}},
    {"probes",
     (const char *const[]){"name",     "kind",    "interval",      "timeout",       "grace",
                           "failures", "command", "expect_exit",   "url",           "method",
                           "headers",  "body",    "expect_status", "expect_header", "expect_body",
                           "host",     "port",    "pid_file",      "exit_file",     NULL}},
    {"lab", (const char *const[]){"validate", "load", NULL}},
    {"lab.validate",
     (const char *const[]){"command", "timeout", "memory", "output", "file_size", NULL}},
    {"lab.load",
     (const char *const[]){"command", "timeout", "memory", "output", "file_size", NULL}},
    {"payload", (const char *const[]){"sha256", "size", "unpacked", "files", NULL}},
    {"requires", NULL},
    {"provides", NULL},
    {"exclude", NULL},
    {"policy", NULL},
    {"probes.headers", NULL},
    {"probes.expect_header", NULL},
};

static bool is_known(const char *kind, size_t kind_len, const char *key)
{
    for (size_t i = 0; i < ARRAY_SIZE(known_keys); i++) {
        const char *const *keys = known_keys[i].keys;

        if (strlen(known_keys[i].kind) != kind_len ||
            memcmp(known_keys[i].kind, kind, kind_len) != 0)
            continue;
        if (!keys)
            return true;
        for (; *keys; keys++)
            if (strcmp(*keys, key) == 0)
                return true;
        return false;
    }
    return false;
}

static char *member_path(const char *object, const char *key)
{
    if (!key)
        return xstrdup(object);
    if (object[0] == '\0' || key[0] == '[')
        return xasprintf("%s%s", object, key);
    return xasprintf("%s.%s", object, key);
}

/* The place of the nearest part of `path` that is in the text. */
static void locate(const struct reader *reader, const char *path, unsigned *line, unsigned *column)
{
    _cleanup_free_ char *part = xstrdup(path);

    *line = *column = 0;
    while (part[0] != '\0') {
        char *dot = strrchr(part, '.'), *bracket = strrchr(part, '[');

        yaml_locate(reader->text, reader->len, part, line, column);
        if (*line > 0)
            return;
        if (bracket > dot)
            *bracket = '\0';
        else if (dot)
            *dot = '\0';
        else
            part[0] = '\0';
    }
    *line = *column = 1;
}

bool reader_ok(const struct object *object)
{
    return object->reader->result == 0;
}

void reader_fail(const struct object *object, const char *key, int code, const char *format, ...)
{
    struct reader *reader = object->reader;
    _cleanup_free_ char *path = member_path(object->path, key);
    char sentence[sizeof(reader->error->text)];
    unsigned line, column;
    va_list args;

    if (reader->result < 0)
        return;
    va_start(args, format);
    (void)vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    locate(reader, path, &line, &column);
    reader->result = error_set(reader->error, code, "manifest line %u, column %u: %.200s%s%s", line,
                               column, path, path[0] != '\0' ? ": " : "", sentence);
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "a map";
    case JSON_ARRAY:
        return "a list";
    case JSON_STRING:
        return "text";
    case JSON_INTEGER:
        return "an integer";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "true or false";
    default:
        return "nothing";
    }
}

/* The member, or NULL when it is absent (a failure when needed) or something failed before. */
static const json_t *member(const struct object *object, const char *key, enum need need)
{
    const json_t *value;

    if (!reader_ok(object))
        return NULL;
    value = object->json ? json_object_get(object->json, key) : NULL;
    if (json_is_null(value))
        value = NULL;
    if (!value && need == NEED)
        reader_fail(object, key, -EINVAL, "is missing; it has no default");
    return value;
}

void read_object(const struct object *object, const char *key, enum need need, const char *kind,
                 struct object *ret)
{
    const json_t *value = member(object, key, need);
    _cleanup_free_ char *path = member_path(object->path, key);

    *ret = (struct object){.reader = object->reader, .kind = kind};
    (void)snprintf(ret->path, sizeof(ret->path), "%s", path);
    if (!value)
        return;
    if (!json_is_object(value)) {
        reader_fail(object, key, -EINVAL, "is %s, a map was expected", type_name(value));
        return;
    }
    ret->json = value;
    reader_only(ret);
}

char *reader_scalar(const struct object *object, const char *key, const json_t *value, size_t max)
{
    const char *text;

    if (json_is_integer(value))
        return xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_real(value)) {
        reader_fail(object, key, -EINVAL,
                    "%.17g is a number with a fraction, where 1.10 and 1.1 are the same; put the "
                    "value in quotes",
                    json_real_value(value));
        return NULL;
    }
    if (!json_is_string(value)) {
        reader_fail(object, key, -EINVAL, "is %s, text was expected%s", type_name(value),
                    json_is_boolean(value) ? "; put it in quotes" : "");
        return NULL;
    }
    text = json_string_value(value);
    if (strlen(text) > max) {
        reader_fail(object, key, -EINVAL, "\"%.40s…\" has %zu bytes, at most %zu are allowed", text,
                    strlen(text), max);
        return NULL;
    }
    if (strlen(text) != json_string_length(value) || !is_text(text, strlen(text))) {
        reader_fail(object, key, -EINVAL,
                    "\"%.80s\" holds control bytes; expected UTF-8 text without them", text);
        return NULL;
    }
    return xstrdup(text);
}

void read_text(const struct object *object, const char *key, enum need need, size_t max, char **ret)
{
    const json_t *value = member(object, key, need);

    if (value)
        *ret = reader_scalar(object, key, value, max);
}

void read_name(const struct object *object, const char *key, enum need need, char **ret)
{
    read_text(object, key, need, ITEM_MAX, ret);
    if (*ret && reader_ok(object) && !is_name(*ret))
        reader_fail(object, key, -EINVAL,
                    "\"%.80s\" is no name; expected 1 to 128 bytes of letters, digits and ._+- "
                    "that do not start with . or -",
                    *ret);
}

static void add_list(struct buf *buf, const char *const *items)
{
    for (size_t i = 0; items[i]; i++)
        buf_addf(buf, "%s%s", i == 0 ? "" : items[i + 1] ? ", " : " or ", items[i]);
}

void read_choice(const struct object *object, const char *key, enum need need,
                 const char *const *choices, int *ret)
{
    const json_t *value = member(object, key, need);
    _cleanup_free_ char *text = NULL;
    _cleanup_buf_ struct buf list = BUF_INIT;

    if (!value || !(text = reader_scalar(object, key, value, ITEM_MAX)))
        return;
    for (int i = 0; choices[i]; i++)
        if (strcmp(choices[i], text) == 0) {
            *ret = i;
            return;
        }
    add_list(&list, choices);
    if (object->reader->mode == MANIFEST_DEVICE)
        reader_fail(object, key, -EPROTONOSUPPORT,
                    "\"%.80s\" is not known to this agent, which knows %s; a newer agent may", text,
                    list.data);
    else
        reader_fail(object, key, -EINVAL, "\"%.80s\" is not known; expected %s", text, list.data);
}

void read_bool(const struct object *object, const char *key, bool *ret)
{
    const json_t *value = member(object, key, MAY);

    if (!value)
        return;
    if (!json_is_boolean(value)) {
        reader_fail(object, key, -EINVAL, "is %s, true or false was expected", type_name(value));
        return;
    }
    *ret = json_is_true(value);
}

void read_integer(const struct object *object, const char *key, enum need need, int64_t min,
                  int64_t max, int64_t *ret)
{
    const json_t *value = member(object, key, need);

    if (!value)
        return;
    if (!json_is_integer(value)) {
        reader_fail(object, key, -EINVAL, "is %s, an integer was expected", type_name(value));
        return;
    }
    *ret = json_integer_value(value);
    if (*ret < min || *ret > max)
        reader_fail(object, key, -EINVAL,
                    "%" PRId64 " is out of range; expected %" PRId64 " to %" PRId64, *ret, min,
                    max);
}

/* A number is read as its text, so that the reader of durations can say what is wrong with it. */
static char *quantity(const struct object *object, const char *key)
{
    const json_t *value = member(object, key, MAY);

    if (!value)
        return NULL;
    if (json_is_real(value))
        return xasprintf("%g", json_real_value(value));
    return reader_scalar(object, key, value, ITEM_MAX);
}

void read_duration(const struct object *object, const char *key, double min, double max,
                   double *ret)
{
    _cleanup_free_ char *text = quantity(object, key);
    struct error error = ERROR_INIT;
    char low[32], high[32];

    if (!text)
        return;
    if (parse_duration(text, ret, &error) < 0) {
        reader_fail(object, key, -EINVAL, "%s", error.text);
        return;
    }
    if (*ret >= min && *ret <= max)
        return;
    format_duration(min, low, sizeof(low));
    format_duration(max, high, sizeof(high));
    reader_fail(object, key, -EINVAL, "\"%.40s\" is out of range; expected %s to %s", text, low,
                high);
}

void read_size(const struct object *object, const char *key, uint64_t min, uint64_t max,
               uint64_t *ret)
{
    _cleanup_free_ char *text = quantity(object, key);
    struct error error = ERROR_INIT;

    if (!text)
        return;
    if (parse_size(text, ret, &error) < 0)
        reader_fail(object, key, -EINVAL, "%s", error.text);
    else if (*ret < min || *ret > max)
        reader_fail(object, key, -EINVAL,
                    "\"%.40s\" is out of range; expected %" PRIu64 " to %" PRIu64 " bytes", text,
                    min, max);
}

void read_list(const struct object *object, const char *key, enum need need, char ***ret)
{
    const json_t *value = member(object, key, need), *item;
    size_t count, i;
    char **list;

    if (!value)
        return;
    if (!json_is_array(value)) {
        reader_fail(object, key, -EINVAL, "is %s, a list was expected", type_name(value));
        return;
    }
    count = json_array_size(value);
    if (count > LIST_MAX) {
        reader_fail(object, key, -EINVAL, "has %zu items, at most %d are allowed", count, LIST_MAX);
        return;
    }
    text_list_free(*ret); /* an empty default */
    *ret = list = xcalloc(count + 1, sizeof(*list));
    json_array_foreach(value, i, item)
    {
        _cleanup_free_ char *place = xasprintf("%s[%zu]", key, i);

        list[i] = reader_scalar(object, place, item, ITEM_MAX);
        if (!list[i])
            return;
    }
}

void text_list_free(char **list)
{
    for (char **item = list; item && *item; item++)
        free(*item);
    free(list);
}

void read_command(const struct object *object, const char *key, enum need need, char ***ret)
{
    read_list(object, key, need, ret);
    if (!reader_ok(object) || !*ret)
        return;
    if (!(*ret)[0] || (*ret)[0][0] == '\0')
        reader_fail(object, key, -EINVAL,
                    "names no program; expected a list with the program and its arguments");
}

void read_pairs(const struct object *object, const char *key, struct pair_text **ret,
                size_t *ret_count)
{
    const json_t *value = member(object, key, MAY), *item;
    const char *name;
    size_t count = 0;

    if (!value)
        return;
    if (!json_is_object(value)) {
        reader_fail(object, key, -EINVAL, "is %s, a map was expected", type_name(value));
        return;
    }
    if (json_object_size(value) > LIST_MAX) {
        reader_fail(object, key, -EINVAL, "has %zu members, at most %d are allowed",
                    json_object_size(value), LIST_MAX);
        return;
    }
    *ret = xcalloc(json_object_size(value) + 1, sizeof(**ret));
    json_object_foreach((json_t *)value, name, item)
    {
        _cleanup_free_ char *place = xasprintf("%s.%s", key, name);

        (*ret)[count].value = reader_scalar(object, place, item, ITEM_MAX);
        if (!(*ret)[count].value)
            return;
        (*ret)[count].name = xstrdup(name);
        *ret_count = ++count;
    }
}

void reader_only(const struct object *object)
{
    const struct reader *reader = object->reader;
    const char *key;
    const json_t *value;

    if (reader->mode == MANIFEST_DEVICE || !reader_ok(object))
        return;
    json_object_foreach((json_t *)object->json, key, value)
    {
        _cleanup_free_ char *path = member_path(object->kind, key);
        bool critical = false;

        for (char **name = reader->critical; name && *name; name++)
            critical = critical || strcmp(*name, path) == 0;
        if (!critical && !is_known(object->kind, strlen(object->kind), key))
            reader_fail(object, key, -EINVAL,
                        "is no key of the manifest; check its spelling, or name it in critical "
                        "when only newer agents know it");
    }
}

/* Whether the manifest has a key at `path` ("probes.kind": in any probe). */
static bool is_there(const json_t *value, const char *path)
{
    const char *dot = strchr(path, '.');
    _cleanup_free_ char *key = dot ? xstrndup(path, (size_t)(dot - path)) : xstrdup(path);

    if (json_is_array(value)) {
        const json_t *item;
        size_t i;

        json_array_foreach(value, i, item) if (is_there(item, path)) return true;
        return false;
    }
    value = json_object_get(value, key);
    return value && (!dot || is_there(value, dot + 1));
}

void reader_critical(const struct object *root)
{
    const struct reader *reader = root->reader;

    for (size_t i = 0; reader->critical && reader->critical[i]; i++) {
        const char *path = reader->critical[i], *dot = strrchr(path, '.');
        _cleanup_free_ char *place = xasprintf("critical[%zu]", i);
        const char *key = dot ? dot + 1 : path;

        if (reader->mode != MANIFEST_DEVICE) {
            if (!is_there(reader->root, path))
                reader_fail(root, place, -EINVAL,
                            "\"%.80s\" is no key of this manifest; expected one that it has, such "
                            "as adapter or probes.kind",
                            path);
        } else if (!is_known(path, dot ? (size_t)(dot - path) : 0, key)) {
            reader_fail(root, place, -EPROTONOSUPPORT,
                        "this agent does not know \"%.80s\", which the release needs; a newer "
                        "agent may",
                        path);
        }
    }
}
