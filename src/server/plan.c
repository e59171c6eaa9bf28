#include "server/engine-internal.h"

#include "base/encode.h"

#include <math.h>
#include <string.h>

#define SMALL_FLEET 100     /* devices that may all ask at once */
#define PLAN_RELEASES 16    /* the newest; halts have a list of their own */
#define CONTROL_SECONDS 2.0 /* so long the controller watches before it lets more ask */

static struct plan *plan_find(struct engine *engine, const char *product, const char *channel)
{
    _cleanup_free_ char *key = xasprintf("%s/%s", product, channel);

    return table_get(&engine->plans, key);
}

/* A plan is there from the first release of a product and channel on. Plans are never taken away.
 */
void plan_need(struct engine *engine, const char *product, const char *channel)
{
    struct plan *plan = plan_find(engine, product, channel);

    if (plan)
        return;
    plan = xcalloc(1, sizeof *plan);
    plan->key = xasprintf("%s/%s", product, channel);
    plan->product = xstrdup(product);
    plan->channel = xstrdup(channel);
    pthread_mutex_lock(&engine->lock);
    table_put(&engine->plans, plan);
    pthread_mutex_unlock(&engine->lock);
}

static void salt_of(const struct server_rollout *rollout, char ret[static SHA256_HEX_SIZE])
{
    _cleanup_free_ char *text = xasprintf("maeslant salt v1\n%s\n", rollout->start.seed);

    /* The seed itself stays inside: who knows it knows the coins. */
    sha256_hex(text, strlen(text), ret);
    ret[32] = '\0';
}

static json_t *release_json(struct server_rollout *rollout)
{
    const struct manifest *manifest = &rollout->release->manifest;
    struct rollout_view view;
    char salt[SHA256_HEX_SIZE];
    double share;

    rollout_look(rollout->fold, &view);
    share = view.stage_index < rollout->policy.stage_count
                ? rollout->policy.stages[view.stage_index].share
                : 1;
    salt_of(rollout, salt);
    return json_pack(
        "{s:s, s:I, s:s, s:s, s:s, s:s, s:f, s:f, s:s, s:I, s:I, s:I, s:s, s:s, s:{s:s, s:I}}",
        "release", rollout->release->id, "sequence", (json_int_t)manifest->sequence, "version",
        manifest->version, "rollout", rollout->id, "state", rollout_state_names[view.state],
        "stage", view.stage ? view.stage : "", "share", share, "admit", rollout->admit, "salt",
        salt, "soak_ms", (json_int_t)llround(rollout->policy.soak * 1000), "deadline_ms",
        (json_int_t)llround(rollout->policy.deadline * 1000), "prestage_ms",
        (json_int_t)PRESTAGE_MS, "manifest", rollout->release->id, "signature",
        rollout->release->signature, "payload", "sha256", manifest->payload_sha256, "size",
        (json_int_t)manifest->payload_size);
}

static void publish(struct engine *engine, struct plan *plan)
{
    json_t *releases = json_array(), *value;
    struct http_blob *blob, *old;

    for (size_t i = engine->rollout_count; i-- > 0;) {
        struct server_rollout *rollout = engine->rollout_list[i];
        const struct manifest *manifest = &rollout->release->manifest;

        if (!rollout->superseded && json_array_size(releases) < PLAN_RELEASES &&
            strcmp(manifest->product, plan->product) == 0 &&
            strcmp(manifest->channel, plan->channel) == 0)
            json_array_append_new(releases, release_json(rollout));
    }
    value = json_pack(
        "{s:s, s:s, s:I, s:o}", "product", plan->product, "channel", plan->channel, "halts",
        (json_int_t)(engine->halt_count ? engine->halts[engine->halt_count - 1].number : 0),
        "releases", releases);
    if (engine->options.no_gate)
        json_object_set_new(value, "gate", json_string("off"));
    blob = sealed_blob(engine, CONTEXT_PLAN, value, "max-age=1");
    pthread_mutex_lock(&engine->lock);
    old = plan->blob;
    plan->blob = blob;
    pthread_mutex_unlock(&engine->lock);
    if (old)
        http_blob_unref(old);
}

void plans_publish(struct engine *engine)
{
    for (size_t i = 0; i < engine->plans.cap; i++)
        if (engine->plans.slots[i])
            publish(engine, engine->plans.slots[i]);
}

void plans_free(struct engine *engine)
{
    for (size_t i = 0; i < engine->plans.cap; i++) {
        struct plan *plan = engine->plans.slots[i];

        if (!plan)
            continue;
        if (plan->blob)
            http_blob_unref(plan->blob);
        free(plan->product);
        free(plan->channel);
        free(plan->key);
        free(plan);
    }
    table_free(&engine->plans);
}

static uint64_t fleet_of(const struct engine *engine, const struct server_rollout *rollout)
{
    const char *name;
    json_t *devices;
    uint64_t fleet = 0;

    json_object_foreach(rollout->start.organisations, name, devices)
    {
        fleet += (uint64_t)json_integer_value(devices);
    }
    return fleet ? fleet : engine->device_count;
}

/* A device's place in the hash is fixed, so `admit` counts from those who are through: they, and
 * twice as many as the window has room for now. When those who may ask don't, because they are
 * switched off, more are let in; when more ask than get permits, fewer are. */
static double admit_of(const struct engine *engine, struct server_rollout *rollout, double now)
{
    double fleet = (double)fleet_of(engine, rollout), room, through;
    struct rollout_view view;

    rollout_look(rollout->fold, &view);
    /* A pause by the alarm needs devices that ask, for its control check; a person's does not. */
    if (view.state == ROLLOUT_PAUSED && view.because.alarm == ALARM_PERSON)
        return 0;
    if (fleet <= SMALL_FLEET)
        return 1;
    room = fmax(1, floor((view.window - view.window_used) / fmax(view.cost, 1e-9)));
    if (now - rollout->admit_looked >= CONTROL_SECONDS) {
        if (rollout->begins > 2 * rollout->grants + 2)
            rollout->extra = floor(rollout->extra / 2);
        else if ((double)rollout->begins < room)
            rollout->extra = fmin(fleet, 2 * rollout->extra + 2 * room);
        rollout->begins = rollout->grants = 0;
        rollout->admit_looked = now;
    }
    through = (double)(view.settled + view.in_flight + view.placebo_in_flight);
    return fmin(1, (through + fmin(2 * room, fleet) + rollout->extra) / fleet);
}

void plan_admit(struct engine *engine, double now)
{
    for (size_t i = 0; i < engine->rollout_count; i++) {
        struct server_rollout *rollout = engine->rollout_list[i];
        double admit = ceil(admit_of(engine, rollout, now) * 1e6) / 1e6;

        if (admit == rollout->admit)
            continue;
        rollout->admit = admit;
        engine->plans_changed = true;
    }
}
