/* What the files of the engine share. All of it belongs to the engine's thread, but for what
 * `lock` guards: written by the engine's thread with the lock held, read by it without, read by
 * others with it. Not for other folders. */
#pragma once

#include "base/buf.h"
#include "release/manifest.h"
#include "replay/lines.h"
#include "rollout/rollout.h"
#include "server/engine.h"
#include "server/story.h"
#include "server/table.h"
#include "store/store.h"
#include "trust/envelope.h"

#include <pthread.h>

#define LEASH_LIMIT 10000
#define LEASH_SECONDS 25.0
#define LEASH_EVERY_MS 10000
#define ALIVE_GAP_MS 2000 /* a longer silence of the engine itself is an outage, not harm */
#define REVERT_SPREAD_MS 300000
#define PRESTAGE_MS 3600000
#define CONFIRM_WITHIN_MS 86400000

struct device {
    char id[65];
    uint32_t index; /* its row's number less one */
    struct public_key key;
    char *organisation, *ring, *machine, *group, *attributes, *products, *agent, *boot;
    int64_t boots, enrolled_ms, seen_ms;
    enum device_standing standing;
    uint64_t last_seq;
    struct permit *open; /* the trial that it holds, or NULL */
};

enum permit_arm { PERMIT_RELEASE, PERMIT_PLACEBO, PERMIT_REVERT, PERMIT_NONE /* answered `no` */ };

struct permit {
    char id[33];
    char nonce[65];
    struct device *device;
    struct server_rollout *rollout;
    enum permit_arm arm;
    double t, deadline;
    uint64_t begin_seq;
    enum store_permit_state state;
    char outcome[16]; /* the final one, "" when none came */
    uint64_t outcome_seq, interrupted_seq, regressed_seq, reverted_seq;
    char boot[65]; /* of the last `interrupted`, "" when none */
    bool asked;
};

struct release {
    char id[65];
    struct manifest manifest;
    char *text;
    size_t text_len;
    char *signature, *lab, *by;
    int64_t at_ms;
    bool halted;
};

/* Why devices failed, for people. */
struct cause {
    char *why;
    enum rollout_arm arm;
    uint64_t count;
    double first_t;
    char first_device[65];
};
#define CAUSES_MAX 32

struct server_rollout {
    char *id;
    struct release *release;
    struct start_line start;
    struct policy policy;
    struct rollout *fold;
    int64_t at_ms;
    char *by;
    uint64_t approvals;
    uint64_t obeyed; /* trials that went back because of the halt: the fold counts them failed */
    bool *obeys;     /* which, by number in the fold */
    size_t obeys_cap;
    bool superseded; /* a newer rollout of its channel was started */
    char *mismatch;  /* the first decision that the refold did not reproduce, or NULL */

    uint32_t *number_of; /* by device index: number in the fold, UINT32_MAX when unknown to it */
    size_t number_cap;
    struct device **devices; /* by number in the fold */
    size_t device_count, device_cap;

    struct cause *causes; /* in order of first appearance */
    size_t cause_count;
    struct story story;
    double last_reverted_at; /* NAN: none */
    double halted_at;
    struct buf halt_decision,
        pause_decision;             /* the last ones' lines; a resume replaces the pause */
    struct rollout_decision answer; /* to the event's own device; strings not kept */
    bool answered;
    bool halt_published; /* under `lock` */

    double admit;            /* of the plan, for devices that the controller lets ask */
    uint64_t begins, grants; /* since the controller looked last */
    double extra;
    double admit_looked;
};

struct halt {
    int64_t number;
    struct server_rollout *rollout;
    char *reason;
    int64_t at_ms, spread_ms;
    bool revert, now;
};

struct plan {
    char *key; /* "product/channel" */
    char *product, *channel;
    struct http_blob *blob; /* under `lock` */
};

struct leash {
    char *rollout; /* its name: the rollout itself may be read anew meanwhile */
    double until;  /* monotonic */
    void (*done)(void *user, struct http_blob *halts);
    void *user;
    struct leash *next;
};

struct engine {
    struct engine_options options;
    char *directory;
    struct public_key *release_keys;
    int lock_fd;
    struct store *store;
    char server_key_id[KEY_ID_SIZE];

    pthread_t thread;
    pthread_mutex_t queue_lock;
    pthread_cond_t queue_signal;
    struct engine_request *queue, **queue_end;
    size_t queue_count, queue_wanted; /* requests that wait; so many wake the engine */
    bool stopping;

    pthread_mutex_t lock;
    struct table devices;                      /* under `lock` */
    struct table permits;                      /* open ones, under `lock` */
    struct table plans;                        /* under `lock` */
    struct http_blob *halts_blob, *state_blob; /* under `lock` */
    struct leash *leashes, **leashes_end;      /* under `lock`, oldest first */
    size_t leash_count;
    bool closed;    /* under `lock`: takes no more leashes */
    bool reloading; /* under `lock`: what is open is not known just now */

    struct device **device_list; /* by index */
    size_t device_count, device_cap;
    struct table releases;
    struct release **release_list;
    size_t release_count;
    struct table rollouts;
    struct server_rollout **rollout_list;
    size_t rollout_count;
    struct halt *halts;
    size_t halt_count;

    /* time, see engine_time() */
    double base_mono;
    int64_t base_ms, last_ms, alive_ms;

    /* the batch */
    bool writing; /* a transaction is open */
    int failure;  /* the first error of the store in this batch */
    struct error failure_text;
    double down_until; /* monotonic: storage failed, don't try before */
    bool was_down;     /* bodies were refused since the last commit: every gap counts */
    bool must_reload;
    bool disk_low;
    struct error disk_text;
    bool halt_now; /* a person wants it without spread */
    bool halts_changed, plans_changed, state_changed;
    double state_built, heartbeat_at, admit_at;

    void (*changed)(void *user);
    void *changed_user;
};

static inline bool rollout_obeyed(const struct server_rollout *rollout, uint32_t number)
{
    return number < rollout->obeys_cap && rollout->obeys[number];
}

static inline struct device *rollout_device_of(const struct server_rollout *rollout,
                                               uint32_t number)
{
    return number < rollout->device_count ? rollout->devices[number] : NULL;
}

/* engine.c */
int64_t engine_ms(struct engine *engine);      /* the engine's clock: never back, no jumps */
int64_t engine_wall_ms(struct engine *engine); /* for people */
double engine_mono(struct engine *engine);
/* Notes the first failure of the batch; returns `r`. */
int engine_keep(struct engine *engine, int r, const struct error *error);

bool call_is_urgent(enum engine_call call); /* goes through while the disk is low */

/* queue.c */
/* The next requests in order, as many as go into one batch, after at most `idle` seconds; `last`:
 * when the batch before was through (monotonic); `ret_stop`: nothing is left and it is time to end.
 */
struct engine_request *queue_take(struct engine *engine, double idle, double last, bool *ret_stop);

/* answers.c */
void answer_refuse(struct engine_request *request, unsigned status, const char *code,
                   const char *title, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
void answer_storage(struct engine_request *request, const struct error *error);
void answer_json(struct engine_request *request, json_t *value /* stolen */);
void answer_sealed(struct engine *engine, struct engine_request *request, const char *context,
                   json_t *value /* stolen */);
/* Signed, for http_reply_blob; its ETag is of what it says. */
struct http_blob *sealed_blob(struct engine *engine, const char *context,
                              json_t *value /* stolen */, const char *cache_control);
/* A row of the log. */
void engine_log(struct engine *engine, const char *code, const char *by, const char *rollout,
                const char *device, const char *format, ...) __attribute__((format(printf, 6, 7)));

/* fold.c */
struct server_rollout *fold_rollout(struct engine *engine, const char *id);
/* Applies to the rollout, keeps event and decisions, does what the decisions say. 0, -ETIME (late),
 * or another error of rollout_apply with the rollout unchanged and nothing kept. */
int fold_event(struct engine *engine, struct server_rollout *rollout, struct event_line *line,
               struct error *error);
void fold_tick(struct engine *engine, struct server_rollout *rollout);
/* Adds the rollout from its stored events; a decision that differs pauses it. */
int fold_load(struct engine *engine, const struct store_rollout *row, struct error *error);
void fold_start(struct engine *engine, struct release *release,
                struct start_line *start /* moved */, const char *by, int64_t at_ms,
                struct policy *policy, struct rollout *fold);
void server_rollout_free(struct server_rollout *rollout);

/* load.c */
int engine_load(struct engine *engine, struct error *error);
void engine_unload(struct engine *engine);

/* devices.c */
struct device *device_find(struct engine *engine, const char *id);
void device_add(struct engine *engine, struct device *device);
void device_put(struct engine *engine, struct device *device);
void device_clear(struct device *device); /* its texts */
void device_drop_last(struct engine *engine);
/* Standing and `seq`. False: the request is answered (refused, or the same again). */
bool device_accepts(struct engine *engine, struct engine_request *request, struct device *device);
/* The device that signed the request, if it is known and device_accepts; NULL: it is answered. */
struct device *device_asking(struct engine *engine, struct engine_request *request);
/* Keeps the body of an accepted request beside its answer. */
void device_evidence(struct engine *engine, struct engine_request *request, struct device *device,
                     const char *call);
void call_enroll(struct engine *engine, struct engine_request *request);
void call_status(struct engine *engine, struct engine_request *request);
void call_device_retire(struct engine *engine, struct engine_request *request);
void call_device_list(struct engine *engine, struct engine_request *request);
void call_device_show(struct engine *engine, struct engine_request *request);
void call_token_new(struct engine *engine, struct engine_request *request);

/* permits.c */
extern const char *const permit_arm_names[];
void permit_put(struct engine *engine, const struct permit *permit);
struct permit *permit_from_row(struct engine *engine, const struct store_permit *row);
/* A copy, free it; NULL when unknown or when the store failed. */
struct permit *permit_find(struct engine *engine, const char *id);
struct permit *permit_by_nonce(struct engine *engine, const char *nonce);
void permit_open(struct engine *engine, struct permit *permit);  /* into the tables */
void permit_close(struct engine *engine, struct permit *permit); /* out of them, and freed */
/* The stored answer to a begin, or what has become of it since: a permit that was halted or whose
 * deadline has passed is not given again. */
void permit_answer_again(struct engine *engine, struct engine_request *request,
                         const struct permit *permit, const char *stored);
/* The evidence's answer, owned by the caller; NULL: the store failed. */
char *stored_answer(struct engine *engine, const struct device *device, uint64_t seq);
void call_begin(struct engine *engine, struct engine_request *request);

/* reports.c */
void call_report(struct engine *engine, struct engine_request *request);
/* The stored answer, or `revert` once the release is halted. */
void report_answer_again(struct engine *engine, struct engine_request *request,
                         const struct permit *permit, const char *stored);

/* releases.c */
struct release *release_find(struct engine *engine, const char *id);
struct release *release_from_row(const struct store_release *row, struct error *error);
void release_add(struct engine *engine, struct release *release);
void release_free(struct release *release);
/* The halted release with the same payload, or NULL. */
const struct release *release_halted_payload(struct engine *engine, const struct release *release);
void call_release_publish(struct engine *engine, struct engine_request *request);
void call_release_list(struct engine *engine, struct engine_request *request);
void call_release_show(struct engine *engine, struct engine_request *request);

/* rollouts.c */
void call_rollout_start(struct engine *engine, struct engine_request *request);
void call_rollout_person(struct engine *engine, struct engine_request *request);
void call_rollout_list(struct engine *engine, struct engine_request *request);
void call_rollout_show(struct engine *engine, struct engine_request *request);
void call_rollout_events(struct engine *engine, struct engine_request *request);
void call_rollout_history(struct engine *engine, struct engine_request *request);
void call_log(struct engine *engine, struct engine_request *request);

/* views.c */
extern const char *const rollout_state_names[];
json_t *view_rollout(struct engine *engine, struct server_rollout *rollout);
json_t *view_pairs(const struct server_rollout *rollout, size_t most);
json_t *view_state(struct engine *engine);
json_t *time_ms(double t); /* NAN: null */
/* What the device is for the rollout ("healthy", "failed", …), NULL: it never began. */
const char *rollout_device_name(const struct server_rollout *rollout, const struct device *device);

/* explain.c: sentences for people, newest knowledge first to last */
json_t *explain_rollout(struct engine *engine, struct server_rollout *rollout);

/* halts.c */
void halt_add(struct engine *engine, struct server_rollout *rollout,
              const struct rollout_decision *decision);
/* A person's `now` for a rollout that is halted: confirmed devices no longer spread in time. */
void halt_hurry(struct engine *engine, struct server_rollout *rollout, const char *by,
                const char *reason);
void halt_from_row(struct engine *engine, const struct store_halt *row);
void halts_publish(struct engine *engine);

/* plan.c */
void plans_publish(struct engine *engine);
void plan_need(struct engine *engine, const char *product, const char *channel);
void plan_admit(struct engine *engine, double now);
void plans_free(struct engine *engine);

/* leash.c */
bool leash_has_room(struct engine *engine);
void leashes_wake(struct engine *engine);
void leashes_expire(struct engine *engine, double now, bool all);
