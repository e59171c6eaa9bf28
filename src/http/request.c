#include "http/request.h"

#include "base/buf.h"
#include "base/parse.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Decodes `len` bytes to `ret`, with a NUL behind them. */
static int percent_decode(const char *text, size_t len, bool query, char *ret, size_t *ret_len,
                          struct error *error)
{
    size_t out = 0;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (c == '%') {
            int high = i + 2 < len ? hex_value(text[i + 1]) : -1;
            int low = high < 0 ? -1 : hex_value(text[i + 2]);

            if (low < 0)
                return error_set(error, -EINVAL,
                                 "the request target has a '%%' without two hex digits behind it; "
                                 "write a literal '%%' as %%25");
            c = (char)(high << 4 | low);
            if (c == '/' && !query)
                return error_set(error, -EINVAL,
                                 "the path has an encoded slash (%%2f), which servers read in "
                                 "different ways; write '/' or leave it out");
            i += 2;
        } else if (c == '+' && query) {
            c = ' ';
        }
        if ((unsigned char)c < 0x20 || c == 0x7f)
            return error_set(error, -EINVAL,
                             "the request target has the control byte 0x%02x, which is never "
                             "allowed there",
                             (unsigned)(unsigned char)c);
        ret[out++] = c;
    }
    ret[out] = '\0';
    if (!is_text(ret, out))
        return error_set(error, -EINVAL, "the request target is not UTF-8 once it is decoded");
    *ret_len = out;
    return 0;
}

static bool has_dot_segment(const char *path)
{
    for (const char *slash = path; slash; slash = strchr(slash + 1, '/')) {
        const char *name = slash + 1;
        size_t len = strcspn(name, "/");

        if ((len == 1 && name[0] == '.') || (len == 2 && name[0] == '.' && name[1] == '.'))
            return true;
    }
    return false;
}

static size_t count_parameters(const char *text, size_t len)
{
    const char *end = text + len;
    const char *at = memchr(text, '?', len);
    size_t count = 0;

    for (; at && count < REQUEST_MAX_QUERY; at = memchr(at + 1, '&', (size_t)(end - at - 1)))
        count++;
    return count;
}

size_t request_target_size(const char *text, size_t len)
{
    return count_parameters(text, len) * sizeof(struct request_pair) + len + 2;
}

static int parse_query(const char *text, size_t len, char *storage, struct request_target *ret,
                       struct error *error)
{
    const char *end = text + len;

    while (text < end) {
        const char *amp = memchr(text, '&', (size_t)(end - text));
        const char *stop = amp ? amp : end;
        const char *equal = memchr(text, '=', (size_t)(stop - text));
        const char *name_end = equal ? equal : stop;
        struct request_pair pair = {.name = storage, .value = ""};
        size_t used;
        int r;

        if (stop > text) {
            if (ret->query_count == REQUEST_MAX_QUERY)
                return error_set(error, -EINVAL, "the query has more than %d parameters",
                                 REQUEST_MAX_QUERY);
            r = percent_decode(text, (size_t)(name_end - text), true, storage, &used, error);
            if (r < 0)
                return r;
            storage += used + 1;
            if (equal) {
                pair.value = storage;
                r = percent_decode(equal + 1, (size_t)(stop - equal - 1), true, storage, &used,
                                   error);
                if (r < 0)
                    return r;
                storage += used + 1;
            }
            for (size_t i = 0; i < ret->query_count; i++)
                if (strcmp(ret->query[i].name, pair.name) == 0)
                    return error_set(error, -EINVAL, "the query has the parameter \"%s\" twice",
                                     pair.name);
            ret->query[ret->query_count++] = pair;
        }
        text = amp ? amp + 1 : end;
    }
    return 0;
}

int request_target_parse(const char *text, size_t len, void *storage, struct request_target *ret,
                         struct error *error)
{
    const char *question, *end;
    char *decoded;
    size_t used;
    int r;

    ret->path = "/";
    ret->query = storage;
    ret->query_count = 0;
    decoded = (char *)(ret->query + count_parameters(text, len));
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] <= 0x20 || (unsigned char)text[i] >= 0x7f || text[i] == '#')
            return error_set(error, -EINVAL,
                             "the request target has the byte 0x%02x, which must be written "
                             "percent-encoded",
                             (unsigned)(unsigned char)text[i]);
    /* The absolute form, which a server must accept; who it names is no concern of ours. */
    if (len > 7 && strncasecmp(text, "http", 4) == 0) {
        const char *authority = memchr(text, ':', len < 6 ? len : 6);

        if (authority && (size_t)(authority - text) + 3 < len && memcmp(authority, "://", 3) == 0) {
            size_t skip;

            authority += 3;
            skip = strcspn(authority, "/?");
            len -= (size_t)(authority - text) + skip;
            text = authority + skip;
        }
    }
    if (len == 0 || text[0] != '/')
        return error_set(error, -EINVAL, "the request target does not start with '/'");
    end = text + len;
    question = memchr(text, '?', len);
    r = percent_decode(text, (size_t)((question ? question : end) - text), false, decoded, &used,
                       error);
    if (r != 0)
        return r;
    if (has_dot_segment(decoded))
        return error_set(error, -EINVAL,
                         "the path \"%s\" has a \".\" or \"..\" segment; name the resource itself",
                         decoded);
    ret->path = decoded;
    if (!question)
        return 0;
    return parse_query(question + 1, (size_t)(end - question - 1), decoded + used + 1, ret, error);
}

void request_head_init(struct request_head *head, size_t count, size_t bytes)
{
    if (count > REQUEST_MAX_HEADERS)
        count = REQUEST_MAX_HEADERS;
    head->headers = xmalloc(count * sizeof(*head->headers) + bytes);
    head->text = (char *)(head->headers + count);
    head->max = count;
    head->size = bytes;
    head->used = 0;
    head->count = 0;
    head->has_length = head->chunked = head->expects = head->has_host = false;
    head->length = 0;
}

void request_head_free(struct request_head *head)
{
    free(head->headers);
    head->headers = NULL;
}

/* RFC 9110 §5.6.2 */
static bool is_token_byte(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c));
}

/* Fields that mean something else to every recipient that takes another one of two. */
static bool must_be_single(const char *name)
{
    static const char *const names[] = {
        "Host",   "Content-Length", "Transfer-Encoding", "Content-Type", "Authorization",
        "Expect", "Range",          "If-Range",          "Origin",       "Maeslant-Signature"};

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return false;
}

static char *store(struct request_head *head, const char *text, size_t len)
{
    char *copy = head->text + head->used;

    memcpy(copy, text, len);
    copy[len] = '\0';
    head->used += len + 1;
    return copy;
}

static unsigned add_framing(struct request_head *head, const char *name, const char *value,
                            struct error *error)
{
    if (strcasecmp(name, "Host") == 0) {
        head->has_host = true;
    } else if (strcasecmp(name, "Content-Length") == 0) {
        struct error bad;

        if (strspn(value, "0123456789") != strlen(value) || !*value) {
            (void)error_set(error, -EINVAL, "Content-Length is \"%s\": expected one decimal number",
                            value);
            return 400;
        }
        while (value[0] == '0' && value[1])
            value++;
        if (parse_u64(value, 0, UINT64_MAX - 1, &head->length, &bad) < 0) {
            (void)error_set(error, -EINVAL, "Content-Length is \"%s\": too large", value);
            return 413;
        }
        head->has_length = true;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0) {
            (void)error_set(error, -EINVAL,
                            "Transfer-Encoding is \"%s\": only \"chunked\" is understood", value);
            return 501;
        }
        head->chunked = true;
    } else if (strcasecmp(name, "Expect") == 0) {
        if (strcasecmp(value, "100-continue") != 0) {
            (void)error_set(error, -EINVAL, "Expect is \"%s\": only \"100-continue\" is understood",
                            value);
            return 417;
        }
        head->expects = true;
    }
    return 0;
}

unsigned request_head_add(struct request_head *head, const char *name, size_t name_len,
                          const char *value, size_t value_len, struct error *error)
{
    struct request_pair *pair;

    if (name_len == 0) {
        (void)error_set(error, -EINVAL, "a header field has no name");
        return 400;
    }
    for (size_t i = 0; i < name_len; i++)
        if (!is_token_byte((unsigned char)name[i])) {
            (void)error_set(error, -EINVAL,
                            "the header name \"%.*s\" has the byte 0x%02x: names are letters, "
                            "digits and !#$%%&'*+-.^_`|~, with nothing before the colon",
                            (int)(name_len > 100 ? 100 : name_len), name,
                            (unsigned)(unsigned char)name[i]);
            return 400;
        }
    while (value_len > 0 && (value[0] == ' ' || value[0] == '\t')) {
        value++;
        value_len--;
    }
    while (value_len > 0 && (value[value_len - 1] == ' ' || value[value_len - 1] == '\t'))
        value_len--;
    for (size_t i = 0; i < value_len; i++)
        if (((unsigned char)value[i] < 0x20 && value[i] != '\t') || value[i] == 0x7f) {
            (void)error_set(
                error, -EINVAL, "the header \"%.*s\" has the control byte 0x%02x in its value",
                (int)(name_len > 100 ? 100 : name_len), name, (unsigned)(unsigned char)value[i]);
            return 400;
        }
    if (head->count == head->max || head->size - head->used < name_len + value_len + 2) {
        (void)error_set(error, -EINVAL, "the request has more than %d header fields",
                        REQUEST_MAX_HEADERS);
        return 431;
    }
    pair = &head->headers[head->count];
    pair->name = store(head, name, name_len);
    pair->value = store(head, value, value_len);
    if (request_head_get(head, pair->name) && must_be_single(pair->name)) {
        (void)error_set(error, -EINVAL, "the header \"%s\" is there more than once", pair->name);
        return 400;
    }
    head->count++;
    return add_framing(head, pair->name, pair->value, error);
}

unsigned request_head_check(const struct request_head *head, bool http_1_1, struct error *error)
{
    if (head->has_length && head->chunked) {
        (void)error_set(error, -EINVAL,
                        "the request has both Content-Length and Transfer-Encoding; send one");
        return 400;
    }
    if (head->chunked && !http_1_1) {
        (void)error_set(error, -EINVAL, "HTTP/1.0 has no Transfer-Encoding; send Content-Length");
        return 400;
    }
    if (http_1_1 && !head->has_host) {
        (void)error_set(error, -EINVAL, "an HTTP/1.1 request needs a Host header");
        return 400;
    }
    return 0;
}

const char *request_head_get(const struct request_head *head, const char *name)
{
    for (size_t i = 0; i < head->count; i++)
        if (strcasecmp(head->headers[i].name, name) == 0)
            return head->headers[i].value;
    return NULL;
}

bool request_etag_matches(const char *if_none_match, const char *etag)
{
    size_t len = strlen(etag);
    const char *p = if_none_match;

    if (strcmp(p, "*") == 0)
        return true;
    for (;;) {
        const char *close;

        p += strspn(p, " \t,");
        if (p[0] == 'W' && p[1] == '/')
            p += 2;
        if (*p != '"')
            return false;
        close = strchr(++p, '"');
        if (!close)
            return false;
        if ((size_t)(close - p) == len && memcmp(p, etag, len) == 0)
            return true;
        p = close + 1;
    }
}

/* Digits only; too large a number is as good as the largest. False when there is no digit. */
static bool range_number(const char **text, uint64_t *ret)
{
    const char *p = *text;
    uint64_t value = 0;

    if (*p < '0' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*p - '0'), &value))
            value = UINT64_MAX;
    *text = p;
    *ret = value;
    return true;
}

enum request_range request_range_parse(const char *value, uint64_t size, uint64_t *ret_from,
                                       uint64_t *ret_len)
{
    uint64_t first = 0, last = UINT64_MAX;
    bool has_first;

    *ret_from = 0;
    *ret_len = size;
    if (!value || strncasecmp(value, "bytes=", 6) != 0)
        return RANGE_WHOLE;
    value += 6;
    has_first = range_number(&value, &first);
    if (*value++ != '-')
        return RANGE_WHOLE;
    if (!range_number(&value, &last) && !has_first)
        return RANGE_WHOLE;
    if (*value)
        return RANGE_WHOLE;
    if (!has_first) {
        if (last == 0 || size == 0)
            return RANGE_UNSATISFIABLE;
        first = last < size ? size - last : 0;
        last = size - 1;
    } else if (last < first) {
        return RANGE_WHOLE;
    }
    if (first >= size)
        return RANGE_UNSATISFIABLE;
    if (last >= size)
        last = size - 1;
    *ret_from = first;
    *ret_len = last - first + 1;
    return RANGE_PART;
}
