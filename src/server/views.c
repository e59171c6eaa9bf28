#include "server/engine-internal.h"

#include <math.h>
#include <string.h>

/* The state goes to every open page several times a second: the newest ones. */
#define STATE_ROLLOUTS 50

const char *const rollout_state_names[] = {
    [ROLLOUT_RUNNING] = "running",
    [ROLLOUT_PAUSED] = "paused",
    [ROLLOUT_HALTED] = "halted",
    [ROLLOUT_DONE] = "done",
};
static const char *const device_state_names[] = {
    [DEVICE_NEW] = "not begun",
    [DEVICE_IN_PLACEBO] = "placebo",
    [DEVICE_PLACEBO_DONE] = "placebo done",
    [DEVICE_IN_RELEASE] = "trial",
    [DEVICE_HEALTHY] = "healthy",
    [DEVICE_FAILED] = "failed",
    [DEVICE_REVERTED] = "reverted",
};

json_t *time_ms(double t)
{
    return isfinite(t) && t > 0 ? json_integer((json_int_t)llround(t * 1000)) : json_null();
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* A trial that obeyed a halt did not fail, whatever the fold counts it as. */
static enum rollout_device_state state_of(const struct server_rollout *rollout, uint32_t number)
{
    enum rollout_device_state state = rollout_device_state(rollout->fold, number);

    return state == DEVICE_FAILED && rollout_obeyed(rollout, number) ? DEVICE_REVERTED : state;
}

const char *rollout_device_name(const struct server_rollout *rollout, const struct device *device)
{
    if (device->index >= rollout->number_cap || rollout->number_of[device->index] == UINT32_MAX)
        return NULL;
    return device_state_names[state_of(rollout, rollout->number_of[device->index])];
}

/* Devices of the rollout by what they are for it. */
static json_t *devices_by_state(const struct engine *engine, const struct server_rollout *rollout)
{
    size_t counts[ARRAY_SIZE(device_state_names)] = {0};
    json_t *ret = json_object();

    for (uint32_t i = 0; i < rollout->device_count; i++)
        counts[state_of(rollout, i)]++;
    for (size_t i = 0; i < engine->device_count; i++) {
        const struct device *device = engine->device_list[i];
        if (device->standing == STANDING_GOOD && !rollout_device_name(rollout, device))
            counts[DEVICE_NEW]++;
    }
    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        json_object_set_new(ret, device_state_names[i], json_integer((json_int_t)counts[i]));
    return ret;
}

static const char *outcome_word(char outcome)
{
    switch (outcome) {
    case 'o':
        return "open";
    case 'h':
        return "healthy";
    case 'f':
        return "failed";
    case 's':
        return "silent";
    case 'd':
        return "declined";
    default:
        return "none";
    }
}

json_t *view_pairs(const struct server_rollout *rollout, size_t most)
{
    _cleanup_free_ struct rollout_pair_view *pairs = xcalloc(most, sizeof *pairs);
    size_t count = rollout_pairs(rollout->fold, pairs, most);
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++) {
        const struct device *release = rollout_device_of(rollout, pairs[i].release_device);
        const struct device *placebo = rollout_device_of(rollout, pairs[i].placebo_device);

        json_array_append_new(
            list, json_pack("{s:I, s:s?, s:s?, s:s, s:s, s:b}", "pair", (json_int_t)pairs[i].number,
                            "release", release ? release->id : NULL, "placebo",
                            placebo ? placebo->id : NULL, "release_outcome",
                            pairs[i].release_outcome == 'f' &&
                                    rollout_obeyed(rollout, pairs[i].release_device)
                                ? "reverted"
                                : outcome_word(pairs[i].release_outcome),
                            "placebo_outcome", outcome_word(pairs[i].placebo_outcome), "closed",
                            pairs[i].closed));
    }
    return list;
}

static void add_counts(json_t *ret, const struct server_rollout *rollout,
                       const struct rollout_view *view)
{
    const struct {
        const char *name;
        uint64_t count;
    } counts[] = {
        {"permits", view->permits},
        {"placebos", view->placebos},
        {"settled", view->settled},
        {"failed", view->failed - rollout->obeyed},
        {"obeyed_halt", rollout->obeyed},
        {"healthy", view->healthy},
        {"declined", view->declined},
        {"silent", view->silent},
        {"interrupted", view->interrupted},
        {"regressed", view->regressed},
        {"late", view->late},
        {"placebo_settled", view->placebo_settled},
        {"placebo_failed", view->placebo_failed},
        {"in_flight", view->in_flight},
        {"placebo_in_flight", view->placebo_in_flight},
        {"pairs", view->pairs},
        {"pairs_open", view->pairs_open},
        {"k_release", view->k_release},
        {"k_placebo", view->k_placebo},
        {"proven_harm", view->proven_harm},
        {"stage_index", view->stage_index},
        {"stage_count", view->stage_count},
        {"approvals", rollout->approvals},
    };
    const struct {
        const char *name;
        double value;
    } numbers[] = {
        {"window_used", view->window_used},
        {"window", view->window},
        {"cost", view->cost},
        {"log_e", rollout->story.halted ? rollout->story.log_e : view->log_e},
        {"log_threshold", view->log_threshold},
        {"log_split", view->log_split},
        {"harm_budget", rollout->policy.harm_budget},
        {"reverts_open", view->reverts_open},
        {"alpha", rollout->policy.alpha},
        {"admit", rollout->admit},
    };

    for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
        json_object_set_new(ret, counts[i].name, json_integer((json_int_t)counts[i].count));
    for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
        json_object_set_new(ret, numbers[i].name, number(numbers[i].value));
}

static void add_times(json_t *ret, const struct server_rollout *rollout,
                      const struct rollout_view *view)
{
    double failed = view->first_failure_at, halted = rollout->halted_at;

    if (failed >= halted && rollout->obeyed > 0)
        failed = NAN; /* only trials that obeyed the halt */
    json_object_set_new(ret, "first_failure_at", time_ms(failed));
    json_object_set_new(ret, "halted_at", time_ms(halted));
    json_object_set_new(ret, "last_reverted_at", time_ms(rollout->last_reverted_at));
    json_object_set_new(ret, "stage_opened_at", time_ms(view->stage_opened_at));
    json_object_set_new(ret, "seconds_to_halt", number(halted - failed));
    json_object_set_new(ret, "seconds_to_reverted", number(rollout->last_reverted_at - halted));
}

json_t *view_rollout(struct engine *engine, struct server_rollout *rollout)
{
    const struct manifest *manifest = &rollout->release->manifest;
    _cleanup_json_ json_t *sentences = NULL;
    struct rollout_view view;
    json_t *ret;

    rollout_look(rollout->fold, &view);
    ret = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:b, s:o, s:o}", "rollout", rollout->id,
        "release", rollout->release->id, "product", manifest->product, "channel", manifest->channel,
        "version", manifest->version, "sequence", (json_int_t)manifest->sequence, "state",
        rollout_state_names[view.state], "gate", rollout->start.gate_off ? "off" : "on", "stage",
        view.stage ? view.stage : "", "by", rollout->by, "superseded", rollout->superseded,
        "started_at", time_ms(rollout->start.t), "at", time_ms((double)engine_ms(engine) / 1000));
    add_counts(ret, rollout, &view);
    add_times(ret, rollout, &view);
    json_object_set_new(ret, "devices", devices_by_state(engine, rollout));
    if (rollout->mismatch)
        json_object_set_new(ret, "mismatch", json_string(rollout->mismatch));
    sentences = explain_rollout(engine, rollout);
    json_object_set(ret, "sentence", json_array_get(sentences, 0));
    return ret;
}

json_t *view_state(struct engine *engine)
{
    json_t *rollouts = json_array();
    size_t oldest =
        engine->rollout_count > STATE_ROLLOUTS ? engine->rollout_count - STATE_ROLLOUTS : 0;
    size_t standings[4] = {0};

    for (size_t i = engine->rollout_count; i-- > oldest;) {
        json_t *rollout = view_rollout(engine, engine->rollout_list[i]);

        if (i + 1 == engine->rollout_count)
            json_object_set_new(rollout, "pair_list", view_pairs(engine->rollout_list[i], 60));
        json_array_append_new(rollouts, rollout);
    }
    for (size_t i = 0; i < engine->device_count; i++)
        standings[engine->device_list[i]->standing]++;
    return json_pack(
        "{s:s, s:I, s:I, s:o, s:{s:I, s:I, s:I, s:I}}", "gate",
        engine->options.no_gate ? "off" : "on", "at", (json_int_t)engine_wall_ms(engine), "halts",
        (json_int_t)(engine->halt_count ? engine->halts[engine->halt_count - 1].number : 0),
        "rollouts", rollouts, "devices", "total", (json_int_t)engine->device_count, "good",
        (json_int_t)standings[STANDING_GOOD], "retired", (json_int_t)standings[STANDING_RETIRED],
        "quarantined", (json_int_t)standings[STANDING_QUARANTINED]);
}
