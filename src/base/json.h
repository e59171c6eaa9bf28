/* JSON as the protocol wants it (RFC 8259, UTF-8, no duplicate keys, depth ≤ 16), on jansson, with
 * a binder that names the member at fault. Must never accept what another parser could read
 * differently. */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_MAX_DEPTH 16

/* Strict parse of one value and nothing behind it; no NUL bytes in strings, no duplicate keys. The
 * value is owned by the caller (json_decref). The error has line and column. */
int json_parse(const char *text, size_t len, json_t **ret, struct error *error);
/* Compact text with sorted keys and short reals (0.1), owned by the caller: the same value gives
 * the same bytes. */
char *json_text(const json_t *value);
/* Adds the text as a JSON string, quoted, or a number, true, false or null, as json_text writes it.
 */
struct buf;
void json_write_plain(struct buf *buf, const json_t *value);
void json_write_string(struct buf *buf, const char *text, size_t len);

static inline void cleanup_json(json_t **value)
{
    json_decref(*value);
}
#define _cleanup_json_ __attribute__((cleanup(cleanup_json)))

/* Members of an object. `where` names the object in errors ("begin", "policy.stages[1]"). The
 * `need_` forms fail with -EINVAL when the member is absent; the `may_` forms leave `ret` as it is.
 * Strings stay owned by the object. */
int json_need_string(const json_t *object, const char *where, const char *key, size_t max_len,
                     const char **ret, struct error *error);
int json_may_string(const json_t *object, const char *where, const char *key, size_t max_len,
                    const char **ret, struct error *error);
int json_need_integer(const json_t *object, const char *where, const char *key, int64_t min,
                      int64_t max, int64_t *ret, struct error *error);
int json_may_integer(const json_t *object, const char *where, const char *key, int64_t min,
                     int64_t max, int64_t *ret, struct error *error);
int json_may_number(const json_t *object, const char *where, const char *key, double min,
                    double max, double *ret, struct error *error);
int json_may_bool(const json_t *object, const char *where, const char *key, bool *ret,
                  struct error *error);
/* Any type, borrowed; -EINVAL when absent or not of `type`, where JSON_TRUE and JSON_FALSE both
 * stand for a boolean and JSON_REAL for any number. */
int json_need(const json_t *object, const char *where, const char *key, json_type type,
              const json_t **ret, struct error *error);
int json_may(const json_t *object, const char *where, const char *key, json_type type,
             const json_t **ret, struct error *error);
/* Refuses members that are not in the NULL-terminated list, naming the member and the known ones.
 */
int json_only(const json_t *object, const char *where, const char *const *known,
              struct error *error);
