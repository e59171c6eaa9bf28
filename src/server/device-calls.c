#include "server/front-internal.h"

#include "base/encode.h"
#include "http/problem.h"
#include "server/shape.h"
#include "trust/envelope.h"

#include <errno.h>
#include <string.h>

#define REMEDY_BODY "Send the body that docs/protocol.md describes for this call."

static const struct call {
    const char *name;
    enum engine_call call;
    const struct shape *shape;
} calls[] = {
    {"enroll", CALL_ENROLL, &shape_enroll},
    {"begin", CALL_BEGIN, &shape_begin},
    {"report", CALL_REPORT, &shape_report},
    {"status", CALL_STATUS, &shape_status},
};

/* The signer's key: of a known device, or, when it enrols, the one that the body brings. */
static bool find_key(struct front *front, struct http_exchange *exchange, enum engine_call call,
                     const char *device, const json_t *value, struct public_key *ret)
{
    if (call == CALL_ENROLL) {
        size_t len;
        char id[65];
        const char *text = json_string_value(json_object_get(value, "public_key"));
        if (base64_decode(text, strlen(text), ret->bytes, sizeof ret->bytes, &len) == 0 &&
            len == sizeof ret->bytes) {
            key_device_id(ret, id);
            if (strcmp(id, device) == 0)
                return true;
        }
        http_problem(exchange, 401, "signature-invalid", "The signature is not of this key",
                     "Sign with the key in public_key; the device id is the key's SHA-256.",
                     "Maeslant-Signature names device %s", device);
        return false;
    }
    switch (engine_device_key(front->engine, device, ret)) {
    case STANDING_GOOD:
        return true;
    case STANDING_RETIRED:
        http_problem(exchange, 403, "device-retired", "This device was retired",
                     "Remove device.key on it and enrol it as a new device, if it is to go on.",
                     "device %s", device);
        return false;
    case STANDING_QUARANTINED:
        http_problem(exchange, 403, "quarantined", "This device's key is in use twice",
                     "Make a new key on each copy and enrol it with a new token.", "device %s",
                     device);
        return false;
    default:
        http_problem(exchange, 401, "device-unknown", "No device has this id",
                     "Enrol the device first: maeslant-agent enroll.", "device %s", device);
        return false;
    }
}

void device_post(struct front *front, struct http_exchange *exchange, const char *name)
{
    const struct call *call = calls;
    while (strcmp(call->name, name) != 0)
        call++;

    struct error error = ERROR_INIT;
    char device[65];
    uint8_t signature[SIGNATURE_SIZE];
    struct public_key key;
    size_t len;
    const char *code, *header = http_header(exchange, "Maeslant-Signature");
    const void *body = http_body(exchange, &len);

    if (strcmp(http_method(exchange), "POST") != 0) {
        problem_method(exchange, "POST");
        return;
    }
    if (!front_takes_json(exchange))
        return;
    if (!header) {
        http_problem(exchange, 401, "signature-missing", "The body is not signed",
                     "Send Maeslant-Signature: <device id> <base64 signature>.",
                     "no Maeslant-Signature header");
        return;
    }
    if (device_signature_parse(header, device, signature, &error) < 0) {
        http_problem(exchange, 401, "signature-invalid", "The signature header can't be read",
                     "Send Maeslant-Signature: <device id> <base64 signature>.", "%s", error.text);
        return;
    }
    /* Nothing of a known device's body is looked at before its signature is checked. */
    if (call->call != CALL_ENROLL) {
        if (!find_key(front, exchange, call->call, device, NULL, &key))
            return;
        if (!device_signature_verify(&key, name, body, len, signature)) {
            http_problem(exchange, 401, "signature-invalid", "The signature does not fit the body",
                         "Sign \"maeslant <call> v1\\n\" followed by the exact body bytes.",
                         "device %s, call %s, %zu bytes", device, name, len);
            return;
        }
    }
    json_t *value = NULL;
    if (json_parse(body, len, &value, &error) < 0) {
        http_problem(exchange, 400, "json", "The body is not strict JSON", REMEDY_BODY, "%s",
                     error.text);
        return;
    }
    if (shape_check(value, name, call->shape->members, call->shape->count, &code, &error) < 0) {
        http_problem(exchange, 400, code, "The body does not have the shape of this call",
                     REMEDY_BODY, "%s", error.text);
        json_decref(value);
        return;
    }
    const char *claimed = json_string_value(json_object_get(value, "device"));
    if (claimed && strcmp(claimed, device) != 0) {
        http_problem(exchange, 400, "member-invalid", "The body speaks of another device",
                     "A device signs only for itself.", "%s.device is %s; the signature is of %s",
                     name, claimed, device);
        json_decref(value);
        return;
    }
    if (call->call == CALL_ENROLL) {
        if (!find_key(front, exchange, call->call, device, value, &key)) {
            json_decref(value);
            return;
        }
        if (!device_signature_verify(&key, name, body, len, signature)) {
            http_problem(exchange, 401, "signature-invalid", "The signature does not fit the body",
                         "Sign \"maeslant enroll v1\\n\" followed by the exact body bytes.",
                         "device %s, %zu bytes", device, len);
            json_decref(value);
            return;
        }
    }
    struct engine_request *request = front_request(exchange, call->call, value);
    memcpy(request->device, device, sizeof device);
    memcpy(request->signature, signature, sizeof signature);
    request->public_key = key;
    request->seq = (uint64_t)json_integer_value(json_object_get(value, "seq"));
    engine_submit(front->engine, request);
}

static void leash_done(void *user, struct http_blob *halts)
{
    struct http_exchange *exchange = user;
    if (halts)
        http_reply_blob(exchange, halts);
    else
        http_reply(exchange, 204, NULL, "", 0);
}

void device_leash(struct front *front, struct http_exchange *exchange, const char *permit)
{
    switch (engine_leash(front->engine, permit, leash_done, exchange)) {
    case 0:
        return;
    case -EEXIST: {
        struct http_blob *halts = engine_halts(front->engine);
        http_reply_blob(exchange, halts);
        http_blob_unref(halts);
        return;
    }
    case -EBUSY:
        http_reply_header(exchange, "Retry-After", "5");
        http_problem(exchange, 503, "leashes-full", "All leashes of this node are taken",
                     "Read /v1/halts every few seconds instead.", "permit %.32s", permit);
        return;
    default:
        http_problem(exchange, 404, "permit-unknown", "No open permit has this name",
                     "A leash is for a permit that has not been settled.", "permit '%.64s'",
                     permit);
    }
}
