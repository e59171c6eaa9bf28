#include "base/json.h"

#include "base/buf.h"
#include "base/text.h"

#include <string.h>

static void write_value(struct buf *buf, const json_t *value);

static void write_string(struct buf *buf, const char *text, size_t len)
{
    static const char letters[] = "btnvfr"; /* 0x08–0x0d; JSON has no \v */
    size_t start = 0;

    buf_add_str(buf, "\"");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(buf, text + start, i - start);
        start = i + 1;
        if (c == '"' || c == '\\')
            buf_addf(buf, "\\%c", c);
        else if (c >= 0x08 && c <= 0x0d && c != '\v')
            buf_addf(buf, "\\%c", letters[c - 0x08]);
        else
            buf_addf(buf, "\\u%04x", c);
    }
    buf_add(buf, text + start, len - start);
    buf_add_str(buf, "\"");
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void write_object(struct buf *buf, const json_t *object)
{
    size_t count = json_object_size(object), i = 0;
    _cleanup_free_ const char **keys = xcalloc(count, sizeof(*keys));
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value) keys[i++] = key;
    qsort(keys, count, sizeof(*keys), compare_keys);
    buf_add_str(buf, "{");
    for (i = 0; i < count; i++) {
        if (i > 0)
            buf_add_str(buf, ",");
        write_string(buf, keys[i], strlen(keys[i]));
        buf_add_str(buf, ":");
        write_value(buf, json_object_get(object, keys[i]));
    }
    buf_add_str(buf, "}");
}

static void write_value(struct buf *buf, const json_t *value)
{
    char number[32];

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        write_object(buf, value);
        break;
    case JSON_ARRAY:
        buf_add_str(buf, "[");
        for (size_t i = 0; i < json_array_size(value); i++) {
            if (i > 0)
                buf_add_str(buf, ",");
            write_value(buf, json_array_get(value, i));
        }
        buf_add_str(buf, "]");
        break;
    case JSON_STRING:
        write_string(buf, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        buf_addf(buf, "%lld", (long long)json_integer_value(value));
        break;
    case JSON_REAL:
        double_to_text(json_real_value(value), number);
        buf_add_str(buf, number);
        if (!strpbrk(number, ".e")) /* a real stays one */
            buf_add_str(buf, ".0");
        break;
    case JSON_TRUE:
        buf_add_str(buf, "true");
        break;
    case JSON_FALSE:
        buf_add_str(buf, "false");
        break;
    case JSON_NULL:
        buf_add_str(buf, "null");
        break;
    }
}

/* jansson's own writer prints 0.1 as 0.10000000000000001. */
char *json_text(const json_t *value)
{
    struct buf buf = BUF_INIT;

    write_value(&buf, value);
    return buf_take(&buf);
}
