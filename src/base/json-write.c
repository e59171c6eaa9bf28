#include "base/json.h"

#include "base/buf.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define MEMBERS_FEW 32 /* so many are sorted without an allocation */
#define TEXT_FIRST 512 /* room for most answers */

static void write_value(struct buf *buf, const json_t *value);

void json_write_string(struct buf *buf, const char *text, size_t len)
{
    static const char letters[] = "btnvfr"; /* 0x08–0x0d; JSON has no \v */
    size_t start = 0;

    buf_reserve(buf, len + 2);
    buf_add(buf, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_add(buf, text + start, i - start);
        start = i + 1;
        if (c == '"' || c == '\\')
            buf_add(buf, (char[]){'\\', (char)c}, 2);
        else if (c >= 0x08 && c <= 0x0d && c != '\v')
            buf_add(buf, (char[]){'\\', letters[c - 0x08]}, 2);
        else
            buf_addf(buf, "\\u%04x", c);
    }
    buf_add(buf, text + start, len - start);
    buf_add(buf, "\"", 1);
}

struct member {
    const char *key;
    const json_t *value;
};

static int compare_members(const void *a, const void *b)
{
    return strcmp(((const struct member *)a)->key, ((const struct member *)b)->key);
}

static void write_object(struct buf *buf, const json_t *object)
{
    struct member few[MEMBERS_FEW];
    size_t count = json_object_size(object), i = 0;
    _cleanup_free_ struct member *many = count > MEMBERS_FEW ? xcalloc(count, sizeof(*many)) : NULL;
    struct member *members = many ? many : few;
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)(uintptr_t)object, key, value) members[i++] =
        (struct member){key, value};
    qsort(members, count, sizeof(*members), compare_members);
    buf_add(buf, "{", 1);
    for (i = 0; i < count; i++) {
        if (i > 0)
            buf_add(buf, ",", 1);
        json_write_string(buf, members[i].key, strlen(members[i].key));
        buf_add(buf, ":", 1);
        write_value(buf, members[i].value);
    }
    buf_add(buf, "}", 1);
}

void json_write_plain(struct buf *buf, const json_t *value)
{
    char number[32];

    if (json_is_integer(value)) {
        (void)snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
        buf_add_str(buf, number);
    } else if (json_is_real(value)) {
        double_to_text(json_real_value(value), number);
        buf_add_str(buf, number);
        if (!strpbrk(number, ".e")) /* a real stays one */
            buf_add_str(buf, ".0");
    } else {
        buf_add_str(buf, json_is_true(value) ? "true" : json_is_false(value) ? "false" : "null");
    }
}

static void write_value(struct buf *buf, const json_t *value)
{
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
        json_write_string(buf, json_string_value(value), json_string_length(value));
        break;
    default:
        json_write_plain(buf, value);
    }
}

/* jansson's own writer prints 0.1 as 0.10000000000000001. */
char *json_text(const json_t *value)
{
    struct buf buf = BUF_INIT;

    buf_reserve(&buf, TEXT_FIRST);
    write_value(&buf, value);
    return buf_take(&buf);
}
