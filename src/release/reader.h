/* Reads the members of a manifest, one typed call each. The first error sticks: later calls do
 * nothing, so that a caller lists the members and looks at `result` once. Internal to release.
 * Must never let a value through that the manifest's struct could not hold. */
#pragma once

#include "release/manifest.h"

struct reader {
    const char *text;
    size_t len;
    enum manifest_for mode;
    const json_t *root;
    char **critical; /* borrowed */
    struct error *error;
    int result;
};

/* One object of the manifest. `path` is its place ("probes[1]", "" for the root), `kind` the same
 * without numbers ("probes"), under which its known keys are listed. */
struct object {
    struct reader *reader;
    const json_t *json; /* NULL: absent, every member is */
    const char *kind;
    char path[96];
};

enum need { MAY, NEED };

/* Fails with line, column and path of `key` in `object` (of the object itself when NULL). */
void reader_fail(const struct object *object, const char *key, int code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
bool reader_ok(const struct object *object);

/* The `MAY` forms leave `ret` as it is when the member is absent or null. Texts are owned by the
 * caller. */
void read_object(const struct object *object, const char *key, enum need need, const char *kind,
                 struct object *ret);
/* A string, or an integer as text: `port: 8080` needs no quotes. */
void read_text(const struct object *object, const char *key, enum need need, size_t max,
               char **ret);
void read_name(const struct object *object, const char *key, enum need need, char **ret);
/* Index in `choices`. Devices answer an unknown one with -EPROTONOSUPPORT: a newer manifest. */
void read_choice(const struct object *object, const char *key, enum need need,
                 const char *const *choices, int *ret);
void read_bool(const struct object *object, const char *key, bool *ret);
void read_integer(const struct object *object, const char *key, enum need need, int64_t min,
                  int64_t max, int64_t *ret);
void read_duration(const struct object *object, const char *key, double min, double max,
                   double *ret);
void read_size(const struct object *object, const char *key, uint64_t min, uint64_t max,
               uint64_t *ret);
/* A list of texts, NULL-terminated. An absent list leaves `ret` as it is. */
void read_list(const struct object *object, const char *key, enum need need, char ***ret);
void text_list_free(char **list);
/* A list with a program and its arguments: not empty, the first not empty. */
void read_command(const struct object *object, const char *key, enum need need, char ***ret);
/* An object of texts. */
void read_pairs(const struct object *object, const char *key, struct pair_text **ret,
                size_t *ret_count);
/* The text of a scalar that may stand for a text, owned by the caller, or NULL after a failure
 * reported at `key`. */
char *reader_scalar(const struct object *object, const char *key, const json_t *value, size_t max);

/* Refuses keys that are neither known nor critical, except on devices. */
void reader_only(const struct object *object);
/* Checks `critical` itself: each is there, and known to a device. */
void reader_critical(const struct object *root);

/* check.c: the members that `active` and the probes share, and those of each kind. */
void read_check(const struct object *object, struct check *ret);
void read_active(const struct object *object, struct check *ret);
void check_clear(struct check *check);
/* Every `${` in the text is closed and names something. `known`: NULL-terminated names, or NULL
 * when the device decides. */
int substitute_check(const char *text, const char *const *known, struct error *error);
