#include "server/engine-internal.h"
#include "server/store-mark.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define HEARTBEAT 1.0
#define STATE_EVERY 0.2
#define RETRY 1.0 /* seconds until storage that failed is tried again */

static double clock_read(const struct engine *engine, clockid_t clock)
{
    return engine->options.clock ? engine->options.clock(clock) : clock_now(clock);
}

double engine_mono(struct engine *engine)
{
    return clock_read(engine, CLOCK_MONOTONIC);
}

int64_t engine_wall_ms(struct engine *engine)
{
    return (int64_t)(clock_read(engine, CLOCK_REALTIME) * 1000);
}

/* Wall time at the start, then CLOCK_MONOTONIC: a wall clock that jumps moves no deadline. */
int64_t engine_ms(struct engine *engine)
{
    double since = engine_mono(engine) - engine->base_mono;
    int64_t now = engine->base_ms + (int64_t)(since * 1000);

    if (now > engine->last_ms)
        engine->last_ms = now;
    return engine->last_ms;
}

int engine_keep(struct engine *engine, int r, const struct error *error)
{
    if (r < 0 && engine->failure == 0) {
        engine->failure = r;
        engine->failure_text = *error;
    }
    return r;
}

/* Requests */

typedef void call_function(struct engine *engine, struct engine_request *request);

static const struct call {
    call_function *run;
    bool reads;  /* writes nothing */
    bool urgent; /* goes through while the disk is low: halts and pauses */
} calls[] = {
    [CALL_ENROLL] = {call_enroll, false, false},
    [CALL_BEGIN] = {call_begin, false, false},
    [CALL_REPORT] = {call_report, false, false},
    [CALL_STATUS] = {call_status, false, false},
    [CALL_TOKEN_NEW] = {call_token_new, false, false},
    [CALL_RELEASE_PUBLISH] = {call_release_publish, false, false},
    [CALL_ROLLOUT_START] = {call_rollout_start, false, false},
    [CALL_ROLLOUT_PAUSE] = {call_rollout_person, false, true},
    [CALL_ROLLOUT_RESUME] = {call_rollout_person, false, false},
    [CALL_ROLLOUT_HALT] = {call_rollout_person, false, true},
    [CALL_ROLLOUT_APPROVE] = {call_rollout_person, false, false},
    [CALL_DEVICE_RETIRE] = {call_device_retire, false, false},
    [CALL_HOLD] = {call_rollout_person, false, true},
    [CALL_RELEASE_LIST] = {call_release_list, true, false},
    [CALL_RELEASE_SHOW] = {call_release_show, true, false},
    [CALL_ROLLOUT_LIST] = {call_rollout_list, true, false},
    [CALL_ROLLOUT_SHOW] = {call_rollout_show, true, false},
    [CALL_ROLLOUT_EVENTS] = {call_rollout_events, true, false},
    [CALL_ROLLOUT_HISTORY] = {call_rollout_history, true, false},
    [CALL_DEVICE_LIST] = {call_device_list, true, false},
    [CALL_DEVICE_SHOW] = {call_device_show, true, false},
    [CALL_LOG] = {call_log, true, false},
    [CALL_STATE] = {NULL, true, false},
};

bool call_is_urgent(enum engine_call call)
{
    return calls[call].urgent;
}

static void answer_and_forget(struct engine_request *request)
{
    while (request) {
        struct engine_request *next = request->next;
        request->done(request);
        request = next;
    }
}

/* The disk */

/* A full disk must leave room for halts, so bodies are refused before it is full. */
static void look_at_disk(struct engine *engine)
{
    uint64_t space = 0;
    bool low;

    if (space_free(AT_FDCWD, engine->directory, &space, NULL) < 0)
        return;
    low = space < engine->options.min_free;
    if (low)
        error_set(&engine->disk_text, -ENOSPC,
                  "%s has %" PRIu64 " bytes free and %" PRIu64
                  " must stay free for halts. Free some space there",
                  engine->directory, space, engine->options.min_free);
    if (low && !engine->disk_low)
        log_error("disk-low", "%s", engine->disk_text.text);
    if (!low && engine->disk_low)
        log_notice("disk-well", "%s has room again: bodies are taken", engine->directory);
    engine->disk_low = low;
    engine->was_down = engine->was_down || low;
}

/* Batches */

static bool rollout_lives(const struct server_rollout *rollout)
{
    struct rollout_view view;

    rollout_look(rollout->fold, &view);
    return view.state == ROLLOUT_RUNNING || view.state == ROLLOUT_PAUSED;
}

/* Time in which nobody could report is nobody's failure. It ends with the commit: until then it
 * counts again. */
static void count_outage(struct engine *engine, int64_t gap_allowed)
{
    int64_t now = engine_ms(engine), from = engine->alive_ms;

    if (now - from <= gap_allowed)
        return;
    for (size_t i = 0; i < engine->rollout_count; i++) {
        struct server_rollout *rollout = engine->rollout_list[i];
        struct event_line line = {.event = {.type = EVENT_OUTAGE,
                                            .t = (double)now / 1000,
                                            .from = (double)from / 1000,
                                            .to = (double)now / 1000}};
        struct rollout_view view;
        struct error error;

        if (!rollout_lives(rollout))
            continue;
        rollout_look(rollout->fold, &view);
        line.event.from = fmax(line.event.from, view.t);
        if (line.event.from >= line.event.to)
            continue;
        if (fold_event(engine, rollout, &line, &error) < 0)
            log_error("outage-refused", "rollout %s: %s", rollout->id, error.text);
    }
    if (engine->rollout_count > 0)
        engine_log(engine, "outage", NULL, NULL, NULL,
                   "The control plane took no reports for %.1f s; open deadlines moved by it",
                   (double)(now - from) / 1000);
}

static int batch_begin(struct engine *engine)
{
    struct error error;

    if (engine->writing)
        return 0;
    if (engine_keep(engine, engine->store->does->begin(engine->store, &error), &error) < 0)
        return engine->failure;
    engine->writing = true;
    count_outage(engine, engine->was_down ? 0 : ALIVE_GAP_MS);
    return engine->failure;
}

static int batch_commit(struct engine *engine)
{
    int64_t now = engine_ms(engine);
    struct error error;

    if (!engine->writing)
        return engine->failure;
    if (engine->failure == 0)
        engine_keep(engine, engine->store->does->heartbeat(engine->store, now, &error), &error);
    if (engine->failure == 0)
        engine_keep(engine, engine->store->does->commit(engine->store, &error), &error);
    engine->writing = false;
    if (engine->failure == 0) {
        engine->alive_ms = now;
        engine->was_down = engine->disk_low;
        engine->heartbeat_at = engine_mono(engine);
    }
    return engine->failure;
}

static int reload(struct engine *engine, struct error *error)
{
    int r;

    pthread_mutex_lock(&engine->lock);
    engine->reloading = true;
    pthread_mutex_unlock(&engine->lock);
    r = engine_load(engine, error);
    engine->must_reload = r < 0;
    pthread_mutex_lock(&engine->lock);
    engine->reloading = r < 0;
    pthread_mutex_unlock(&engine->lock);
    return r;
}

/* What the memory holds is ahead of the store: back to what was committed. */
static void batch_undo(struct engine *engine)
{
    struct error error;

    engine->store->does->rollback(engine->store);
    log_error("storage", "%s", engine->failure_text.text);
    engine->down_until = engine_mono(engine) + RETRY;
    engine->was_down = true;
    engine->halts_changed = engine->plans_changed = engine->state_changed = false;
    engine->writing = false;
    if (reload(engine, &error) < 0)
        log_error("storage", "cannot read the state back: %s", error.text);
}

static bool storage_up(struct engine *engine)
{
    struct error error;

    if (engine_mono(engine) < engine->down_until)
        return false;
    if (!engine->must_reload || reload(engine, &error) == 0)
        return true;
    engine->failure_text = error;
    engine->down_until = engine_mono(engine) + RETRY;
    return false;
}

/* After a commit: what others see. */
static void publish(struct engine *engine)
{
    if (engine->plans_changed)
        plans_publish(engine);
    if (engine->halts_changed) {
        halts_publish(engine);
        leashes_wake(engine);
    }
    engine->halts_changed = engine->plans_changed = false;
}

static void publish_state(struct engine *engine)
{
    double now = engine_mono(engine);
    struct http_blob *blob, *old;

    if (!engine->state_changed || now - engine->state_built < STATE_EVERY || engine->must_reload)
        return;
    engine->state_changed = false;
    engine->state_built = now;
    _cleanup_json_ json_t *state = view_state(engine);
    _cleanup_free_ char *text = json_text(state);

    blob = http_blob_new(text, strlen(text), "application/json", NULL, "no-store");
    pthread_mutex_lock(&engine->lock);
    old = engine->state_blob;
    engine->state_blob = blob;
    pthread_mutex_unlock(&engine->lock);
    http_blob_unref(old);
    pthread_mutex_lock(&engine->queue_lock);
    void (*changed)(void *user) = engine->changed;
    void *user = engine->changed_user;
    pthread_mutex_unlock(&engine->queue_lock);
    if (changed)
        changed(user);
}

static void apply(struct engine *engine, struct engine_request *request)
{
    const struct call *call = &calls[request->call];

    if (engine->disk_low && !call->reads && !call->urgent) {
        answer_storage(request, &engine->disk_text);
        return;
    }
    if (!call->reads && batch_begin(engine) < 0)
        return;
    if (request->call == CALL_STATE)
        answer_json(request, view_state(engine));
    else
        call->run(engine, request);
}

static void ticks(struct engine *engine)
{
    /* While bodies are refused no deadline runs. */
    if (engine->disk_low)
        return;
    for (size_t i = 0; i < engine->rollout_count && engine->failure == 0; i++) {
        struct server_rollout *rollout = engine->rollout_list[i];

        if (rollout_next_tick(rollout->fold) * 1000 > (double)engine_ms(engine))
            continue;
        if (batch_begin(engine) == 0)
            fold_tick(engine, rollout);
    }
}

static void run_batch(struct engine *engine, struct engine_request *requests)
{
    double now = engine_mono(engine);

    engine->failure = 0;
    if (!storage_up(engine)) {
        for (struct engine_request *r = requests; r; r = r->next)
            answer_storage(r, &engine->failure_text);
        answer_and_forget(requests);
        return;
    }
    if (now - engine->heartbeat_at >= HEARTBEAT || requests)
        look_at_disk(engine);
    ticks(engine);
    for (struct engine_request *r = requests; r && engine->failure == 0; r = r->next)
        apply(engine, r);
    if (now - engine->heartbeat_at >= HEARTBEAT && engine->failure == 0 && !engine->disk_low)
        batch_begin(engine);
    if (batch_commit(engine) < 0) {
        batch_undo(engine);
        for (struct engine_request *r = requests; r; r = r->next)
            answer_storage(r, &engine->failure_text);
    } else {
        if (now - engine->admit_at >= HEARTBEAT) {
            engine->admit_at = now;
            plan_admit(engine, now);
        }
        publish(engine);
    }
    answer_and_forget(requests);
    publish_state(engine);
    leashes_expire(engine, now, false);
}

static double idle_time(struct engine *engine)
{
    double now = engine_mono(engine), idle = engine->heartbeat_at + HEARTBEAT - now;
    double t = (double)engine_ms(engine) / 1000;

    if (engine->must_reload || now < engine->down_until)
        return fmax(0.01, fmin(RETRY, engine->down_until - now));
    if (engine->disk_low)
        return 0.25;
    for (size_t i = 0; i < engine->rollout_count; i++)
        idle = fmin(idle, rollout_next_tick(engine->rollout_list[i]->fold) - t + 0.001);
    if (engine->state_changed)
        idle = fmin(idle, engine->state_built + STATE_EVERY - now);
    return idle;
}

static void *run(void *pointer)
{
    struct engine *engine = pointer;
    double last = -1; /* when the last batch with requests was through */
    bool stop = false;

    while (!stop) {
        struct engine_request *requests = queue_take(engine, idle_time(engine), last, &stop);
        bool any = requests != NULL;

        run_batch(engine, requests);
        if (any)
            last = clock_now(CLOCK_MONOTONIC);
    }
    return NULL;
}

/* Opening and closing */

static int lock_directory(struct engine *engine, struct error *error)
{
    _cleanup_free_ char *path = path_join(engine->directory, "store.lock");

    engine->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (engine->lock_fd < 0)
        return error_set(error, -errno, "%s: cannot be opened: %s", path, strerror(errno));
    if (flock(engine->lock_fd, LOCK_EX | LOCK_NB) < 0)
        return error_set(error, -EBUSY,
                         "%s: another server holds this folder. Stop it first, or give this one a "
                         "folder of its own",
                         path);
    return 0;
}

/* The engine's clock goes on where it was, even if the wall clock went back meanwhile. */
static int set_clock(struct engine *engine, struct error *error)
{
    int64_t alive = 0, wall = engine_wall_ms(engine);
    int r = engine->store->does->last_heartbeat(engine->store, &alive, error);

    if (r < 0 && r != -ENOENT)
        return r;
    for (size_t i = 0; i < engine->rollout_count; i++) {
        struct rollout_view view;

        rollout_look(engine->rollout_list[i]->fold, &view);
        if (view.t * 1000 > (double)alive)
            alive = llround(view.t * 1000);
    }
    engine->base_mono = engine_mono(engine);
    engine->base_ms = engine->last_ms = wall > alive ? wall : alive;
    engine->alive_ms = r == -ENOENT ? engine->base_ms : alive;
    return 0;
}

static void init_locks(struct engine *engine)
{
    pthread_condattr_t attributes;

    pthread_mutex_init(&engine->queue_lock, NULL);
    pthread_mutex_init(&engine->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&engine->queue_signal, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void engine_free(struct engine *engine)
{
    engine_unload(engine);
    plans_free(engine);
    if (engine->store)
        engine->store->does->close(engine->store);
    if (engine->lock_fd >= 0)
        close(engine->lock_fd);
    if (engine->state_blob)
        http_blob_unref(engine->state_blob);
    if (engine->halts_blob)
        http_blob_unref(engine->halts_blob);
    pthread_mutex_destroy(&engine->queue_lock);
    pthread_mutex_destroy(&engine->lock);
    pthread_cond_destroy(&engine->queue_signal);
    key_wipe(&engine->options.server_key);
    key_wipe(&engine->options.enrolment_key);
    free(engine->release_keys);
    free(engine->directory);
    free(engine);
}

/* A rollout whose decisions can't be recomputed waits for a person. */
static void pause_mismatched(struct engine *engine)
{
    for (size_t i = 0; i < engine->rollout_count; i++) {
        struct server_rollout *rollout = engine->rollout_list[i];
        struct event_line line = {
            .event = {.type = EVENT_PAUSE,
                      .by = "maeslant",
                      .reason =
                          "recomputing its events gave another decision than the stored one"}};
        struct rollout_view view;
        struct error error;

        rollout_look(rollout->fold, &view);
        if (rollout->mismatch && view.state == ROLLOUT_RUNNING &&
            fold_event(engine, rollout, &line, &error) < 0)
            log_error("pause-refused", "rollout %s: %s", rollout->id, error.text);
    }
}

/* The first batch: the time without a server, and everything as others see it. */
static int first_batch(struct engine *engine, struct error *error)
{
    look_at_disk(engine);
    if (!engine->disk_low && engine->store->does->begin(engine->store, error) == 0) {
        engine->writing = true;
        count_outage(engine, 0);
        pause_mismatched(engine);
        if (batch_commit(engine) < 0) {
            batch_undo(engine);
            *error = engine->failure_text;
            return engine->failure;
        }
    }
    engine->failure = 0;
    engine->halts_changed = engine->plans_changed = engine->state_changed = true;
    engine->state_built = -1;
    publish(engine);
    publish_state(engine);
    return 0;
}

int engine_open(const struct engine_options *options, struct engine **ret, struct error *error)
{
    struct engine *engine = xcalloc(1, sizeof *engine);
    _cleanup_free_ char *path = path_join(options->directory, "store.db");
    int r;

    engine->options = *options;
    engine->lock_fd = -1;
    engine->directory = xstrdup(options->directory);
    engine->options.directory = engine->directory;
    engine->release_keys =
        xmemdup(options->release_keys, options->release_key_count * sizeof *options->release_keys);
    engine->options.release_keys = engine->release_keys;
    engine->queue_end = &engine->queue;
    engine->queue_wanted = 1;
    engine->leashes_end = &engine->leashes;
    engine->rollouts.by_pointer = true;
    engine->plans.by_pointer = true;
    key_id(&options->server_key.public, engine->server_key_id);
    init_locks(engine);
    if ((r = dir_make(AT_FDCWD, engine->directory, 0700, error)) < 0 ||
        (r = lock_directory(engine, error)) < 0 ||
        (r = store_mark_check(engine->lock_fd, path, error)) < 0 ||
        (r = store_open_sqlite(path, &engine->store, error)) < 0 ||
        (r = engine_load(engine, error)) < 0 || (r = set_clock(engine, error)) < 0 ||
        (r = first_batch(engine, error)) < 0) {
        engine_free(engine);
        return r;
    }
    store_mark_set(engine->lock_fd);
    if ((r = -pthread_create(&engine->thread, NULL, run, engine)) < 0) {
        engine_free(engine);
        return error_set(error, r, "cannot start a thread: %s", strerror(-r));
    }
    *ret = engine;
    return 0;
}

void engine_close(struct engine *engine)
{
    if (!engine)
        return;
    pthread_mutex_lock(&engine->queue_lock);
    engine->stopping = true;
    pthread_cond_signal(&engine->queue_signal);
    pthread_mutex_unlock(&engine->queue_lock);
    pthread_join(engine->thread, NULL);
    leashes_expire(engine, 0, true);
    engine_free(engine);
}
