#include "fuzz.h"

#include "base/buf.h"
#include "http/client.h"
#include "http/problem.h"
#include "http/request.h"

#include <string.h>

static void fuzz_target(const char *text, size_t len)
{
    _cleanup_free_ char *storage = xmalloc(request_target_size(text, len));
    struct request_target target;
    struct error error = ERROR_INIT;

    if (request_target_parse(text, len, storage, &target, &error) < 0) {
        must(error.text[0] != '\0');
        return;
    }
    must(target.path[0] == '/' && !strstr(target.path, "/../"));
    for (size_t i = 0; i < target.query_count; i++)
        for (const char *p = target.query[i].value; *p; p++)
            must((unsigned char)*p >= 0x20);
}

/* "name: value" lines, as a server would hand them over one by one. */
static void fuzz_head(const char *text, size_t len)
{
    struct request_head head;
    struct error error = ERROR_INIT;
    unsigned status = 0;

    request_head_init(&head, REQUEST_MAX_HEADERS, len + 2);
    for (const char *end = text + len; text < end && !status;) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline ? newline : end;
        const char *colon = memchr(text, ':', (size_t)(stop - text));
        const char *value = colon ? colon + 1 : stop;

        status = request_head_add(&head, text, (size_t)((colon ? colon : stop) - text), value,
                                  (size_t)(stop - value), &error);
        text = stop + (newline ? 1 : 0);
    }
    if (!status)
        status = request_head_check(&head, true, &error);
    must(status == 0 || (status >= 400 && status < 600 && error.text[0] != '\0'));
    if (!status)
        must(!(head.has_length && head.chunked) && request_head_get(&head, "host"));
    request_head_free(&head);
}

static void fuzz_conditions(const char *text)
{
    uint64_t from, len, size = strlen(text) * 37;

    (void)request_etag_matches(text, "etag");
    switch (request_range_parse(text, size, &from, &len)) {
    case RANGE_WHOLE:
        must(from == 0 && len == size);
        break;
    case RANGE_PART:
        must(len > 0 && from < size && len <= size - from);
        break;
    case RANGE_UNSATISFIABLE:
        break;
    }
}

static void fuzz_problem(const char *text, size_t len)
{
    struct http_answer answer = {.status = 400, .content_type = "application/problem+json"};
    _cleanup_free_ char *parsed = NULL;
    _cleanup_free_ char *again = NULL;
    _cleanup_free_ char *made = problem_text(400, "code", "Title", text, text);

    buf_add(&answer.body, text, len);
    parsed = http_answer_problem(&answer);
    must(strncmp(parsed, "400 ", 4) == 0);
    buf_clear(&answer.body);
    buf_add_str(&answer.body, made);
    again = http_answer_problem(&answer);
    must(strncmp(again, "400 Title", 9) == 0);
    http_answer_free(&answer);
}

/* The first byte picks the part. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_free_ char *text = NULL;

    if (size == 0)
        return 0;
    text = xmalloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0]) {
    case 't':
        fuzz_target(text, size - 1);
        break;
    case 'h':
        fuzz_head(text, size - 1);
        break;
    case 'c':
        fuzz_conditions(text);
        break;
    case 'p':
        fuzz_problem(text, size - 1);
        break;
    default:
        break;
    }
    return 0;
}
