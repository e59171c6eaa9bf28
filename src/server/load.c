#include "server/engine-internal.h"

#include <errno.h>
#include <string.h>

struct load {
    struct engine *engine;
    struct error *error;
    size_t devices;
};

static char *copy(const char *text)
{
    return text ? xstrdup(text) : NULL;
}

static int load_device(void *user, const struct store_device *row, uint64_t last_seq)
{
    struct load *load = user;
    struct engine *engine = load->engine;
    struct device *device;

    if (row->number != (int64_t)load->devices + 1)
        return error_set(load->error, -EUCLEAN, "device %s has number %lld, expected %zu", row->id,
                         (long long)row->number, load->devices + 1);
    if (load->devices < engine->device_count) {
        device = engine->device_list[load->devices];
        device_clear(device);
    } else {
        device = xcalloc(1, sizeof *device);
        memcpy(device->id, row->id, strnlen(row->id, sizeof device->id - 1));
        memcpy(device->key.bytes, row->public_key, sizeof device->key.bytes);
        device_add(engine, device);
    }
    load->devices++;
    pthread_mutex_lock(&engine->lock);
    device->standing = (enum device_standing)row->standing;
    pthread_mutex_unlock(&engine->lock);
    device->organisation = xstrdup(row->organisation);
    device->ring = xstrdup(row->ring);
    device->machine = xstrdup(row->machine);
    device->group = copy(row->group);
    device->attributes = xstrdup(row->attributes);
    device->products = copy(row->products);
    device->agent = copy(row->agent);
    device->boot = copy(row->boot);
    device->boots = row->boots;
    device->enrolled_ms = row->enrolled_ms;
    device->seen_ms = row->seen_ms;
    device->last_seq = last_seq;
    return 0;
}

static int load_release(void *user, const struct store_release *row)
{
    struct load *load = user;
    struct release *release = release_from_row(row, load->error);

    if (!release)
        return -EUCLEAN;
    release_add(load->engine, release);
    return 0;
}

static int load_rollout(void *user, const struct store_rollout *row)
{
    struct load *load = user;

    return fold_load(load->engine, row, load->error);
}

static int load_halt(void *user, const struct store_halt *row)
{
    struct load *load = user;

    halt_from_row(load->engine, row);
    return 0;
}

static int load_permit(void *user, const struct store_permit *row)
{
    struct load *load = user;
    struct permit *permit = permit_from_row(load->engine, row);

    if (!permit)
        return error_set(load->error, -EUCLEAN,
                         "permit %s names a device or rollout that is not in "
                         "the store",
                         row->id);
    permit_open(load->engine, permit);
    return 0;
}

/* Of two rollouts of a channel that were never ended, the later one was started to take the
 * earlier one's place. */
static void find_superseded(struct engine *engine)
{
    for (size_t i = 0; i < engine->rollout_count; i++) {
        struct server_rollout *rollout = engine->rollout_list[i];
        const struct manifest *a = &rollout->release->manifest;
        struct rollout_view view;

        rollout_look(rollout->fold, &view);
        if (view.state != ROLLOUT_RUNNING && view.state != ROLLOUT_PAUSED)
            continue;
        for (size_t j = i + 1; j < engine->rollout_count && !rollout->superseded; j++) {
            const struct manifest *b = &engine->rollout_list[j]->release->manifest;

            rollout->superseded =
                strcmp(a->product, b->product) == 0 && strcmp(a->channel, b->channel) == 0;
        }
    }
}

/* All but the devices: other threads must not take a device for unknown while the state is read
 * back. */
static void unload_rollouts(struct engine *engine)
{
    struct table permits;

    pthread_mutex_lock(&engine->lock);
    permits = engine->permits;
    engine->permits = (struct table){0};
    pthread_mutex_unlock(&engine->lock);
    for (size_t i = 0; i < permits.cap; i++)
        free(permits.slots[i]);
    table_free(&permits);
    for (size_t i = 0; i < engine->device_count; i++)
        engine->device_list[i]->open = NULL;
    for (size_t i = 0; i < engine->rollout_count; i++)
        server_rollout_free(engine->rollout_list[i]);
    for (size_t i = 0; i < engine->release_count; i++)
        release_free(engine->release_list[i]);
    for (size_t i = 0; i < engine->halt_count; i++)
        free(engine->halts[i].reason);
    free(engine->rollout_list);
    free(engine->release_list);
    free(engine->halts);
    table_free(&engine->rollouts);
    table_free(&engine->releases);
    engine->rollout_list = NULL;
    engine->release_list = NULL;
    engine->halts = NULL;
    engine->rollout_count = engine->release_count = engine->halt_count = 0;
}

int engine_load(struct engine *engine, struct error *error)
{
    struct load load = {engine, error, 0};
    const struct store_backend *does = engine->store->does;
    int r;

    unload_rollouts(engine);
    error->text[0] = '\0';
    if ((r = does->devices(engine->store, load_device, &load, error)) < 0)
        return error_prefix(error, r, "%s/store.db", engine->directory);
    /* Enrolled in a batch that was not committed. */
    while (engine->device_count > load.devices)
        device_drop_last(engine);
    if ((r = does->releases(engine->store, load_release, &load, error)) < 0 ||
        (r = does->rollouts(engine->store, load_rollout, &load, error)) < 0 ||
        (r = does->halts(engine->store, load_halt, &load, error)) < 0 ||
        (r = does->open_permits(engine->store, load_permit, &load, error)) < 0)
        return error_prefix(error, r, "%s/store.db", engine->directory);
    find_superseded(engine);
    engine->halts_changed = engine->plans_changed = engine->state_changed = true;
    return 0;
}

void engine_unload(struct engine *engine)
{
    unload_rollouts(engine);
    while (engine->device_count > 0)
        device_drop_last(engine);
    free(engine->device_list);
    engine->device_list = NULL;
    engine->device_cap = 0;
    table_free(&engine->devices);
}
