#include "base/yaml.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* YAML wants the ':' within 1024 characters, and an escape may take ten. */
#define SIMPLE_KEY_MAX 100

/* Whether a plain scalar says the same to YAML 1.1, YAML 1.2 and us: letters first, then only what
 * never needs quotes, and none of the words that some reader takes for something else. */
static bool is_plain(const char *text, size_t len)
{
    static const char *const words[] = {"true", "false", "null", "yes", "no",
                                        "on",   "off",   "y",    "n"};

    if (len == 0 || len > 128 ||
        !((text[0] >= 'a' && text[0] <= 'z') || (text[0] >= 'A' && text[0] <= 'Z')))
        return false;
    for (size_t i = 0; i < len; i++)
        if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
              (text[i] >= '0' && text[i] <= '9') || strchr("._+-/", text[i])))
            return false;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (strcasecmp(text, words[i]) == 0)
            return false;
    return true;
}

static void write_string(struct buf *buf, const char *text, size_t len)
{
    if (is_plain(text, len)) {
        buf_add(buf, text, len);
        return;
    }
    buf_add_str(buf, "\"");
    for (size_t i = 0; i < len;) {
        size_t step = utf8_sequence(text + i, len - i);
        unsigned char c = (unsigned char)text[i];

        if (c == '"' || c == '\\')
            buf_addf(buf, "\\%c", c);
        else if (c == '\n')
            buf_add_str(buf, "\\n");
        else if (c == '\t')
            buf_add_str(buf, "\\t");
        else if (c < 0x20 || c == 0x7f)
            buf_addf(buf, "\\x%02x", c);
        else if (step == 1)
            buf_add(buf, text + i, 1);
        else {
            uint32_t point = c & (0xffu >> (step + 1));

            for (size_t j = 1; j < step; j++)
                point = point << 6 | ((unsigned char)text[i + j] & 0x3f);
            /* Printable in YAML and neither a line break nor a byte order mark there. */
            if (point >= 0xa0 && point != 0x2028 && point != 0x2029 && point != 0xfeff &&
                point != 0xfffe && point != 0xffff)
                buf_add(buf, text + i, step);
            else if (point <= 0xffff)
                buf_addf(buf, "\\u%04x", point);
            else
                buf_addf(buf, "\\U%08x", point);
        }
        i += step ? step : 1;
    }
    buf_add_str(buf, "\"");
}

static void write_scalar(struct buf *buf, const json_t *value)
{
    if (json_is_string(value))
        write_string(buf, json_string_value(value), json_string_length(value));
    else if (json_is_object(value))
        buf_add_str(buf, "{}");
    else if (json_is_array(value))
        buf_add_str(buf, "[]");
    else
        json_write_plain(buf, value);
}

static bool is_nested(const json_t *value)
{
    return json_object_size(value) > 0 || json_array_size(value) > 0;
}

/* The cursor stands where the first line's indent is already written when `inline_first`. */
static void write_nested(struct buf *buf, const json_t *value, int indent, bool inline_first)
{
    size_t index;
    const char *key;
    json_t *item;

    json_array_foreach((json_t *)(uintptr_t)value, index, item)
    {
        buf_addf(buf, "%*s-", inline_first ? 0 : indent, "");
        inline_first = false;
        buf_add_str(buf, " ");
        if (is_nested(item)) {
            write_nested(buf, item, indent + 2, true);
        } else {
            write_scalar(buf, item);
            buf_add_str(buf, "\n");
        }
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        buf_addf(buf, "%*s", inline_first ? 0 : indent, "");
        inline_first = false;
        if (strlen(key) > SIMPLE_KEY_MAX) {
            buf_add_str(buf, "? ");
            write_string(buf, key, strlen(key));
            buf_addf(buf, "\n%*s:", indent, "");
        } else {
            write_string(buf, key, strlen(key));
            buf_add_str(buf, ":");
        }
        if (is_nested(item)) {
            buf_add_str(buf, "\n");
            write_nested(buf, item, indent + 2, false);
        } else {
            buf_add_str(buf, " ");
            write_scalar(buf, item);
            buf_add_str(buf, "\n");
        }
    }
}

char *yaml_text(const json_t *value)
{
    struct buf buf = BUF_INIT;

    if (is_nested(value)) {
        write_nested(&buf, value, 0, false);
    } else {
        write_scalar(&buf, value);
        buf_add_str(&buf, "\n");
    }
    return buf_take(&buf);
}
