#include "server/engine-internal.h"

#include "base/encode.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

struct release *release_find(struct engine *engine, const char *id)
{
    return table_get(&engine->releases, id);
}

void release_free(struct release *release)
{
    manifest_free(&release->manifest);
    free(release->text);
    free(release->signature);
    free(release->lab);
    free(release->by);
    free(release);
}

void release_add(struct engine *engine, struct release *release)
{
    engine->release_list =
        xrealloc(engine->release_list, engine->release_count + 1, sizeof *engine->release_list);
    engine->release_list[engine->release_count++] = release;
    table_put(&engine->releases, release);
    plan_need(engine, release->manifest.product, release->manifest.channel);
    engine->plans_changed = true;
}

/* Takes what an agent would take: a manifest of a newer version may know more keys. */
static struct release *release_make(const void *text, size_t len, const char *signature,
                                    const char *lab, const char *by, int64_t at_ms,
                                    struct error *error)
{
    struct release *release = xcalloc(1, sizeof *release);

    if (manifest_parse(text, len, MANIFEST_DEVICE, &release->manifest, error) < 0) {
        free(release);
        return NULL;
    }
    memcpy(release->id, release->manifest.release, sizeof release->id);
    release->text = xstrndup(text, len);
    release->text_len = len;
    release->signature = xstrdup(signature);
    release->lab = xstrdup(lab);
    release->by = xstrdup(by);
    release->at_ms = at_ms;
    return release;
}

struct release *release_from_row(const struct store_release *row, struct error *error)
{
    struct release *release = release_make(row->manifest, row->manifest_len, row->signature,
                                           row->lab, row->by, row->at_ms, error);

    if (release && strcmp(release->id, row->id) != 0) {
        error_set(error, -EUCLEAN, "release %s has a manifest of release %s", row->id, release->id);
        release_free(release);
        return NULL;
    }
    return release;
}

const struct release *release_halted_payload(struct engine *engine, const struct release *release)
{
    for (size_t i = 0; i < engine->release_count; i++) {
        const struct release *other = engine->release_list[i];

        if (other->halted && other != release &&
            strcmp(other->manifest.payload_sha256, release->manifest.payload_sha256) == 0)
            return other;
    }
    return NULL;
}

static bool payload_is_here(struct engine *engine, struct engine_request *request,
                            const struct manifest *manifest)
{
    _cleanup_free_ char *path =
        xasprintf("%s/artifacts/%s", engine->directory, manifest->payload_sha256);
    struct stat info;

    if (stat(path, &info) < 0 || !S_ISREG(info.st_mode)) {
        answer_refuse(request, 409, "payload-missing", "The payload is not here",
                      "Upload it first: `maeslant release publish` does.",
                      "no artifact has the digest %s", manifest->payload_sha256);
        return false;
    }
    if ((uint64_t)info.st_size != manifest->payload_size) {
        answer_refuse(request, 409, "payload-size", "The payload has another size",
                      "Build the release again: `maeslant release build`.",
                      "artifact %.12s… has %lld bytes, the manifest says %" PRIu64,
                      manifest->payload_sha256, (long long)info.st_size, manifest->payload_size);
        return false;
    }
    return true;
}

static bool sequence_grows(struct engine *engine, struct engine_request *request,
                           const struct manifest *manifest)
{
    for (size_t i = 0; i < engine->release_count; i++) {
        const struct release *other = engine->release_list[i];

        if (strcmp(other->manifest.product, manifest->product) == 0 &&
            strcmp(other->manifest.channel, manifest->channel) == 0 &&
            other->manifest.sequence >= manifest->sequence) {
            answer_refuse(request, 409, "sequence", "The sequence does not grow",
                          "Give the release a higher `sequence`, build and sign it again.",
                          "sequence is %" PRIu64 "; release %.12s… (%s) of %s/%s has %" PRIu64
                          " already",
                          manifest->sequence, other->id, other->manifest.version, manifest->product,
                          manifest->channel, other->manifest.sequence);
            return false;
        }
    }
    return true;
}

static bool payload_allowed(struct engine *engine, struct engine_request *request,
                            const struct release *release)
{
    const struct release *halted = release_halted_payload(engine, release);
    const char *acknowledged =
        json_string_value(json_object_get(request->value, "acknowledge_halted_payload"));

    if (!halted)
        return true;
    if (!acknowledged || !*acknowledged) {
        answer_refuse(request, 409, "payload-halted", "This payload was halted",
                      "Build a corrected payload. To publish the same one knowingly, say why in "
                      "`acknowledge_halted_payload`: the reason goes on the record.",
                      "payload %.12s… is that of release %s (%s), which was halted",
                      release->manifest.payload_sha256, halted->id, halted->manifest.version);
        return false;
    }
    engine_log(engine, "halted-payload-acknowledged", request->by, NULL, NULL,
               "Release %.12s… has the payload of the halted release %.12s…: %s", release->id,
               halted->id, acknowledged);
    return true;
}

static const char *release_state(struct engine *engine, const struct release *release)
{
    struct rollout_view view;

    if (release->halted)
        return "halted";
    for (size_t i = engine->rollout_count; i-- > 0;)
        if (engine->rollout_list[i]->release == release) {
            rollout_look(engine->rollout_list[i]->fold, &view);
            return rollout_state_names[view.state];
        }
    return "published";
}

static json_t *release_json(struct engine *engine, const struct release *release, bool whole)
{
    const struct manifest *manifest = &release->manifest;
    json_t *rollouts = json_array(), *ret, *lab = json_loads(release->lab, 0, NULL);

    for (size_t i = 0; i < engine->rollout_count; i++)
        if (engine->rollout_list[i]->release == release)
            json_array_append_new(rollouts, json_string(engine->rollout_list[i]->id));
    ret = json_pack("{s:s, s:s, s:s, s:s, s:I, s:s, s:I, s:s, s:o, s:{s:s, s:I}}", "release",
                    release->id, "product", manifest->product, "channel", manifest->channel,
                    "version", manifest->version, "sequence", (json_int_t)manifest->sequence,
                    "state", release_state(engine, release), "published_at",
                    (json_int_t)release->at_ms, "by", release->by, "rollouts", rollouts, "payload",
                    "sha256", manifest->payload_sha256, "size", (json_int_t)manifest->payload_size);
    json_object_update(ret, lab);
    json_decref(lab);
    if (!whole)
        return ret;

    json_t *pairs[] = {json_object(), json_object()}, *permissions = json_array();
    for (size_t i = 0; i < manifest->requires_count; i++)
        json_object_set_new(pairs[0], manifest->requires[i].name,
                            json_string(manifest->requires[i].value));
    for (size_t i = 0; i < manifest->provides_count; i++)
        json_object_set_new(pairs[1], manifest->provides[i].name,
                            json_string(manifest->provides[i].value));
    for (char **p = manifest->permissions; p && *p; p++)
        json_array_append_new(permissions, json_string(*p));
    json_object_set_new(ret, "requires", pairs[0]);
    json_object_set_new(ret, "provides", pairs[1]);
    json_object_set_new(ret, "permissions", permissions);
    if (manifest->description)
        json_object_set_new(ret, "description", json_string(manifest->description));
    json_object_set_new(ret, "manifest", json_stringn(release->text, release->text_len));
    json_object_set_new(ret, "signature", json_string(release->signature));
    return ret;
}

static char *lab_text(const json_t *value)
{
    static const char *const kept[] = {"lab", "skipped", "acknowledge_halted_payload"};
    _cleanup_json_ json_t *record = json_object();

    for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
        json_t *member = json_object_get(value, kept[i]);
        if (member)
            json_object_set(record, kept[i], member);
    }
    return json_text(record);
}

static bool lab_passed(struct engine_request *request)
{
    static const char *const steps[] = {"validate", "load"};
    const json_t *lab = json_object_get(request->value, "lab");
    const char *skipped = json_string_value(json_object_get(request->value, "skipped"));

    if (!lab && (!skipped || !*skipped)) {
        answer_refuse(request, 400, "lab-missing", "The release was not tested",
                      "Publish with `maeslant release publish`, which runs the lab, or say why not "
                      "with --skip-lab REASON.",
                      "neither `lab` nor `skipped` is given");
        return false;
    }
    for (size_t i = 0; lab && i < ARRAY_SIZE(steps); i++) {
        const json_t *step = json_object_get(lab, steps[i]);

        if (json_is_object(step) && json_is_false(json_object_get(step, "passed"))) {
            answer_refuse(request, 409, "lab-refused", "The lab refuses this release",
                          "Correct the payload.", "the step %s did not pass", steps[i]);
            return false;
        }
    }
    return true;
}

void call_release_publish(struct engine *engine, struct engine_request *request)
{
    const json_t *text = json_object_get(request->value, "manifest");
    const char *signature = json_string_value(json_object_get(request->value, "signature"));
    const char *named = json_string_value(json_object_get(request->value, "release"));
    const char *manifest = json_string_value(text);
    size_t len = json_string_length(text);
    _cleanup_free_ char *lab = lab_text(request->value);
    struct release *release;
    struct error error;

    if (!manifest || !signature) {
        answer_refuse(request, 400, "member-missing", "The manifest or its signature is missing",
                      "Send both.", "publish needs `manifest` and `signature`");
        return;
    }
    if (manifest_verify(engine->options.release_keys, engine->options.release_key_count, manifest,
                        len, signature, strlen(signature), &error) < 0) {
        answer_refuse(request, 403, "release-signature", "The release's signature is not good",
                      "Sign the manifest's bytes with a release key that this control plane "
                      "accepts: `maeslant release sign`.",
                      "%s", error.text);
        return;
    }
    release =
        release_make(manifest, len, signature, lab, request->by, engine_wall_ms(engine), &error);
    if (!release) {
        answer_refuse(request, 400, "manifest", "The manifest is wrong",
                      "Correct it, build and sign the release again.", "%s", error.text);
        return;
    }
    struct release *known = release_find(engine, release->id);
    if (named && strcmp(named, release->id) != 0)
        answer_refuse(request, 409, "release-mismatch", "The manifest is another release",
                      "Send the manifest that belongs to the name.",
                      "the manifest's digest is %s, not %s", release->id, named);
    else if (known && known->halted)
        answer_refuse(request, 409, "release-halted", "This release was halted",
                      "Build a corrected release: a halted one never comes back.",
                      "release %s (%s) was halted", known->id, known->manifest.version);
    else if (known)
        answer_json(request, release_json(engine, known, false));
    else if (lab_passed(request) && sequence_grows(engine, request, &release->manifest) &&
             payload_is_here(engine, request, &release->manifest) &&
             payload_allowed(engine, request, release)) {
        struct store_release row = {
            .id = release->id,
            .product = release->manifest.product,
            .channel = release->manifest.channel,
            .version = release->manifest.version,
            .payload = release->manifest.payload_sha256,
            .sequence = (int64_t)release->manifest.sequence,
            .manifest = release->text,
            .manifest_len = release->text_len,
            .signature = release->signature,
            .lab = release->lab,
            .by = release->by,
            .at_ms = release->at_ms,
        };
        const char *skipped = json_string_value(json_object_get(request->value, "skipped"));

        if (engine->failure == 0)
            engine_keep(engine, engine->store->does->release_add(engine->store, &row, &error),
                        &error);
        release_add(engine, release);
        engine_log(engine, "release-published", request->by, NULL, NULL,
                   "Release %.12s…: %s %s (%s)%s%s", release->id, release->manifest.product,
                   release->manifest.version, release->manifest.channel,
                   skipped ? ", lab skipped: " : "", skipped ? skipped : "");
        answer_json(request, release_json(engine, release, false));
        return;
    }
    release_free(release);
}

void call_release_list(struct engine *engine, struct engine_request *request)
{
    json_t *list = json_array();

    for (size_t i = engine->release_count; i-- > 0;)
        json_array_append_new(list, release_json(engine, engine->release_list[i], false));
    answer_json(request, json_pack("{s:o}", "releases", list));
}

void call_release_show(struct engine *engine, struct engine_request *request)
{
    const char *id = json_string_value(json_object_get(request->value, "release"));
    const struct release *release = id ? release_find(engine, id) : NULL;

    if (release)
        answer_json(request, release_json(engine, release, true));
    else
        answer_refuse(request, 404, "release-unknown", "This release is not known",
                      "Look for it with `maeslant release list`.", "no release is named %s",
                      id ? id : "(none)");
}
