/* What other threads see of the engine. */
#include "server/engine-internal.h"

enum device_standing engine_device_key(struct engine *engine, const char *id,
                                       struct public_key *ret)
{
    enum device_standing standing = STANDING_UNKNOWN;
    const struct device *device;

    pthread_mutex_lock(&engine->lock);
    device = table_get(&engine->devices, id);
    if (device) {
        standing = device->standing;
        *ret = device->key;
    }
    pthread_mutex_unlock(&engine->lock);
    return standing;
}

static struct http_blob *blob_ref(struct engine *engine, struct http_blob *const *blob)
{
    struct http_blob *ret;

    pthread_mutex_lock(&engine->lock);
    ret = *blob ? http_blob_ref(*blob) : NULL;
    pthread_mutex_unlock(&engine->lock);
    return ret;
}

struct http_blob *engine_halts(struct engine *engine)
{
    return blob_ref(engine, &engine->halts_blob);
}

struct http_blob *engine_state(struct engine *engine)
{
    return blob_ref(engine, &engine->state_blob);
}

struct http_blob *engine_plan(struct engine *engine, const char *product, const char *channel)
{
    _cleanup_free_ char *key = xasprintf("%s/%s", product, channel);
    const struct plan *plan;
    struct http_blob *ret = NULL;

    pthread_mutex_lock(&engine->lock);
    plan = table_get(&engine->plans, key);
    if (plan && plan->blob)
        ret = http_blob_ref(plan->blob);
    pthread_mutex_unlock(&engine->lock);
    return ret;
}

void engine_on_change(struct engine *engine, void (*changed)(void *user), void *user)
{
    pthread_mutex_lock(&engine->queue_lock);
    engine->changed_user = user;
    engine->changed = changed;
    pthread_mutex_unlock(&engine->queue_lock);
}
