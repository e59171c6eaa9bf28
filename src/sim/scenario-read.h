/* Readers of a scenario's members that remember the dotted path of what is wrong. Inside src/sim.
 */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct scenario_reader {
    char path[512]; /* of the member at fault */
    struct error *error;
};

/* Sets path and text and returns -EINVAL. `key` may be NULL: the object itself. */
int scenario_read_fail(struct scenario_reader *reader, const char *where, const char *key,
                       const char *format, ...) __attribute__((format(printf, 4, 5)));
/* "where.key" or, with an empty `where`, the key. */
void scenario_read_path(char *ret, size_t size, const char *where, const char *key);

int scenario_read_object(struct scenario_reader *reader, const json_t *value, const char *where,
                         const char *const *known);
/* The `may_` readers leave `ret` alone when the member is absent. */
int scenario_read_share(struct scenario_reader *reader, const json_t *object, const char *where,
                        const char *key, double min, double *ret);
int scenario_read_duration(struct scenario_reader *reader, const json_t *object, const char *where,
                           const char *key, double min, double max, double *ret);
int scenario_read_number(struct scenario_reader *reader, const json_t *object, const char *where,
                         const char *key, double min, double max, double *ret);
int scenario_read_count(struct scenario_reader *reader, const json_t *object, const char *where,
                        const char *key, uint64_t min, uint64_t max, uint64_t *ret);
int scenario_read_bool(struct scenario_reader *reader, const json_t *object, const char *where,
                       const char *key, bool *ret);
/* The number of the text in the NULL-terminated list. */
int scenario_read_choice(struct scenario_reader *reader, const json_t *object, const char *where,
                         const char *key, const char *const *names, unsigned *ret);
/* NULL in `ret` when absent. */
int scenario_read_array(struct scenario_reader *reader, const json_t *object, const char *where,
                        const char *key, const json_t **ret);
int scenario_read_member(struct scenario_reader *reader, const json_t *object, const char *where,
                         const char *key, const json_t **ret);
