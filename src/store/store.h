/* What must survive: events, bodies, devices, tokens, releases, permits, halts, log. Backends are a
 * struct of functions with the same verbs; `sqlite` is the first. One writer. Must never report a
 * commit that is not on stable storage. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Times named `_ms` are Unix milliseconds of the wall clock, for people; `t` is the engine's clock.
 * In rows that a verb hands out, texts and blobs live until the row function returns. */

struct store_event {
    int64_t number; /* over all rollouts, grows; 0 when adding: the store counts */
    const char *rollout;
    double t;
    const char *json; /* event or decision, as `maeslant replay` reads and prints it */
    bool decision;
};

struct store_device {
    int64_t number; /* dense, from 1 in order of enrolment */
    const char *id; /* 64 hex digits */
    uint8_t public_key[32];
    const char *organisation, *ring, *machine;
    const char *group;      /* availability group or NULL */
    const char *attributes; /* JSON object */
    const char *products;   /* JSON array of the last status, or NULL */
    const char *agent, *boot;
    int64_t boots;
    int64_t standing; /* enum device_standing */
    int64_t enrolled_ms, seen_ms;
};

struct store_token {
    const char *hash; /* SHA-256 of the token's text: the text itself is never stored */
    const char *organisation, *ring, *by;
    int64_t uses, expires_ms, made_ms;
};

struct store_release {
    const char *id, *product, *channel, *version, *payload;
    int64_t sequence;
    const void *manifest; /* exact bytes */
    size_t manifest_len;
    const char *signature;
    const char *lab; /* JSON: what was tested, or why not */
    const char *by;
    int64_t at_ms;
};

struct store_rollout {
    const char *id, *release, *product, *channel, *by;
    int64_t at_ms;
};

/* An accepted body of a device with its signature and the answer that it got. */
struct store_evidence {
    int64_t device;
    uint64_t seq;
    const char *call;
    int64_t at_ms;
    const void *body;
    size_t body_len;
    const void *signature; /* 64 bytes */
    const char *answer;
};

enum store_permit_state {
    PERMIT_OPEN,    /* the device holds it */
    PERMIT_SETTLED, /* an outcome came */
    PERMIT_SILENT,  /* its deadline passed first */
};
struct store_permit {
    const char *id, *nonce;
    int64_t device;
    const char *rollout;
    const char *arm; /* "release", "placebo", "revert" */
    double t, deadline;
    uint64_t begin_seq; /* its evidence holds the answer */
    int64_t state;
    const char *outcome; /* the final one, or NULL */
    uint64_t outcome_seq;
    uint64_t interrupted_seq, regressed_seq, reverted_seq; /* 0: never reported */
    const char *boot;                                      /* of the last `interrupted`, or NULL */
    bool asked; /* it came from a boot after the interruption: is it to go on? */
};

struct store_halt {
    int64_t number;
    const char *release, *rollout, *product, *channel, *reason;
    int64_t at_ms, spread_ms;
    bool revert, now;
};

struct store_log {
    int64_t number; /* 0 when adding */
    int64_t at_ms;
    const char *code;    /* stable: "rollout-halted" */
    const char *by;      /* who, NULL: the engine itself */
    const char *rollout; /* or NULL */
    const char *device;  /* or NULL */
    const char *text;    /* one sentence */
};

struct store;

/* Row functions return 0 to go on, a negative errno to stop; the verb returns what they returned.
 */
typedef int store_device_row(void *user, const struct store_device *row, uint64_t last_seq);
typedef int store_token_row(void *user, const struct store_token *row);
typedef int store_release_row(void *user, const struct store_release *row);
typedef int store_rollout_row(void *user, const struct store_rollout *row);
typedef int store_event_row(void *user, const struct store_event *row);
typedef int store_evidence_row(void *user, const struct store_evidence *row);
typedef int store_permit_row(void *user, const struct store_permit *row);
typedef int store_halt_row(void *user, const struct store_halt *row);
typedef int store_log_row(void *user, const struct store_log *row);

/* Errors of every verb: -ENOSPC (disk full), -EBUSY (another process holds the database), -EUCLEAN
 * (damaged), -EEXIST (a key is there already), -EROFS, -EIO; after any of them the transaction
 * can't be committed and must be rolled back. */
struct store_backend {
    const char *name;
    void (*close)(struct store *store);

    int (*begin)(struct store *store, struct error *error);
    int (*commit)(struct store *store, struct error *error);
    void (*rollback)(struct store *store);

    /* The last moment at which the server is known to have run, on the engine's clock. */
    int (*heartbeat)(struct store *store, int64_t t_ms, struct error *error);
    int (*last_heartbeat)(struct store *store, int64_t *ret_t_ms, struct error *error);

    int (*event_add)(struct store *store, const struct store_event *row, struct error *error);
    /* After `after`, at most `limit` (0: all), of one rollout, in order. */
    int (*events)(struct store *store, const char *rollout, int64_t after, uint64_t limit,
                  store_event_row *row, void *user, struct error *error);

    int (*device_put)(struct store *store, const struct store_device *row, struct error *error);
    int (*devices)(struct store *store, store_device_row *row, void *user, struct error *error);

    int (*evidence_add)(struct store *store, const struct store_evidence *row, struct error *error);
    /* -ENOENT when the device sent no accepted body with that seq. */
    int (*evidence)(struct store *store, int64_t device, uint64_t seq, store_evidence_row *row,
                    void *user, struct error *error);

    int (*token_put)(struct store *store, const struct store_token *row, struct error *error);
    int (*token)(struct store *store, const char *hash, store_token_row *row, void *user,
                 struct error *error); /* -ENOENT */

    int (*release_add)(struct store *store, const struct store_release *row, struct error *error);
    int (*releases)(struct store *store, store_release_row *row, void *user, struct error *error);

    int (*rollout_add)(struct store *store, const struct store_rollout *row, struct error *error);
    int (*rollouts)(struct store *store, store_rollout_row *row, void *user, struct error *error);

    int (*permit_put)(struct store *store, const struct store_permit *row, struct error *error);
    /* By id or, when `id` is NULL, by nonce; -ENOENT. */
    int (*permit)(struct store *store, const char *id, const char *nonce, store_permit_row *row,
                  void *user, struct error *error);
    int (*open_permits)(struct store *store, store_permit_row *row, void *user,
                        struct error *error);

    int (*halt_add)(struct store *store, const struct store_halt *row, struct error *error);
    int (*halts)(struct store *store, store_halt_row *row, void *user, struct error *error);

    int (*log_add)(struct store *store, const struct store_log *row, struct error *error);
    int (*log)(struct store *store, int64_t after, uint64_t limit, store_log_row *row, void *user,
               struct error *error);
};

struct store {
    const struct store_backend *does;
};

/* Opens or makes the database file, checks it whole (pages, indexes, schema version). -EUCLEAN with
 * the way out when it is damaged or of a newer version. */
int store_open_sqlite(const char *path, struct store **ret, struct error *error);
