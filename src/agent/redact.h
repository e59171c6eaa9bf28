/* Takes secrets out of what leaves the machine in a support bundle: known ones wherever they stand,
 * and what looks like one by its name or form. Must rather remove too much than too little. */
#pragma once

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define REDACTED "(removed)"

struct redactor {
    char **secrets;
    size_t count;
};

/* A text that must not appear anywhere; of "name:password" also each half. Shorter ones than 4
 * bytes are left alone: they are everywhere. */
void redactor_add(struct redactor *redactor, const char *secret);
void redactor_free(struct redactor *redactor);

/* Lines of text (logs, files that do not parse). Adds to `ret`. */
void redact_text(const struct redactor *redactor, const char *text, size_t len, struct buf *ret);
/* A copy of a configuration; json_decref. */
json_t *redact_json(const struct redactor *redactor, const json_t *value);
