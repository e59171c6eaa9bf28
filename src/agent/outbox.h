/* Reports that wait for an answer, on disk. A file is "<order>-<permit>-<outcome>" and holds the
 * body without the members that each sending adds. Must never lose a report that was put. */
#pragma once

#include "base/error.h"
#include "base/json.h"

#include <stdbool.h>

/* Durable. The same permit and outcome again replaces the body in its place. */
int outbox_put(const char *dir, const char *permit, const char *outcome, const json_t *body,
               struct error *error);
/* The oldest one; -ENOENT when there is none. `ret_name` is owned by the caller. Files that are
 * damaged are put aside under a name with a leading dot. */
int outbox_first(const char *dir, char **ret_name, json_t **ret_body, struct error *error);
int outbox_drop(const char *dir, const char *name, struct error *error);
size_t outbox_count(const char *dir);
