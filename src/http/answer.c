#include "base/json.h"
#include "http/client.h"

#include <microhttpd.h>
#include <string.h>
#include <strings.h>

#define ANSWER_PART_MAX 2048

void http_answer_free(struct http_answer *answer)
{
    buf_free(&answer->body);
}

static const char *part(const json_t *problem, const char *key)
{
    const char *text = NULL;
    struct error unused;

    (void)json_may_string(problem, "problem", key, ANSWER_PART_MAX, &text, &unused);
    return text;
}

static void add_sentence(struct buf *text, const char *before, const char *sentence)
{
    size_t len = sentence ? strlen(sentence) : 0;

    if (len == 0)
        return;
    buf_add_str(text, before);
    buf_add_str(text, sentence);
    if (!strchr(".!?", sentence[len - 1]))
        buf_add_str(text, ".");
}

char *http_answer_problem(const struct http_answer *answer)
{
    _cleanup_json_ json_t *problem = NULL;
    struct buf text = BUF_INIT;
    struct error unused;
    const char *title;

    buf_addf(&text, "%u ", answer->status);
    if (strncasecmp(answer->content_type, "application/problem+json", 24) != 0 ||
        json_parse(answer->body.data ? answer->body.data : "", answer->body.len, &problem,
                   &unused) < 0 ||
        !json_is_object(problem)) {
        buf_add_str(&text, MHD_get_reason_phrase_for(answer->status));
        return buf_take(&text);
    }
    title = part(problem, "title");
    buf_add_str(&text, title ? title : MHD_get_reason_phrase_for(answer->status));
    add_sentence(&text, ": ", part(problem, "detail"));
    add_sentence(&text, " ", part(problem, "remedy"));
    return buf_take(&text);
}
