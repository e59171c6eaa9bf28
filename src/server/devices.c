#include "server/engine-internal.h"

#include "base/encode.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/random.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char *const standing_names[] = {
    [STANDING_UNKNOWN] = "unknown",
    [STANDING_GOOD] = "good",
    [STANDING_RETIRED] = "retired",
    [STANDING_QUARANTINED] = "quarantined",
};

struct device *device_find(struct engine *engine, const char *id)
{
    return table_get(&engine->devices, id);
}

void device_add(struct engine *engine, struct device *device)
{
    if (engine->device_count == engine->device_cap) {
        engine->device_cap = engine->device_cap ? 2 * engine->device_cap : 64;
        engine->device_list =
            xrealloc(engine->device_list, engine->device_cap, sizeof *engine->device_list);
    }
    device->index = (uint32_t)engine->device_count;
    engine->device_list[engine->device_count++] = device;
    pthread_mutex_lock(&engine->lock);
    table_put(&engine->devices, device);
    pthread_mutex_unlock(&engine->lock);
}

void device_clear(struct device *device)
{
    free(device->organisation);
    free(device->ring);
    free(device->machine);
    free(device->group);
    free(device->attributes);
    free(device->products);
    free(device->agent);
    free(device->boot);
    device->organisation = device->ring = device->machine = device->group = NULL;
    device->attributes = device->products = device->agent = device->boot = NULL;
}

void device_drop_last(struct engine *engine)
{
    struct device *device = engine->device_list[--engine->device_count];

    pthread_mutex_lock(&engine->lock);
    table_remove(&engine->devices, device->id);
    pthread_mutex_unlock(&engine->lock);
    device_clear(device);
    free(device);
}

void device_put(struct engine *engine, struct device *device)
{
    struct store_device row = {
        .number = (int64_t)device->index + 1,
        .id = device->id,
        .organisation = device->organisation,
        .ring = device->ring,
        .machine = device->machine,
        .group = device->group,
        .attributes = device->attributes,
        .products = device->products,
        .agent = device->agent,
        .boot = device->boot,
        .boots = device->boots,
        .standing = device->standing,
        .enrolled_ms = device->enrolled_ms,
        .seen_ms = device->seen_ms,
    };
    struct error error;

    memcpy(row.public_key, device->key.bytes, sizeof row.public_key);
    if (engine->failure == 0)
        engine_keep(engine, engine->store->does->device_put(engine->store, &row, &error), &error);
    engine->state_changed = true;
}

static void set_standing(struct engine *engine, struct device *device,
                         enum device_standing standing)
{
    pthread_mutex_lock(&engine->lock);
    device->standing = standing;
    pthread_mutex_unlock(&engine->lock);
}

static void replace(char **text, const char *with)
{
    char *copy = with ? xstrdup(with) : NULL;

    free(*text);
    *text = copy;
}

/* An accepted body with the same seq. */
struct earlier {
    bool same; /* byte for byte */
    char call[16];
    char *answer;
    const struct engine_request *request;
};

static int read_earlier(void *user, const struct store_evidence *row)
{
    struct earlier *earlier = user;
    const struct engine_request *request = earlier->request;

    earlier->same =
        row->body_len == request->body_len && memcmp(row->body, request->body, row->body_len) == 0;
    memcpy(earlier->call, row->call, strnlen(row->call, sizeof earlier->call - 1));
    earlier->answer = xstrdup(row->answer);
    return 0;
}

static void answer_again(struct engine *engine, struct engine_request *request,
                         const struct earlier *earlier)
{
    const char *nonce = json_string_value(json_object_get(request->value, "nonce"));
    const char *id = json_string_value(json_object_get(request->value, "permit"));
    struct permit *permit = NULL;

    if (strcmp(earlier->call, "begin") == 0 && nonce)
        permit = permit_by_nonce(engine, nonce);
    if (permit) {
        permit_answer_again(engine, request, permit, earlier->answer);
        free(permit);
        return;
    }
    if (strcmp(earlier->call, "report") == 0 && id)
        permit = permit_find(engine, id);
    if (permit) {
        report_answer_again(engine, request, permit, earlier->answer);
        free(permit);
        return;
    }
    request->status = 200;
    request->text = xstrdup(earlier->answer);
}

static void quarantine(struct engine *engine, struct engine_request *request, struct device *device)
{
    set_standing(engine, device, STANDING_QUARANTINED);
    device_put(engine, device);
    engine_log(engine, "device-clone", NULL, NULL, device->id,
               "Two machines use the key of device %.12s… of %s: seq %" PRIu64
               " came with two bodies. Both are quarantined until one is enrolled again",
               device->id, device->organisation, request->seq);
    log_warning("device-clone", "device %s: seq %" PRIu64 " came with two bodies", device->id,
                request->seq);
    answer_refuse(request, 409, "clone", "Two machines use one key",
                  "A person must look at both machines: give each a key of its own (remove "
                  "device.key on the copy) and enrol them again.",
                  "seq %" PRIu64 " of device %s was used for another body before; the device is "
                  "quarantined",
                  request->seq, device->id);
}

static bool refuse_standing(struct engine_request *request, const struct device *device)
{
    if (device->standing == STANDING_RETIRED)
        answer_refuse(request, 403, "device-retired", "This device was retired",
                      "Remove device.key and enrol it as a new device if it is to go on.",
                      "device %s was retired by a person", device->id);
    else if (device->standing == STANDING_QUARANTINED && request->call != CALL_ENROLL)
        answer_refuse(request, 403, "quarantined", "This device is quarantined",
                      "A person must enrol it again with a new token (`maeslant device enroll`).",
                      "device %s is quarantined: two machines used its key", device->id);
    else
        return false;
    return true;
}

bool device_accepts(struct engine *engine, struct engine_request *request, struct device *device)
{
    struct earlier earlier = {.request = request};
    struct error error;
    int r;

    if (refuse_standing(request, device))
        return false;
    if (request->seq > device->last_seq)
        return true;
    r = engine->store->does->evidence(engine->store, (int64_t)device->index + 1, request->seq,
                                      read_earlier, &earlier, &error);
    if (r < 0 && r != -ENOENT) {
        engine_keep(engine, r, &error);
    } else if (r == 0 && earlier.same) {
        answer_again(engine, request, &earlier);
    } else if (r == 0) {
        quarantine(engine, request, device);
    } else {
        answer_refuse(request, 409, "seq-replayed", "This seq is too low",
                      "Send the next body with a seq above the last accepted one; keep the counter "
                      "on stable storage before a body is sent.",
                      "seq is %" PRIu64 "; the last accepted one of device %s is %" PRIu64,
                      request->seq, device->id, device->last_seq);
    }
    free(earlier.answer);
    return false;
}

struct device *device_asking(struct engine *engine, struct engine_request *request)
{
    struct device *device = device_find(engine, request->device);

    if (!device)
        answer_refuse(request, 401, "device-unknown", "This device is not known", "Enrol it first.",
                      "device %s is not enrolled here", request->device);
    return device && device_accepts(engine, request, device) ? device : NULL;
}

void device_evidence(struct engine *engine, struct engine_request *request, struct device *device,
                     const char *call)
{
    struct store_evidence row = {
        .device = (int64_t)device->index + 1,
        .seq = request->seq,
        .call = call,
        .at_ms = engine_wall_ms(engine),
        .body = request->body,
        .body_len = request->body_len,
        .signature = request->signature,
        .answer = request->text ? request->text : "",
    };
    struct error error;

    device->last_seq = request->seq;
    device->seen_ms = row.at_ms;
    if (engine->failure == 0)
        engine_keep(engine, engine->store->does->evidence_add(engine->store, &row, &error), &error);
}

/* Tokens */

struct token {
    char *organisation, *ring, *by;
    int64_t uses, expires_ms, made_ms;
};

static void token_free(struct token *token)
{
    free(token->organisation);
    free(token->ring);
    free(token->by);
}

static int read_token(void *user, const struct store_token *row)
{
    struct token *token = user;

    *token = (struct token){xstrdup(row->organisation),
                            xstrdup(row->ring),
                            xstrdup(row->by),
                            row->uses,
                            row->expires_ms,
                            row->made_ms};
    return 0;
}

static void token_put(struct engine *engine, const char *hash, const struct token *token)
{
    struct error error;

    if (engine->failure == 0)
        engine_keep(engine,
                    engine->store->does->token_put(engine->store,
                                                   &(struct store_token){
                                                       .hash = hash,
                                                       .organisation = token->organisation,
                                                       .ring = token->ring,
                                                       .by = token->by,
                                                       .uses = token->uses,
                                                       .expires_ms = token->expires_ms,
                                                       .made_ms = token->made_ms,
                                                   },
                                                   &error),
                    &error);
}

void call_token_new(struct engine *engine, struct engine_request *request)
{
    const char *organisation = NULL, *ring = "default";
    int64_t uses = 1, lasts_ms = 7 * INT64_C(86400000), expires_ms;
    char text[41], hash[SHA256_HEX_SIZE];
    struct error error;

    if (json_need_string(request->value, "token", "organisation", 128, &organisation, &error) < 0 ||
        json_may_string(request->value, "token", "ring", 128, &ring, &error) < 0 ||
        json_may_integer(request->value, "token", "uses", 1, 1000000000, &uses, &error) < 0 ||
        json_may_integer(request->value, "token", "expires_ms", 1, INT64_C(1) << 40, &lasts_ms,
                         &error) < 0 ||
        (!is_name(organisation) &&
         error_set(&error, -EINVAL, "organisation is \"%s\": expected letters, digits and ._+-",
                   organisation)) ||
        (!is_name(ring) &&
         error_set(&error, -EINVAL, "ring is \"%s\": expected letters, digits and ._+-", ring))) {
        answer_refuse(request, 400, "member-invalid", "A member is wrong", "Correct the member.",
                      "%s", error.text);
        return;
    }
    expires_ms = engine_wall_ms(engine) + lasts_ms;
    random_hex(text, 20);
    sha256_hex(text, strlen(text), hash);
    struct token token = {.organisation = xstrdup(organisation),
                          .ring = xstrdup(ring),
                          .by = xstrdup(request->by),
                          .uses = uses,
                          .expires_ms = expires_ms,
                          .made_ms = expires_ms - lasts_ms};
    token_put(engine, hash, &token);
    token_free(&token);
    engine_log(engine, "token-made", request->by, NULL, NULL,
               "A token for organisation %s, ring %s, good for %" PRId64 " devices", organisation,
               ring, uses);
    answer_json(request, json_pack("{s:s, s:s, s:s, s:I, s:I}", "token", text, "organisation",
                                   organisation, "ring", ring, "uses", (json_int_t)uses,
                                   "expires_at", (json_int_t)expires_ms));
}

/* Enrolment */

static json_t *base64_json(const void *data, size_t len)
{
    _cleanup_free_ char *text = base64_encode(data, len);

    return json_string(text);
}

static json_t *seal_object(const struct secret_key *key, const char *context, json_t *value)
{
    _cleanup_free_ char *text = envelope_seal(key, context, value);

    json_decref(value);
    return json_loads(text, 0, NULL);
}

static json_t *certificate(struct engine *engine, const struct device *device, int64_t at_ms)
{
    return seal_object(&engine->options.enrolment_key, CONTEXT_CERTIFICATE,
                       json_pack("{s:s, s:o, s:s, s:s, s:s, s:I}", "device", device->id,
                                 "public_key",
                                 base64_json(device->key.bytes, sizeof device->key.bytes),
                                 "organisation", device->organisation, "ring", device->ring,
                                 "machine", device->machine, "issued_at", (json_int_t)at_ms));
}

static json_t *bundle(struct engine *engine, const struct device *device)
{
    const struct engine_options *options = &engine->options;
    json_t *keys = json_array(), *products = json_array();

    for (size_t i = 0; i < options->release_key_count; i++)
        json_array_append_new(keys, base64_json(options->release_keys[i].bytes, KEY_PUBLIC_SIZE));
    for (size_t i = 0; i < engine->release_count; i++) {
        const char *product = engine->release_list[i]->manifest.product;
        bool known = false;
        size_t j;
        json_t *other;

        json_array_foreach(products, j, other) known =
            known || strcmp(json_string_value(other), product) == 0;
        if (!known)
            json_array_append_new(products, json_string(product));
    }
    return seal_object(
        &options->enrolment_key, CONTEXT_BUNDLE,
        json_pack("{s:s, s:o, s:o, s:o, s:o}", "organisation", device->organisation, "server_key",
                  base64_json(options->server_key.public.bytes, KEY_PUBLIC_SIZE), "enrolment_key",
                  base64_json(options->enrolment_key.public.bytes, KEY_PUBLIC_SIZE), "release_keys",
                  keys, "products", products));
}

static bool token_good(struct engine *engine, struct engine_request *request, const char *hash,
                       struct token *ret)
{
    struct error error;
    int r = engine->store->does->token(engine->store, hash, read_token, ret, &error);

    if (r == -ENOENT)
        answer_refuse(request, 403, "token-unknown", "This token is not known",
                      "Ask an administrator for a token: `maeslant device enroll`.",
                      "the token in the body was not made by this control plane");
    else if (r < 0)
        engine_keep(engine, r, &error);
    else if (ret->expires_ms <= engine_wall_ms(engine))
        answer_refuse(request, 403, "token-expired", "This token has expired",
                      "Ask an administrator for a new token: `maeslant device enroll`.",
                      "the token expired at %" PRId64 " (Unix milliseconds)", ret->expires_ms);
    else if (ret->uses <= 0)
        answer_refuse(request, 403, "token-used-up", "This token is used up",
                      "Ask an administrator for a new token, with more uses for an image: "
                      "`maeslant device enroll --uses N`.",
                      "the token has no uses left");
    else
        return true;
    return false;
}

static struct device *enroll_new(struct engine *engine, const struct engine_request *request,
                                 const char *machine)
{
    struct device *device = xcalloc(1, sizeof *device);

    memcpy(device->id, request->device, sizeof device->id);
    device->key = request->public_key;
    device->machine = xstrdup(machine);
    device->enrolled_ms = engine_wall_ms(engine);
    device_add(engine, device);
    return device;
}

void call_enroll(struct engine *engine, struct engine_request *request)
{
    const json_t *value = request->value;
    const char *machine = json_string_value(json_object_get(value, "machine"));
    const char *text = json_string_value(json_object_get(value, "token"));
    struct device *device = device_find(engine, request->device);
    char hash[SHA256_HEX_SIZE];
    struct token token = {0};
    bool known = device != NULL;

    if (known && !device_accepts(engine, request, device))
        return;
    sha256_hex(text, strlen(text), hash);
    if (!token_good(engine, request, hash, &token)) {
        token_free(&token);
        return;
    }
    if (known && strcmp(device->machine, machine) != 0) {
        token_free(&token);
        answer_refuse(request, 409, "machine-mismatch", "The key belongs to another machine",
                      "Remove device.key on this machine, so that it enrols as a new device.",
                      "device %s is known for machine %.12s…, this is machine %.12s…",
                      request->device, device->machine, machine);
        return;
    }
    if (!known)
        device = enroll_new(engine, request, machine);
    token.uses--;
    token_put(engine, hash, &token);
    replace(&device->organisation, token.organisation);
    replace(&device->ring, token.ring);
    replace(&device->group, json_string_value(json_object_get(value, "group")));
    replace(&device->agent, json_string_value(json_object_get(value, "agent")));
    free(device->attributes);
    device->attributes = json_text(json_object_get(value, "attributes"));
    set_standing(engine, device, STANDING_GOOD);
    token_free(&token);
    answer_json(request, json_pack("{s:o, s:o}", "certificate",
                                   certificate(engine, device, engine_wall_ms(engine)), "bundle",
                                   bundle(engine, device)));
    device_evidence(engine, request, device, "enroll");
    device_put(engine, device);
    engine_log(engine, known ? "device-enrolled-again" : "device-enrolled", NULL, NULL, device->id,
               "Device %.12s… of organisation %s, ring %s", device->id, device->organisation,
               device->ring);
}

static void refuse_unknown(struct engine_request *request, const char *id)
{
    answer_refuse(request, 404, "device-unknown", "This device is not known",
                  "Look for it with `maeslant device list`.", "no device is named %s", id);
}

void call_status(struct engine *engine, struct engine_request *request)
{
    struct device *device = device_asking(engine, request);
    const json_t *value = request->value;
    json_int_t halts = engine->halt_count ? engine->halts[engine->halt_count - 1].number : 0;

    if (!device)
        return;
    replace(&device->agent, json_string_value(json_object_get(value, "agent")));
    replace(&device->boot, json_string_value(json_object_get(value, "boot")));
    device->boots = json_integer_value(json_object_get(value, "boots"));
    free(device->attributes);
    device->attributes = json_text(json_object_get(value, "attributes"));
    free(device->products);
    device->products = json_text(json_object_get(value, "products"));
    answer_sealed(engine, request, CONTEXT_ANSWER,
                  json_pack("{s:s, s:s, s:I, s:I}", "answer", "ok", "device", device->id, "halts",
                            halts, "at", (json_int_t)engine_wall_ms(engine)));
    device_evidence(engine, request, device, "status");
    device_put(engine, device);
}

/* For administrators */

static json_t *parsed(const char *text)
{
    json_t *value = text ? json_loads(text, 0, NULL) : NULL;

    return value ? value : json_null();
}

static json_t *device_json(const struct device *device, bool whole)
{
    json_t *ret = json_pack(
        "{s:s, s:s, s:s, s:s, s:s?, s:s?, s:I, s:I, s:I, s:s?}", "device", device->id,
        "organisation", device->organisation, "ring", device->ring, "standing",
        standing_names[device->standing], "group", device->group, "agent", device->agent,
        "enrolled_at", (json_int_t)device->enrolled_ms, "seen_at", (json_int_t)device->seen_ms,
        "seq", (json_int_t)device->last_seq, "permit", device->open ? device->open->id : NULL);

    json_object_set_new(ret, "attributes", parsed(device->attributes));
    json_object_set_new(ret, "products", parsed(device->products));
    if (whole) {
        json_object_set_new(ret, "machine", json_string(device->machine));
        json_object_set_new(ret, "public_key",
                            base64_json(device->key.bytes, sizeof device->key.bytes));
        json_object_set_new(ret, "boot", device->boot ? json_string(device->boot) : json_null());
        json_object_set_new(ret, "boots", json_integer(device->boots));
    }
    return ret;
}

void call_device_list(struct engine *engine, struct engine_request *request)
{
    json_t *list = json_array();

    for (size_t i = 0; i < engine->device_count; i++)
        json_array_append_new(list, device_json(engine->device_list[i], false));
    answer_json(request, json_pack("{s:o}", "devices", list));
}

static struct device *named(struct engine *engine, struct engine_request *request)
{
    const char *id = json_string_value(json_object_get(request->value, "device"));
    struct device *device = id ? device_find(engine, id) : NULL;

    if (!device)
        refuse_unknown(request, id ? id : "(none)");
    return device;
}

void call_device_show(struct engine *engine, struct engine_request *request)
{
    struct device *device = named(engine, request);
    json_t *ret, *rollouts = json_array();

    if (!device) {
        json_decref(rollouts);
        return;
    }
    ret = device_json(device, true);
    for (size_t i = 0; i < engine->rollout_count; i++) {
        const struct server_rollout *rollout = engine->rollout_list[i];
        const char *state = rollout_device_name(rollout, device);

        if (state)
            json_array_append_new(rollouts,
                                  json_pack("{s:s, s:s, s:s}", "rollout", rollout->id, "release",
                                            rollout->release->id, "state", state));
    }
    json_object_set_new(ret, "rollouts", rollouts);
    answer_json(request, ret);
}

void call_device_retire(struct engine *engine, struct engine_request *request)
{
    struct device *device = named(engine, request);
    const char *reason = json_string_value(json_object_get(request->value, "reason"));

    if (!device)
        return;
    set_standing(engine, device, STANDING_RETIRED);
    device_put(engine, device);
    engine_log(engine, "device-retired", request->by, NULL, device->id,
               "Device %.12s… of %s was retired: %s", device->id, device->organisation,
               reason ? reason : "no reason given");
    answer_json(request, device_json(device, true));
}
