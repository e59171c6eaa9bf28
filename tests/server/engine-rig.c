#include "engine-rig.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/random.h"
#include "release/manifest.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

_Atomic double rig_wall_offset, rig_mono_offset, rig_frozen;

double rig_clock(clockid_t clock)
{
    double now = rig_frozen > 0 ? rig_frozen : clock_now(clock);

    return now + (clock == CLOCK_REALTIME ? rig_wall_offset : rig_mono_offset);
}

void rig_new(struct rig *rig)
{
    *rig = (struct rig){.directory = "/tmp/maeslant-engine-XXXXXX", .min_free = 1 << 20};
    rig_wall_offset = rig_mono_offset = rig_frozen = 0;
    assert_non_null(mkdtemp(rig->directory));
    key_generate(&rig->server);
    key_generate(&rig->enrolment);
    key_generate(&rig->vendor);
}

int rig_open(struct rig *rig)
{
    struct engine_options options = {
        .directory = rig->directory,
        .server_key = rig->server,
        .enrolment_key = rig->enrolment,
        .release_keys = &rig->vendor.public,
        .release_key_count = 1,
        .no_gate = rig->no_gate,
        .min_free = rig->min_free,
        .clock = rig_clock,
    };

    return engine_open(&options, &rig->engine, &rig->error);
}

void rig_close(struct rig *rig)
{
    engine_close(rig->engine);
    rig->engine = NULL;
}

void rig_free(struct rig *rig)
{
    struct error error;

    if (rig->engine)
        rig_close(rig);
    assert_int_equal(tree_remove(AT_FDCWD, rig->directory, &error), 0);
}

struct wait {
    pthread_mutex_t lock;
    pthread_cond_t here;
    bool done;
};

static void done(struct engine_request *request)
{
    struct wait *wait = request->user;

    pthread_mutex_lock(&wait->lock);
    wait->done = true;
    pthread_cond_signal(&wait->here);
    pthread_mutex_unlock(&wait->lock);
}

static struct reply submit(struct rig *rig, struct engine_request *request)
{
    struct wait wait = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    struct reply reply = {0};

    request->done = done;
    request->user = &wait;
    engine_submit(rig->engine, request);
    pthread_mutex_lock(&wait.lock);
    while (!wait.done)
        pthread_cond_wait(&wait.here, &wait.lock);
    pthread_mutex_unlock(&wait.lock);
    reply.status = request->status;
    reply.retry_after = request->retry_after;
    if (request->code)
        snprintf(reply.code, sizeof reply.code, "%s", request->code);
    snprintf(reply.detail, sizeof reply.detail, "%s", request->detail.text);
    reply.text = request->text;
    return reply;
}

struct reply rig_admin(struct rig *rig, enum engine_call call, json_t *value)
{
    struct engine_request request = {.call = call, .value = value, .by = "tester"};
    struct reply reply = submit(rig, &request);

    if (reply.text)
        reply.value = json_loads(reply.text, 0, NULL);
    json_decref(value);
    return reply;
}

static const char *const call_names[] = {"enroll", "begin", "report", "status"};

static struct reply send_body(struct rig *rig, struct rig_device *device)
{
    struct engine_request request = {.call = device->call, .body = device->body};
    struct error error;
    struct reply reply;

    request.body_len = strlen(device->body);
    assert_int_equal(json_parse(device->body, request.body_len, &request.value, &error), 0);
    request.seq = (uint64_t)json_integer_value(json_object_get(request.value, "seq"));
    snprintf(request.device, sizeof request.device, "%s", device->id);
    request.public_key = device->key.public;
    _cleanup_free_ char *context = xasprintf("maeslant %s v1\n", call_names[device->call]);
    key_sign(&device->key, context, device->body, request.body_len, request.signature);
    reply = submit(rig, &request);
    json_decref(request.value);
    if (reply.text && device->call == CALL_ENROLL)
        reply.value = json_loads(reply.text, 0, NULL);
    else if (reply.text)
        assert_int_equal(envelope_open(&rig->server.public,
                                       device->call == CALL_BEGIN ? CONTEXT_PERMIT : CONTEXT_ANSWER,
                                       reply.text, strlen(reply.text), &reply.value, &error),
                         0);
    return reply;
}

struct reply rig_send_with_seq(struct rig *rig, struct rig_device *device, enum engine_call call,
                               uint64_t seq, json_t *body)
{
    json_object_set_new(body, "protocol", json_integer(1));
    json_object_set_new(body, "agent", json_string("0.1.0"));
    if (call != CALL_ENROLL)
        json_object_set_new(body, "device", json_string(device->id));
    json_object_set_new(body, "seq", json_integer((json_int_t)seq));
    json_object_set_new(body, "sent_at", json_integer(clock_ms(CLOCK_REALTIME)));
    free(device->body);
    device->body = json_text(body);
    device->call = call;
    json_decref(body);
    return send_body(rig, device);
}

struct reply rig_send(struct rig *rig, struct rig_device *device, enum engine_call call,
                      json_t *body)
{
    return rig_send_with_seq(rig, device, call, ++device->seq, body);
}

struct reply rig_send_again(struct rig *rig, struct rig_device *device)
{
    return send_body(rig, device);
}

void reply_free(struct reply *reply)
{
    json_decref(reply->value);
    free(reply->text);
    *reply = (struct reply){0};
}

const char *reply_text(const struct reply *reply, const char *name)
{
    const char *text = json_string_value(json_object_get(reply->value, name));

    return text ? text : "";
}

void rig_device_new(struct rig_device *device)
{
    *device = (struct rig_device){0};
    key_generate(&device->key);
    key_device_id(&device->key.public, device->id);
    random_hex(device->machine, 32);
}

void rig_device_free(struct rig_device *device)
{
    free(device->body);
    device->body = NULL;
}

struct reply rig_enroll(struct rig *rig, struct rig_device *device, const char *token)
{
    _cleanup_free_ char *key = base64_encode(device->key.public.bytes, KEY_PUBLIC_SIZE);

    return rig_send(rig, device, CALL_ENROLL,
                    json_pack("{s:s, s:s, s:s, s:{s:s}}", "token", token, "public_key", key,
                              "machine", device->machine, "attributes", "os", "linux"));
}

void rig_fleet(struct rig *rig, struct rig_device *devices, size_t count, const char *organisation)
{
    struct reply token =
        rig_admin(rig, CALL_TOKEN_NEW,
                  json_pack("{s:s, s:i}", "organisation", organisation, "uses", (int)count));

    assert_int_equal(token.status, 200);
    for (size_t i = 0; i < count; i++) {
        rig_device_new(&devices[i]);
        struct reply reply = rig_enroll(rig, &devices[i], reply_text(&token, "token"));
        assert_int_equal(reply.status, 200);
        reply_free(&reply);
    }
    reply_free(&token);
}

struct reply rig_publish(struct rig *rig, unsigned sequence, const char *payload,
                         const char *extra_manifest, json_t *members)
{
    char digest[65];
    struct error error;
    struct reply reply;

    sha256_hex(payload, strlen(payload), digest);
    _cleanup_free_ char *folder = path_join(rig->directory, "artifacts");
    _cleanup_free_ char *path = path_join(folder, digest);
    assert_int_equal(dir_make(AT_FDCWD, folder, 0700, &error), 0);
    assert_int_equal(file_write(AT_FDCWD, path, payload, strlen(payload), 0600, &error), 0);
    _cleanup_free_ char *manifest = xasprintf(
        "maeslant: 1\nproduct: rules\nchannel: stable\nversion: \"1.%u\"\nsequence: %u\n"
        "permissions: [files, reload]\n"
        "adapter:\n  kind: command\n  activate: [\"/bin/true\"]\n  mode: reload\n"
        "  deactivate: [\"/bin/true\"]\n"
        "active:\n  kind: exec\n  command: [\"/bin/cat\", \"${slot}/digest\"]\n"
        "probes:\n  - {name: worker, kind: exec, command: [\"/bin/true\"], interval: 1s}\n%s"
        "payload:\n  sha256: %s\n  size: %zu\n  unpacked: 100\n  files: 1\n",
        sequence, sequence, extra_manifest ? extra_manifest : "", digest, strlen(payload));
    _cleanup_free_ char *signature = manifest_sign(&rig->vendor, manifest, strlen(manifest));
    json_t *value = members ? members : json_pack("{s:s}", "skipped", "a test");
    json_object_set_new(value, "manifest", json_string(manifest));
    json_object_set_new(value, "signature", json_string(signature));
    reply = rig_admin(rig, CALL_RELEASE_PUBLISH, value);
    return reply;
}

void rig_release(struct rig *rig, unsigned sequence, const char *payload, char ret_id[static 65])
{
    struct reply reply = rig_publish(rig, sequence, payload, NULL, NULL);

    if (reply.status != 200)
        fail_msg("publish: %u %s %s", reply.status, reply.code, reply.detail);
    snprintf(ret_id, 65, "%s", reply_text(&reply, "release"));
    reply_free(&reply);
}

void rig_start(struct rig *rig, const char *release, const char *policy, char ret_name[static 129])
{
    json_t *value =
        json_pack("{s:s, s:o}", "release", release, "policy", json_loads(policy, 0, NULL));
    struct reply reply = rig_admin(rig, CALL_ROLLOUT_START, value);

    if (reply.status != 200)
        fail_msg("start: %u %s %s", reply.status, reply.code, reply.detail);
    snprintf(ret_name, 129, "%s", reply_text(&reply, "rollout"));
    reply_free(&reply);
}

json_t *begin_body(const char *release, const char *nonce)
{
    char random[65];

    random_hex(random, 32);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:s}, s:s}", "nonce", nonce ? nonce : random,
                     "product", "rules", "channel", "stable", "release", release, "from", "empty",
                     "attributes", "os", "linux", "boot", "boot-1");
}

json_t *report_body(const char *release, const char *permit, const char *outcome,
                    const char *reason)
{
    json_t *body =
        json_pack("{s:s, s:s, s:s}", "permit", permit, "release", release, "outcome", outcome);

    if (reason)
        json_object_set_new(body, "reason", json_string(reason));
    return body;
}

void rig_begin(struct rig *rig, struct rig_device *device, const char *release,
               char ret_permit[static 33], char ret_arm[static 16])
{
    struct reply reply = rig_send(rig, device, CALL_BEGIN, begin_body(release, NULL));

    if (reply.status != 200 || strcmp(reply_text(&reply, "answer"), "permit") != 0)
        fail_msg("begin: %u %s %s: %s %s", reply.status, reply.code, reply.detail,
                 reply_text(&reply, "answer"), reply_text(&reply, "reason"));
    snprintf(ret_permit, 33, "%s", reply_text(&reply, "permit"));
    snprintf(ret_arm, 16, "%s", reply_text(&reply, "arm"));
    reply_free(&reply);
}

json_t *rig_show(struct rig *rig, const char *rollout)
{
    struct reply reply = rig_admin(rig, CALL_ROLLOUT_SHOW, json_pack("{s:s}", "rollout", rollout));
    json_t *value = json_incref(reply.value);

    assert_int_equal(reply.status, 200);
    reply_free(&reply);
    return value;
}

int64_t count_of(const json_t *view, const char *name)
{
    json_t *value = json_object_get(view, name);

    assert_non_null(value);
    return json_integer_value(value);
}
