#include "agent/redact.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#define SECRET_MIN 4

static void add_one(struct redactor *redactor, const char *secret, size_t len)
{
    while (len > 0 && isspace((unsigned char)secret[len - 1]))
        len--;
    if (len < SECRET_MIN)
        return;
    redactor->secrets =
        xrealloc(redactor->secrets, redactor->count + 1, sizeof(*redactor->secrets));
    redactor->secrets[redactor->count++] = xstrndup(secret, len);
}

void redactor_add(struct redactor *redactor, const char *secret)
{
    const char *colon = strchr(secret, ':');

    add_one(redactor, secret, strlen(secret));
    if (colon) {
        add_one(redactor, colon + 1, strlen(colon + 1));
        add_one(redactor, secret, (size_t)(colon - secret));
    }
}

void redactor_free(struct redactor *redactor)
{
    for (size_t i = 0; i < redactor->count; i++)
        free(redactor->secrets[i]);
    free(redactor->secrets);
    *redactor = (struct redactor){0};
}

static bool holds(const char *text, size_t len, const char *word)
{
    size_t word_len = strlen(word);

    for (size_t i = 0; i + word_len <= len; i++)
        if (strncasecmp(text + i, word, word_len) == 0)
            return true;
    return false;
}

static bool ends_in(const char *text, size_t len, const char *word)
{
    size_t word_len = strlen(word);

    return len >= word_len && strncasecmp(text + len - word_len, word, word_len) == 0;
}

/* Does a name promise a secret? Names of files that hold one do not. */
static bool is_secret_name(const char *name, size_t len)
{
    static const char *const words[] = {"password", "passwd", "passphrase", "secret",  "token",
                                        "credent",  "apikey", "api_key",    "api-key", "private",
                                        "authoriz", "cookie", "access_k",   "access-k"};

    if (ends_in(name, len, "_file") || ends_in(name, len, "-file") || ends_in(name, len, "_path"))
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(words); i++)
        if (holds(name, len, words[i]))
            return true;
    return false;
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

/* Where a value that starts at `p` ends. `to_end`: unquoted ones go on to the end of the line.
 * `ret_open`: its quote is not closed on this line. */
static const char *value_end(const char *p, const char *end, bool to_end, bool *ret_open)
{
    char quote = p < end && (*p == '"' || *p == '\'') ? *p : '\0';

    if (quote) {
        for (p++; p < end; p++) {
            bool twice = quote == '\'' && p + 1 < end && p[0] == '\'' && p[1] == '\'';

            if (*p == quote && !twice)
                return p + 1;
            if (twice || (quote == '"' && *p == '\\' && p + 1 < end))
                p++;
        }
        *ret_open = true;
        return end;
    }
    if (to_end)
        return end;
    while (p < end && !isspace((unsigned char)*p) && !strchr("&;,\"'<>", *p))
        p++;
    return p;
}

static bool is_option(const char *start, const char *name)
{
    if (name - start < 1 || name[-1] != '-')
        return false;
    return name - start == 1 || strchr("- \t\"'", name[-2]) != NULL;
}

static const char *skip_blanks(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\t'))
        p++;
    return p;
}

/* "name: value", "name=value", "--name value", "--name", "value" at `p`, a name's first letter.
 * Says how far it was taken, or NULL when it is nothing such. */
static const char *take_pair(const char *start, const char *p, const char *end, struct buf *ret,
                             bool *ret_open)
{
    const char *name = p, *value;
    bool option = is_option(start, name), colon;

    while (p < end && is_name_char(*p))
        p++;
    if (!is_secret_name(name, (size_t)(p - name)))
        return NULL;
    value = p;
    if (value < end && (*value == '"' || *value == '\''))
        value++;
    value = skip_blanks(value, end);
    colon = value < end && *value == ':';
    if (colon || (value < end && *value == '='))
        value++;
    else if (option && value < end && (value > p || *value == ','))
        value += *value == ',';
    else
        return NULL;
    value = skip_blanks(value, end);
    buf_add(ret, name, (size_t)(value - name));
    if (colon && (value == end || *value == '|' || *value == '>'))
        *ret_open = true;
    p = value_end(value, end, colon, ret_open);
    if (p > value)
        buf_add_str(ret, *value == '"' ? "\"" REDACTED "\"" : REDACTED);
    return p;
}

/* "Bearer xyz", "Basic xyz". */
static const char *take_scheme(const char *p, const char *end, struct buf *ret, bool *ret_open)
{
    static const char *const schemes[] = {"bearer ", "basic ", "digest "};

    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        size_t len = strlen(schemes[i]);
        const char *value = p + len;

        if ((size_t)(end - p) <= len || strncasecmp(p, schemes[i], len) != 0)
            continue;
        buf_add(ret, p, len);
        buf_add_str(ret, REDACTED);
        return value_end(value, end, false, ret_open);
    }
    return NULL;
}

/* "://user:password@" */
static const char *take_user(const char *p, const char *end, struct buf *ret)
{
    const char *at = NULL;

    if (end - p < 4 || strncmp(p, "://", 3) != 0)
        return NULL;
    for (const char *q = p + 3; q < end && !strchr("/?# \t\"'<>", *q); q++)
        if (*q == '@')
            at = q;
    if (!at)
        return NULL;
    buf_add_str(ret, "://" REDACTED);
    return at;
}

static const char *take_known(const struct redactor *redactor, const char *p, const char *end,
                              struct buf *ret)
{
    for (size_t i = 0; i < redactor->count; i++) {
        size_t len = strlen(redactor->secrets[i]);

        if ((size_t)(end - p) < len || memcmp(p, redactor->secrets[i], len) != 0)
            continue;
        buf_add_str(ret, REDACTED);
        return p + len;
    }
    return NULL;
}

/* One line without its newline. `ret_open`: its value goes on in the deeper lines below. */
static void redact_line(const struct redactor *redactor, const char *line, const char *end,
                        struct buf *ret, bool *ret_open)
{
    static const char key[] = "maeslant secret key v1 ";
    const char *p = line;

    while (p < end) {
        const char *next = take_known(redactor, p, end, ret);
        bool starts = p == line || !is_name_char(p[-1]) || p[-1] == '-';

        if (!next && *p == ':')
            next = take_user(p, end, ret);
        if (!next && starts && (size_t)(end - p) >= sizeof(key) - 1 &&
            strncmp(p, key, sizeof(key) - 1) == 0) {
            buf_add_str(ret, key);
            buf_add_str(ret, REDACTED);
            next = end;
        }
        if (!next && starts && isalnum((unsigned char)*p)) {
            next = take_scheme(p, end, ret, ret_open);
            if (!next)
                next = take_pair(line, p, end, ret, ret_open);
        }
        if (next) {
            p = next;
            continue;
        }
        buf_add(ret, p++, 1);
    }
}

static size_t indent_of(const char *line, const char *end)
{
    size_t indent = 0;

    while (line < end && (*line == ' ' || *line == '\t')) {
        indent++;
        line++;
    }
    return line == end ? SIZE_MAX : indent; /* an empty line ends nothing */
}

void redact_text(const struct redactor *redactor, const char *text, size_t len, struct buf *ret)
{
    const char *end = text + len;
    bool in_key = false, open = false;
    size_t open_indent = 0;

    while (text < end) {
        const char *stop = memchr(text, '\n', (size_t)(end - text));
        const char *next = stop ? stop + 1 : end;
        size_t line_len;

        stop = stop ? stop : end;
        line_len = (size_t)(stop - text);
        if (open && indent_of(text, stop) > open_indent) {
            text = next;
            continue;
        }
        open = false;
        if (!in_key && holds(text, line_len, "-----BEGIN") &&
            holds(text, line_len, "PRIVATE KEY")) {
            in_key = true;
            buf_add_str(ret, REDACTED "\n");
        }
        if (!in_key) {
            redact_line(redactor, text, stop, ret, &open);
            open_indent = indent_of(text, stop);
            if (open)
                buf_add_str(ret, " " REDACTED);
            if (next > stop)
                buf_add_str(ret, "\n");
        } else if (holds(text, line_len, "-----END")) {
            in_key = false;
        }
        text = next;
    }
}

static json_t *redact_string(const struct redactor *redactor, const json_t *value)
{
    _cleanup_buf_ struct buf text = BUF_INIT;

    redact_text(redactor, json_string_value(value), json_string_length(value), &text);
    return json_stringn(text.len ? text.data : "", text.len);
}

/* ["--password", "hunter2"]: the element before names the one after it. */
static bool names_next(const json_t *value)
{
    const char *text = json_string_value(value);

    return text && *text == '-' && !strchr(text, '=') && is_secret_name(text, strlen(text));
}

json_t *redact_json(const struct redactor *redactor, const json_t *value)
{
    json_t *copy;
    const char *name;
    json_t *item;
    size_t i;

    switch (json_typeof(value)) {
    case JSON_OBJECT:
        copy = json_object();
        json_object_foreach((json_t *)(uintptr_t)value, name, item)
        {
            json_t *kept = is_secret_name(name, strlen(name)) ? json_string(REDACTED)
                                                              : redact_json(redactor, item);

            if (json_object_set_new(copy, name, kept) < 0)
                abort();
        }
        return copy;
    case JSON_ARRAY:
        copy = json_array();
        json_array_foreach(value, i, item)
        {
            json_t *kept = i > 0 && names_next(json_array_get(value, i - 1))
                               ? json_string(REDACTED)
                               : redact_json(redactor, item);

            if (json_array_append_new(copy, kept) < 0)
                abort();
        }
        return copy;
    case JSON_STRING:
        return redact_string(redactor, value);
    default:
        return json_deep_copy(value);
    }
}
