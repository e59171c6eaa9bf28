#include "http/problem.h"

#include "base/json.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define DETAIL_MAX 1024

static json_t *shown(const char *text)
{
    char clean[DETAIL_MAX];

    (void)text_escape(clean, sizeof(clean), text, strlen(text));
    return json_string(clean);
}

char *problem_text(unsigned status, const char *code, const char *title, const char *remedy,
                   const char *detail)
{
    _cleanup_free_ char *type = xasprintf("https://maeslant.org/problems/%s", code);
    _cleanup_json_ json_t *problem = json_object();

    json_object_set_new(problem, "type", json_string(type));
    json_object_set_new(problem, "title", shown(title));
    json_object_set_new(problem, "status", json_integer((json_int_t)status));
    if (detail && *detail)
        json_object_set_new(problem, "detail", shown(detail));
    if (remedy && *remedy)
        json_object_set_new(problem, "remedy", shown(remedy));
    return json_text(problem);
}

void http_problem(struct http_exchange *exchange, unsigned status, const char *code,
                  const char *title, const char *remedy, const char *detail_format, ...)
{
    _cleanup_free_ char *text = NULL;
    char detail[DETAIL_MAX];
    va_list args;

    va_start(args, detail_format);
    (void)vsnprintf(detail, sizeof(detail), detail_format, args);
    va_end(args);
    text = problem_text(status, code, title, remedy, detail);
    http_reply(exchange, status, "application/problem+json", text, strlen(text));
}
