/* The engine: one thread that owns the store and the rollouts. Requests go in from any thread, are
 * applied in order in batches, committed together, and only then answered (group commit). Must
 * never answer what is not on stable storage, nor look at the network. */
#pragma once

#include "base/error.h"
#include "base/json.h"
#include "http/server.h"
#include "trust/key.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct engine;

struct engine_options {
    const char *directory;        /* store.db and artifacts/ live here */
    struct secret_key server_key; /* permits, halts, plans, answers */
    struct secret_key enrolment_key;
    const struct public_key *release_keys; /* accepted for publishing and handed to devices */
    size_t release_key_count;
    bool no_gate;      /* for comparison only: every permit is granted, nothing halts;
                          shown on every page and answer as "gate": "off" */
    uint64_t min_free; /* bytes that must stay free on the disk, 64 MiB */
    double (*clock)(clockid_t clock); /* NULL: clock_now; tests bring their own */
};
/* Opens the store (checks it whole: quick_check, schema version), refolds every rollout from its
 * events, writes `outage` events for the time since the last heartbeat, starts the thread.
 * -EUCLEAN with the way out when the database is damaged, -EBUSY when another server holds it. */
int engine_open(const struct engine_options *options, struct engine **ret, struct error *error);
/* Answers what waits, closes the store. */
void engine_close(struct engine *engine);

enum engine_call {
    /* devices: `value` is the parsed body, whose common members the front has checked against
     * docs/protocol.md; `device`, `seq`, `body`, `signature` are set; the signature was verified */
    CALL_ENROLL,
    CALL_BEGIN,
    CALL_REPORT,
    CALL_STATUS,
    /* administrators: `value` holds the call's members, `by` who it is */
    CALL_TOKEN_NEW,       /* organisation, ring, uses, expires_ms */
    CALL_RELEASE_PUBLISH, /* manifest, signature, lab | skipped; the payload lies in artifacts/ */
    CALL_ROLLOUT_START,   /* release, policy, organisations, name */
    CALL_ROLLOUT_PAUSE,   /* rollout, reason */
    CALL_ROLLOUT_RESUME,
    CALL_ROLLOUT_HALT,    /* rollout, reason, now */
    CALL_ROLLOUT_APPROVE, /* rollout, reason, stage */
    CALL_DEVICE_RETIRE,   /* device, reason */
    CALL_HOLD,            /* rollout, organisation, reason; `lift`: true ends it */
    /* reads: answered by the engine thread from the store, so that what was answered is what is */
    CALL_RELEASE_LIST,
    CALL_RELEASE_SHOW, /* release */
    CALL_ROLLOUT_LIST,
    CALL_ROLLOUT_SHOW,    /* rollout: view, decisions, pairs, explain sentences */
    CALL_ROLLOUT_EVENTS,  /* rollout, after, limit */
    CALL_ROLLOUT_HISTORY, /* rollout, after: what the page shows of one rollout */
    CALL_DEVICE_LIST,
    CALL_DEVICE_SHOW,
    CALL_LOG,   /* after, limit */
    CALL_STATE, /* all rollouts and devices by state, for the page */
};

struct engine_request {
    enum engine_call call;
    char device[65];
    uint64_t seq;
    const void *body; /* exact bytes: the evidence */
    size_t body_len;
    uint8_t signature[SIGNATURE_SIZE];
    struct public_key public_key; /* enroll */
    json_t *value;
    char by[64];
    /* Called once, in the engine's thread, after the commit. Must not block. The request and its
     * answer belong to the caller again. */
    void (*done)(struct engine_request *request);
    void *user;

    /* answer */
    unsigned status;    /* 200, or of the problem */
    char *text;         /* JSON (an envelope for devices, plain for administrators), malloc'd */
    double retry_after; /* seconds, < 0: none */
    const char *code, *title, *remedy; /* of the problem, static */
    struct error detail;
    struct engine_request *next; /* the engine's */
};
void engine_submit(struct engine *engine, struct engine_request *request);

/* Any thread, no lock held long: */
enum device_standing { STANDING_UNKNOWN, STANDING_GOOD, STANDING_RETIRED, STANDING_QUARANTINED };
enum device_standing engine_device_key(struct engine *engine, const char *device,
                                       struct public_key *ret);
/* Ready-made answers, or NULL; http_blob_unref when done. */
struct http_blob *engine_plan(struct engine *engine, const char *product, const char *channel);
struct http_blob *engine_halts(struct engine *engine);
struct http_blob *engine_state(struct engine *engine); /* CALL_STATE's answer, at most 200 ms old */

/* Leashes. Returns 0 and keeps the watch until `done` is called exactly once with the halts' blob
 * (a halt for the permit's release), or NULL after 25 s or at close; -EEXIST: already halted, reply
 * with engine_halts now; -ENOENT: no such open permit; -EBUSY: more than the limit are held. */
int engine_leash(struct engine *engine, const char *permit,
                 void (*done)(void *user, struct http_blob *halts), void *user);
/* Called (engine's thread) after every commit that changed what engine_state shows. */
void engine_on_change(struct engine *engine, void (*changed)(void *user), void *user);
