#include "base/yaml.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/text.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#define YAML_MAX_SIZE (1024 * 1024)

static void cleanup_parser(yaml_parser_t *parser)
{
    yaml_parser_delete(parser);
}
static void cleanup_event(yaml_event_t *event)
{
    yaml_event_delete(event);
}
#define _cleanup_parser_ __attribute__((cleanup(cleanup_parser)))
#define _cleanup_event_ __attribute__((cleanup(cleanup_event)))

static void start(yaml_parser_t *parser, const char *text, size_t len)
{
    /* libyaml counts a byte order mark as a column, and the first key is then indented. */
    if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) {
        text += 3;
        len -= 3;
    }
    if (!yaml_parser_initialize(parser))
        abort();
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(parser, (const unsigned char *)text, len);
}

static int fail_at(yaml_mark_t mark, struct error *error, const char *why)
{
    return error_set(error, -EINVAL, "line %zu, column %zu: %s", mark.line + 1, mark.column + 1,
                     why);
}

static int next(yaml_parser_t *parser, yaml_event_t *ret_event, struct error *error)
{
    if (yaml_parser_parse(parser, ret_event))
        return 0;
    if (parser->error == YAML_MEMORY_ERROR)
        abort();
    return error_set(error, -EINVAL, "line %zu, column %zu: not valid YAML: %s%s%s",
                     parser->problem_mark.line + 1, parser->problem_mark.column + 1,
                     parser->problem ? parser->problem : "unreadable", parser->context ? ", " : "",
                     parser->context ? parser->context : "");
}

static int bad_byte(size_t line, size_t column, unsigned char byte, const char *why,
                    struct error *error)
{
    return error_set(error, -EINVAL, "line %zu, column %zu: not valid YAML: the byte 0x%02x %s",
                     line, column, byte, why);
}

/* libyaml would say only at which byte. Stricter than it: the breaks of YAML 1.1 that 1.2 takes for
 * letters (U+0085, U+2028, U+2029) and byte order marks behind the start. */
static int check_bytes(const char *text, size_t len, struct error *error)
{
    size_t line = 1, column = 1;

    assert(text || len == 0);
    for (size_t i = 0; i < len;) {
        const char *p = text + i;
        size_t step = utf8_sequence(p, len - i);
        unsigned char c = (unsigned char)*p;

        if (step == 0)
            return bad_byte(line, column, c, "is not UTF-8", error);
        if ((c < 0x20 && !memchr("\t\n\r", c, 3)) || c == 0x7f ||
            (c == 0xc2 && (unsigned char)p[1] < 0xa0))
            return bad_byte(line, column, c, "belongs to a control character", error);
        if (step == 3 && (memcmp(p, "\u2028", 3) == 0 || memcmp(p, "\u2029", 3) == 0 ||
                          (i > 0 && memcmp(p, "\xef\xbb\xbf", 3) == 0)))
            return bad_byte(line, column, c,
                            "begins a line separator or byte order mark: in quotes, write it as "
                            "\\u2028, \\u2029 or \\ufeff",
                            error);
        column++;
        if (c == '\n') {
            line++;
            column = 1;
        }
        i += step;
    }
    return 0;
}

/* A plain scalar by the JSON rules; an empty one is null, as in every YAML. */
static int plain_value(const char *text, size_t len, yaml_mark_t mark, json_t **ret,
                       struct error *error)
{
    bool integer = false;

    if (len == 0 || strcmp(text, "null") == 0) {
        *ret = json_null();
    } else if (strcmp(text, "true") == 0) {
        *ret = json_true();
    } else if (strcmp(text, "false") == 0) {
        *ret = json_false();
    } else if (number_length(text, &integer) == len && integer) {
        long long value;

        errno = 0;
        value = strtoll(text, NULL, 10);
        if (errno != 0)
            return error_set(error, -EINVAL,
                             "line %zu, column %zu: %.64s does not fit into 64 bits: put it in "
                             "quotes if it is a text",
                             mark.line + 1, mark.column + 1, text);
        *ret = json_integer(value);
    } else if (number_length(text, NULL) == len) {
        double value = text_to_double(text, NULL);

        if (!isfinite(value))
            return error_set(error, -EINVAL, "line %zu, column %zu: %.64s is too large a number",
                             mark.line + 1, mark.column + 1, text);
        *ret = json_real(value);
    } else {
        *ret = json_stringn(text, len);
    }
    return 0;
}

static int check_properties(const yaml_event_t *event, struct error *error)
{
    const unsigned char *anchor = NULL, *tag = NULL;

    switch (event->type) {
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    case YAML_ALIAS_EVENT:
        return fail_at(event->start_mark, error,
                       "aliases (*name) are not allowed: write the value out");
    default:
        break;
    }
    if (anchor)
        return fail_at(event->start_mark, error,
                       "anchors (&name) are not allowed: write the value out where it is needed");
    if (tag)
        return fail_at(event->start_mark, error,
                       "tags (!name) are not allowed: quotes make a string");
    return 0;
}

static int scalar_value(const yaml_event_t *event, json_t **ret, struct error *error)
{
    const char *text = (const char *)event->data.scalar.value;
    size_t len = event->data.scalar.length;
    int r = 0;

    if (memchr(text, '\0', len))
        return fail_at(event->start_mark, error, "NUL bytes are not allowed in strings");
    if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
        r = plain_value(text, len, event->start_mark, ret, error);
    else
        *ret = json_stringn(text, len);
    if (r == 0 && !*ret)
        return fail_at(event->start_mark, error, "the string is not valid UTF-8");
    return r;
}

static int check_key(const json_t *object, const yaml_event_t *event, struct error *error)
{
    _cleanup_json_ json_t *key = NULL;
    int r;

    if (event->type != YAML_SCALAR_EVENT)
        return fail_at(event->start_mark, error, "a key must be a plain string");
    r = scalar_value(event, &key, error);
    if (r < 0)
        return r;
    if (!json_is_string(key))
        return error_set(
            error, -EINVAL,
            "line %zu, column %zu: the key \"%.64s\" is not a string: put it in quotes",
            event->start_mark.line + 1, event->start_mark.column + 1, event->data.scalar.value);
    if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
        strcmp(json_string_value(key), "<<") == 0)
        return fail_at(event->start_mark, error, "merge keys (<<) are not allowed");
    if (json_object_get(object, json_string_value(key)))
        return error_set(error, -EINVAL, "line %zu, column %zu: the key \"%.64s\" is there twice",
                         event->start_mark.line + 1, event->start_mark.column + 1,
                         json_string_value(key));
    return 0;
}

static int read_node(yaml_parser_t *parser, const yaml_event_t *first, unsigned depth, json_t **ret,
                     struct error *error);

static int read_list(yaml_parser_t *parser, unsigned depth, json_t **ret, struct error *error)
{
    _cleanup_json_ json_t *list = json_array();

    for (;;) {
        _cleanup_event_ yaml_event_t event = {0};
        json_t *item = NULL;
        int r = next(parser, &event, error);

        if (r < 0)
            return r;
        if (event.type == YAML_SEQUENCE_END_EVENT)
            break;
        r = read_node(parser, &event, depth, &item, error);
        if (r < 0)
            return r;
        if (json_array_append_new(list, item) < 0)
            abort();
    }
    *ret = json_incref(list);
    return 0;
}

static int read_object(yaml_parser_t *parser, unsigned depth, json_t **ret, struct error *error)
{
    _cleanup_json_ json_t *object = json_object();

    for (;;) {
        _cleanup_event_ yaml_event_t key = {0};
        _cleanup_event_ yaml_event_t event = {0};
        json_t *value = NULL;
        int r = next(parser, &key, error);

        if (r < 0)
            return r;
        if (key.type == YAML_MAPPING_END_EVENT)
            break;
        r = check_properties(&key, error);
        if (r == 0)
            r = check_key(object, &key, error);
        if (r == 0)
            r = next(parser, &event, error);
        if (r == 0)
            r = read_node(parser, &event, depth, &value, error);
        if (r < 0)
            return r;
        if (json_object_set_new(object, (const char *)key.data.scalar.value, value) < 0)
            abort();
    }
    *ret = json_incref(object);
    return 0;
}

static int read_node(yaml_parser_t *parser, const yaml_event_t *first, unsigned depth, json_t **ret,
                     struct error *error)
{
    int r = check_properties(first, error);

    if (r < 0)
        return r;
    if (first->type == YAML_SCALAR_EVENT)
        return scalar_value(first, ret, error);
    if (depth >= JSON_MAX_DEPTH)
        return error_set(error, -EINVAL, "line %zu, column %zu: nested deeper than %d levels",
                         first->start_mark.line + 1, first->start_mark.column + 1, JSON_MAX_DEPTH);
    if (first->type == YAML_SEQUENCE_START_EVENT)
        return read_list(parser, depth + 1, ret, error);
    return read_object(parser, depth + 1, ret, error);
}

/* Reads up to the first event of the document's root. */
static int open_document(yaml_parser_t *parser, yaml_event_t *ret_root, struct error *error)
{
    _cleanup_event_ yaml_event_t stream = {0};
    _cleanup_event_ yaml_event_t document = {0};
    int r = next(parser, &stream, error);

    if (r == 0)
        r = next(parser, &document, error);
    if (r < 0)
        return r;
    if (document.type == YAML_STREAM_END_EVENT)
        return fail_at(document.start_mark, error, "the file is empty");
    if (document.data.document_start.version_directive ||
        document.data.document_start.tag_directives.start !=
            document.data.document_start.tag_directives.end)
        return fail_at(document.start_mark, error, "directives (%YAML, %TAG) are not allowed");
    return next(parser, ret_root, error);
}

int yaml_parse(const char *text, size_t len, json_t **ret, struct error *error)
{
    _cleanup_parser_ yaml_parser_t parser = {0};
    _cleanup_event_ yaml_event_t root = {0};
    _cleanup_event_ yaml_event_t end = {0};
    _cleanup_event_ yaml_event_t after = {0};
    _cleanup_json_ json_t *value = NULL;
    int r;

    if (len > YAML_MAX_SIZE)
        return error_set(error, -EFBIG, "%zu bytes of YAML are too many: expected at most 1 MiB",
                         len);
    start(&parser, text ? text : "", len);
    r = check_bytes(text, len, error);
    if (r == 0)
        r = open_document(&parser, &root, error);
    if (r == 0)
        r = read_node(&parser, &root, 0, &value, error);
    if (r == 0)
        r = next(&parser, &end, error);
    if (r == 0)
        r = next(&parser, &after, error);
    if (r < 0)
        return r;
    if (after.type != YAML_STREAM_END_EVENT)
        return fail_at(after.start_mark, error,
                       "a second document (---) is not allowed: one file, one document");
    *ret = json_incref(value);
    return 0;
}

/* Reads the rest of a node whose first event is `first`. */
static int skip_node(yaml_parser_t *parser, const yaml_event_t *first)
{
    size_t depth = 0;
    yaml_event_type_t type = first->type;

    for (;;) {
        _cleanup_event_ yaml_event_t event = {0};

        if (type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT)
            depth++;
        else if (type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT)
            depth--;
        if (depth == 0)
            return 0;
        if (next(parser, &event, NULL) < 0)
            return -EINVAL;
        type = event.type;
    }
}

/* The rest of `path` behind the key, or NULL when the path does not go through it. */
static const char *behind_key(const char *path, const char *key)
{
    size_t len = strlen(key);

    if (strncmp(path, key, len) != 0)
        return NULL;
    path += len;
    if (*path == '.')
        return path[1] != '\0' ? path + 1 : NULL;
    return *path == '\0' || *path == '[' ? path : NULL;
}

static int locate(yaml_parser_t *parser, const yaml_event_t *node, const char *path,
                  yaml_mark_t *ret_mark)
{
    bool is_list = node->type == YAML_SEQUENCE_START_EVENT;
    const char *rest = NULL;
    char *end = NULL;
    unsigned long wanted = 0;

    if (*path == '\0') {
        *ret_mark = node->start_mark;
        return 0;
    }
    if (is_list && *path == '[' && path[1] >= '0' && path[1] <= '9') {
        wanted = strtoul(path + 1, &end, 10);
        if (*end != ']' || (end[1] == '.' && end[2] == '\0'))
            return -ENOENT;
        rest = end[1] == '.' ? end + 2 : end + 1;
    } else if (is_list || node->type != YAML_MAPPING_START_EVENT) {
        return -ENOENT;
    }
    for (unsigned long i = 0;; i++) {
        _cleanup_event_ yaml_event_t key = {0};
        _cleanup_event_ yaml_event_t value = {0};

        if (!is_list) {
            if (next(parser, &key, NULL) < 0 || key.type != YAML_SCALAR_EVENT)
                return -ENOENT;
            rest = behind_key(path, (const char *)key.data.scalar.value);
        }
        if (next(parser, &value, NULL) < 0 || value.type == YAML_SEQUENCE_END_EVENT)
            return -ENOENT;
        if (is_list ? i == wanted : rest != NULL)
            return locate(parser, &value, rest, ret_mark);
        if (skip_node(parser, &value) < 0)
            return -ENOENT;
    }
}

void yaml_locate(const char *text, size_t len, const char *path, unsigned *ret_line,
                 unsigned *ret_column)
{
    _cleanup_parser_ yaml_parser_t parser = {0};
    _cleanup_event_ yaml_event_t root = {0};
    yaml_mark_t mark = {0};

    *ret_line = *ret_column = 0;
    if (len > YAML_MAX_SIZE)
        return;
    start(&parser, text ? text : "", len);
    if (open_document(&parser, &root, NULL) < 0 || locate(&parser, &root, path, &mark) < 0)
        return;
    *ret_line = (unsigned)mark.line + 1;
    *ret_column = (unsigned)mark.column + 1;
}
