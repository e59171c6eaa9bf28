#include "server/engine-internal.h"

#include <inttypes.h>
#include <string.h>

static struct halt *append(struct engine *engine, struct server_rollout *rollout)
{
    struct halt *halt;

    engine->halts = xrealloc(engine->halts, engine->halt_count + 1, sizeof *engine->halts);
    halt = &engine->halts[engine->halt_count++];
    *halt = (struct halt){.rollout = rollout};
    rollout->release->halted = true;
    return halt;
}

static char *reason_of(const struct rollout_because *because)
{
    if (because->alarm == ALARM_PERSON)
        return xstrdup(because->reason && *because->reason ? because->reason
                                                           : "halted by a person");
    if (because->alarm == ALARM_PROVEN_HARM)
        return xasprintf("%" PRIu64 " devices are proven harmed, more than the harm budget",
                         because->proven_harm);
    return xasprintf("%" PRIu64 " of %" PRIu64 " devices that began it failed", because->k,
                     because->n);
}

/* `halt` is complete but for its number and time. */
static void publish(struct engine *engine, struct halt *halt)
{
    const struct server_rollout *rollout = halt->rollout;
    const struct manifest *manifest = &rollout->release->manifest;
    struct error error;

    halt->number = engine->halt_count > 1 ? engine->halts[engine->halt_count - 2].number + 1 : 1;
    halt->at_ms = engine_wall_ms(engine);
    halt->spread_ms = halt->now ? 0 : REVERT_SPREAD_MS;
    engine->halts_changed = true;
    if (engine->failure == 0)
        engine_keep(engine,
                    engine->store->does->halt_add(engine->store,
                                                  &(struct store_halt){
                                                      .number = halt->number,
                                                      .release = rollout->release->id,
                                                      .rollout = rollout->id,
                                                      .product = manifest->product,
                                                      .channel = manifest->channel,
                                                      .reason = halt->reason,
                                                      .at_ms = halt->at_ms,
                                                      .spread_ms = halt->spread_ms,
                                                      .revert = halt->revert,
                                                      .now = halt->now,
                                                  },
                                                  &error),
                    &error);
}

void halt_add(struct engine *engine, struct server_rollout *rollout,
              const struct rollout_decision *decision)
{
    struct halt *halt = append(engine, rollout);

    halt->reason = reason_of(&decision->because);
    halt->revert = rollout->policy.on_halt_revert;
    halt->now = engine->halt_now;
    publish(engine, halt);
}

void halt_hurry(struct engine *engine, struct server_rollout *rollout, const char *by,
                const char *reason)
{
    struct halt *halt;

    for (size_t i = engine->halt_count; i-- > 0;)
        if (engine->halts[i].rollout == rollout && engine->halts[i].now)
            return;
    halt = append(engine, rollout);
    halt->reason = xstrdup(reason && *reason ? reason : "halted by a person");
    halt->revert = rollout->policy.on_halt_revert;
    halt->now = true;
    publish(engine, halt);
    engine_log(engine, "rollout-hurried", by, rollout->id, NULL,
               "Confirmed devices go back at once: %s", halt->reason);
}

void halt_from_row(struct engine *engine, const struct store_halt *row)
{
    struct server_rollout *rollout = fold_rollout(engine, row->rollout);
    struct halt *halt;

    if (!rollout)
        return;
    halt = append(engine, rollout);
    halt->number = row->number;
    halt->reason = xstrdup(row->reason);
    halt->at_ms = row->at_ms;
    halt->spread_ms = row->spread_ms;
    halt->revert = row->revert;
    halt->now = row->now;
}

void halts_publish(struct engine *engine)
{
    json_t *list = json_array(), *value;
    json_int_t number = 0;
    struct http_blob *blob, *old;

    for (size_t i = 0; i < engine->halt_count; i++) {
        const struct halt *halt = &engine->halts[i];
        const struct release *release = halt->rollout->release;

        number = halt->number;
        json_array_append_new(
            list, json_pack("{s:I, s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:b, s:s}", "number",
                            (json_int_t)halt->number, "release", release->id, "rollout",
                            halt->rollout->id, "product", release->manifest.product, "channel",
                            release->manifest.channel, "at", (json_int_t)halt->at_ms, "on_halt",
                            halt->revert ? "revert" : "keep", "revert_spread_ms",
                            (json_int_t)halt->spread_ms, "now", halt->now, "reason", halt->reason));
    }
    value = json_pack("{s:I, s:o}", "number", number, "halts", list);
    blob = sealed_blob(engine, CONTEXT_HALTS, value, "max-age=5");
    pthread_mutex_lock(&engine->lock);
    old = engine->halts_blob;
    engine->halts_blob = blob;
    for (size_t i = 0; i < engine->halt_count; i++)
        engine->halts[i].rollout->halt_published = true;
    pthread_mutex_unlock(&engine->lock);
    if (old)
        http_blob_unref(old);
}
