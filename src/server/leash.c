#include "server/engine-internal.h"

#include <errno.h>
#include <string.h>

bool leash_has_room(struct engine *engine)
{
    bool ret;

    pthread_mutex_lock(&engine->lock);
    ret = engine->leash_count < LEASH_LIMIT;
    pthread_mutex_unlock(&engine->lock);
    return ret;
}

int engine_leash(struct engine *engine, const char *id,
                 void (*done)(void *user, struct http_blob *halts), void *user)
{
    double until = engine_mono(engine) + LEASH_SECONDS;
    const struct permit *permit;
    struct leash *leash;
    int r = 0;

    pthread_mutex_lock(&engine->lock);
    permit = table_get(&engine->permits, id);
    if (engine->closed || engine->reloading || engine->leash_count >= LEASH_LIMIT)
        r = -EBUSY;
    else if (!permit)
        r = -ENOENT;
    else if (permit->rollout->halt_published)
        r = -EEXIST;
    else {
        leash = xmalloc(sizeof *leash);
        *leash = (struct leash){
            .rollout = xstrdup(permit->rollout->id), .until = until, .done = done, .user = user};
        *engine->leashes_end = leash;
        engine->leashes_end = &leash->next;
        engine->leash_count++;
    }
    pthread_mutex_unlock(&engine->lock);
    return r;
}

/* Takes out of the list, into one of its own, what `wanted` says. */
static struct leash *
take(struct engine *engine,
     bool (*wanted)(struct engine *engine, const struct leash *leash, double now), double now)
{
    struct leash *taken = NULL, **taken_end = &taken, **at;

    for (at = &engine->leashes; *at;) {
        struct leash *leash = *at;

        if (!wanted(engine, leash, now)) {
            at = &leash->next;
            continue;
        }
        *at = leash->next;
        leash->next = NULL;
        *taken_end = leash;
        taken_end = &leash->next;
        engine->leash_count--;
    }
    engine->leashes_end = at;
    return taken;
}

static void answer(struct leash *leash, struct http_blob *halts)
{
    while (leash) {
        struct leash *next = leash->next;

        leash->done(leash->user, halts);
        free(leash->rollout);
        free(leash);
        leash = next;
    }
}

static bool is_halted(struct engine *engine, const struct leash *leash, double now)
{
    const struct server_rollout *rollout = fold_rollout(engine, leash->rollout);

    return rollout && rollout->halt_published;
}

static bool is_old(struct engine *engine, const struct leash *leash, double now)
{
    return leash->until <= now;
}

static bool is_any(struct engine *engine, const struct leash *leash, double now)
{
    return true;
}

void leashes_wake(struct engine *engine)
{
    struct leash *woken;
    struct http_blob *halts = engine_halts(engine);

    pthread_mutex_lock(&engine->lock);
    woken = take(engine, is_halted, 0);
    pthread_mutex_unlock(&engine->lock);
    answer(woken, halts);
    http_blob_unref(halts);
}

void leashes_expire(struct engine *engine, double now, bool all)
{
    struct leash *old = NULL;

    pthread_mutex_lock(&engine->lock);
    if (all)
        engine->closed = true;
    /* All last equally long, so the oldest come first. */
    if (engine->leashes && (all || engine->leashes->until <= now))
        old = take(engine, all ? is_any : is_old, now);
    pthread_mutex_unlock(&engine->lock);
    answer(old, NULL);
}
