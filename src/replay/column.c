#include "replay/column.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct scan {
    const char *text;
    size_t len, at;
};

static bool here(const struct scan *scan, const char *any)
{
    return scan->at < scan->len && strchr(any, scan->text[scan->at]) && scan->text[scan->at];
}

static void skip_space(struct scan *scan)
{
    while (here(scan, " \t\r\n"))
        scan->at++;
}

static void skip_string(struct scan *scan)
{
    for (scan->at++; scan->at < scan->len && scan->text[scan->at] != '"'; scan->at++)
        if (scan->text[scan->at] == '\\')
            scan->at++;
    scan->at++;
}

static void skip_value(struct scan *scan)
{
    size_t depth = 0;

    do {
        if (here(scan, "\"")) {
            skip_string(scan);
            continue;
        }
        if (here(scan, "[{"))
            depth++;
        else if (here(scan, "]}"))
            depth--;
        else if (depth == 0 && !here(scan, ",]} \t\r\n")) {
            while (scan->at < scan->len && !here(scan, ",]} \t\r\n"))
                scan->at++;
            return;
        }
        scan->at++;
    } while (depth > 0 && scan->at < scan->len);
}

/* From an object to the value of a member; false, and nowhere else, when it has none. */
static bool enter_member(struct scan *scan, const char *name, size_t name_len)
{
    struct scan look = *scan;

    if (!here(&look, "{"))
        return false;
    look.at++;
    for (skip_space(&look); here(&look, "\""); skip_space(&look)) {
        const char *key = look.text + look.at + 1;
        bool found;

        skip_string(&look);
        if (look.at > look.len)
            return false;
        found =
            (size_t)(look.text + look.at - 1 - key) == name_len && memcmp(key, name, name_len) == 0;
        skip_space(&look);
        look.at++; /* : */
        skip_space(&look);
        if (found) {
            *scan = look;
            return true;
        }
        skip_value(&look);
        skip_space(&look);
        look.at += here(&look, ",");
    }
    return false;
}

static bool enter_item(struct scan *scan, unsigned long index)
{
    struct scan look = *scan;

    if (!here(&look, "["))
        return false;
    look.at++;
    for (skip_space(&look); look.at < look.len && !here(&look, "]"); skip_space(&look)) {
        if (index-- == 0) {
            *scan = look;
            return true;
        }
        skip_value(&look);
        skip_space(&look);
        look.at += here(&look, ",");
        skip_space(&look);
    }
    return false;
}

/* A member's name may have dots in it, so the longest name that is there counts. */
static size_t enter_longest(struct scan *scan, const char *path, size_t len)
{
    for (size_t end = len; end > 0; end--)
        if ((end == len || path[end] == '.' || path[end] == '[') && enter_member(scan, path, end))
            return end;
    return 0;
}

static void follow(struct scan *scan, const char *path, size_t len)
{
    size_t used = enter_longest(scan, path, len);

    while (used > 0 && used < len) {
        path += used;
        len -= used;
        if (*path == '[') {
            char *end;
            unsigned long index = strtoul(path + 1, &end, 10);

            if (*end != ']' || (size_t)(end + 1 - path) > len || !enter_item(scan, index))
                return;
            used = (size_t)(end + 1 - path);
        } else {
            used = enter_longest(scan, path + 1, len - 1);
            used += used > 0;
        }
    }
}

/* "name" in quotes, at the start of what is left of a sentence. */
static void follow_quoted(struct scan *scan, const char *sentence)
{
    size_t len = *sentence == '"' ? strcspn(sentence + 1, "\"") : 0;

    if (len > 0)
        enter_member(scan, sentence + 1, len);
}

size_t line_column(const char *text, size_t len, const char *sentence)
{
    struct scan scan = {text, len, 0};
    size_t path = strcspn(sentence, " :\""), column = 1;

    skip_space(&scan);
    if (path == 0) {
        follow_quoted(&scan, sentence);
    } else {
        follow(&scan, sentence, path);
        if (strncmp(sentence + path, ": ", 2) == 0)
            follow_quoted(&scan, sentence + path + 2);
    }
    for (size_t i = 0; i < scan.at && i < len; i++)
        column += ((unsigned char)text[i + 1] & 0xc0) != 0x80 || i + 1 == len;
    return column;
}
