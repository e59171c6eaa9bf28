/* Events and decisions as JSON lines (docs/formats.md): what the store keeps, `maeslant replay`
 * reads and everybody compares. Must never write a line that reads back as another event, and
 * never read one member more than it knows. */
#pragma once

#include "base/json.h"
#include "rollout/rollout.h"

struct event_line {
    struct rollout_event event; /* strings borrowed */
    const char *device;         /* id, NULL when the event has none */
    const char *organisation;   /* begin */
    const char *group;          /* begin, may be NULL */
    const json_t *attributes;   /* begin: object of strings; borrowed */
    const char *arm;            /* outcome: what the permit said, may be NULL */
    const char *why;            /* outcome: the cause in a few words, for people; may be NULL */
};
/* Owned by the caller. */
char *event_text(const struct event_line *line);
/* Borrows its strings from `value`. -EINVAL for what is no event; the sentence starts with the path
 * of the member at fault, where there is one. `start` is read by start_read. */
int event_read(const json_t *value, struct event_line *ret, struct error *error);

/* The device as the rollout sees it; `ret_attributes` (free) is its array. */
struct rollout_device event_device(const struct event_line *line,
                                   struct rollout_attribute **ret_attributes);

/* Every kind of decision with all that is known of it: what the server keeps. `device` is the id,
 * NULL where the decision has none. Owned by the caller. */
char *decision_text(const struct rollout_decision *decision, const char *device);
/* The kinds that design/formats.md lists, with exactly its members; NULL for the others (resume,
 * done, silent, revert). */
char *decision_text_listed(const struct rollout_decision *decision, const char *device);
/* Equal but for evidence that differs by rounding (1e-9). */
bool decision_same(const char *stored, const char *now);

/* The `start` event. */
struct start_line {
    char *rollout, *release, *seed;
    double t;
    json_t *policy;        /* as policy_json writes it, or as a person wrote it */
    json_t *organisations; /* {name: devices} or NULL */
    json_t *excluded;      /* [{attribute: value, …}, …] or NULL */
    bool gate_off;
};
char *start_text(const struct start_line *line);
int start_read(const json_t *value, struct start_line *ret, struct error *error);
void start_free(struct start_line *line);
/* Makes the rollout that the line starts; `ret_policy` is the parsed policy (policy_free). */
int start_rollout(const struct start_line *line, struct policy *ret_policy, struct rollout **ret,
                  struct error *error);

extern const char *const outcome_names[]; /* by enum rollout_outcome, NULL-terminated */
