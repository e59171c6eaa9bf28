#include "server/front-internal.h"

#include "base/encode.h"
#include "base/file.h"
#include "base/parse.h"
#include "http/problem.h"
#include "release/manifest.h"
#include "server/shape.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define REASON                                                                                     \
    {"reason", SHAPE_TEXT, true, 1, 512, NULL},                                                    \
    {                                                                                              \
        "by", SHAPE_NAME, false, 0, 0, NULL                                                        \
    }

static const struct shape_member members_token[] = {
    {"organisation", SHAPE_NAME, true, 0, 0, NULL},
    {"ring", SHAPE_NAME, false, 0, 0, NULL},
    {"uses", SHAPE_INTEGER, false, 1, 10000000, NULL},
    {"expires_ms", SHAPE_INTEGER, false, 1000, INT64_C(10) * 365 * 86400 * 1000, NULL},
    {"by", SHAPE_NAME, false, 0, 0, NULL},
};
static const struct shape_member members_release[] = {
    {"release", SHAPE_DIGEST, true, 0, 0, NULL},
    {"signature", SHAPE_TEXT, true, 1, 512, NULL},
    {"lab", SHAPE_OBJECT, false, 0, 0, NULL},
    {"skipped", SHAPE_TEXT, false, 1, 512, NULL},
    {"acknowledge_halted_payload", SHAPE_TEXT, false, 1, 512, NULL},
    {"by", SHAPE_NAME, false, 0, 0, NULL},
};
static const struct shape_member members_rollout[] = {
    {"release", SHAPE_DIGEST, true, 0, 0, NULL},        {"policy", SHAPE_OBJECT, false, 0, 0, NULL},
    {"organisations", SHAPE_OBJECT, false, 0, 0, NULL}, {"name", SHAPE_NAME, false, 0, 0, NULL},
    {"supersede", SHAPE_BOOL, false, 0, 0, NULL},       {"by", SHAPE_NAME, false, 0, 0, NULL},
};
static const struct shape_member members_reason[] = {REASON};
static const struct shape_member members_halt[] = {REASON, {"now", SHAPE_BOOL, false, 0, 0, NULL}};
static const struct shape_member members_approve[] = {REASON,
                                                      {"stage", SHAPE_NAME, false, 0, 0, NULL}};
static const struct shape_member members_hold[] = {REASON,
                                                   {"organisation", SHAPE_NAME, true, 0, 0, NULL},
                                                   {"lift", SHAPE_BOOL, false, 0, 0, NULL}};

static const struct action {
    const char *name;
    enum engine_call call;
    const struct shape_member *members;
    size_t count;
} rollout_actions[] = {
    {"pause", CALL_ROLLOUT_PAUSE, members_reason, ARRAY_SIZE(members_reason)},
    {"resume", CALL_ROLLOUT_RESUME, members_reason, ARRAY_SIZE(members_reason)},
    {"halt", CALL_ROLLOUT_HALT, members_halt, ARRAY_SIZE(members_halt)},
    {"approve", CALL_ROLLOUT_APPROVE, members_approve, ARRAY_SIZE(members_approve)},
    {"hold", CALL_HOLD, members_hold, ARRAY_SIZE(members_hold)},
};

/* The parsed body of an administrator's POST, or NULL after a reply. */
static json_t *admin_body(struct http_exchange *exchange, const char *where,
                          const struct shape_member *members, size_t count)
{
    struct error error = ERROR_INIT;
    const char *code = "json";
    json_t *value = NULL;
    size_t len;
    const char *body = http_body(exchange, &len);
    if (!front_takes_json(exchange))
        return NULL;
    if (json_parse(body, len, &value, &error) == 0 &&
        shape_check(value, where, members, count, &code, &error) == 0)
        return value;
    json_decref(value);
    http_problem(exchange, 400, code, "The body does not have the shape of this call",
                 "Send the body that docs/protocol.md describes for this call.", "%s", error.text);
    return NULL;
}

static void submit(struct front *front, struct http_exchange *exchange, enum engine_call call,
                   json_t *value)
{
    struct engine_request *request = front_request(exchange, call, value);
    const char *by = json_string_value(json_object_get(value, "by"));
    snprintf(request->by, sizeof request->by, "%s", by ? by : "admin");
    engine_submit(front->engine, request);
}

/* The manifest comes as an artifact of its own name: the engine reads it from there. */
static void publish(struct front *front, struct http_exchange *exchange)
{
    struct error error = ERROR_INIT;
    _cleanup_buf_ struct buf manifest = BUF_INIT;
    json_t *value = admin_body(exchange, "release", members_release, ARRAY_SIZE(members_release));
    if (!value)
        return;
    const char *release = json_string_value(json_object_get(value, "release"));
    _cleanup_free_ char *path = path_join(front->artifacts, release);
    if (file_read(AT_FDCWD, path, MANIFEST_MAX, &manifest, &error) < 0) {
        http_problem(exchange, 409, "manifest-missing", "The manifest was not uploaded",
                     "PUT it to /v1/admin/artifacts/<release> first.", "%s", error.text);
        json_decref(value);
        return;
    }
    json_t *text = json_stringn(manifest.data ? manifest.data : "", manifest.len);
    if (!text) {
        http_problem(exchange, 400, "manifest-invalid", "The manifest is not UTF-8",
                     "Build the release again: maeslant release build.", "release %s", release);
        json_decref(value);
        return;
    }
    json_object_set_new(value, "manifest", text);
    submit(front, exchange, CALL_RELEASE_PUBLISH, value);
}

/* Integers of the query as members: after, limit. */
static bool query_integer(struct http_exchange *exchange, const char *name, uint64_t max,
                          json_t *value)
{
    struct error error = ERROR_INIT;
    uint64_t number;
    const char *text = http_query(exchange, name);
    if (!text)
        return true;
    if (parse_u64(text, 0, max, &number, &error) == 0) {
        json_object_set_new(value, name, json_integer((json_int_t)number));
        return true;
    }
    http_problem(exchange, 400, "member-invalid", "The query can't be read", "Give a whole number.",
                 "%s: %s", name, error.text);
    json_decref(value);
    return false;
}

static void list(struct front *front, struct http_exchange *exchange, enum engine_call call,
                 json_t *value)
{
    if (query_integer(exchange, "after", INT64_MAX, value) &&
        query_integer(exchange, "limit", 10000, value))
        submit(front, exchange, call, value);
}

static void rollout_call(struct front *front, struct http_exchange *exchange, bool get,
                         const char *rest)
{
    const char *slash = strchr(rest, '/');
    size_t len = slash ? (size_t)(slash - rest) : strlen(rest);
    const char *verb = slash ? slash + 1 : "";
    _cleanup_free_ char *name = xstrndup(rest, len);
    if (!is_name(name)) {
        problem_not_found(exchange);
        return;
    }
    if (get) {
        json_t *value = json_pack("{s:s}", "rollout", name);
        if (!slash)
            submit(front, exchange, CALL_ROLLOUT_SHOW, value);
        else if (strcmp(verb, "events") == 0)
            list(front, exchange, CALL_ROLLOUT_EVENTS, value);
        else if (strcmp(verb, "history") == 0)
            list(front, exchange, CALL_ROLLOUT_HISTORY, value);
        else {
            json_decref(value);
            problem_not_found(exchange);
        }
        return;
    }
    for (size_t i = 0; i < ARRAY_SIZE(rollout_actions); i++) {
        const struct action *action = &rollout_actions[i];
        if (strcmp(action->name, verb) != 0)
            continue;
        json_t *value = admin_body(exchange, action->name, action->members, action->count);
        if (!value)
            return;
        json_object_set_new(value, "rollout", json_string(name));
        submit(front, exchange, action->call, value);
        return;
    }
    problem_not_found(exchange);
}

static void device_call(struct front *front, struct http_exchange *exchange, bool get,
                        const char *rest)
{
    _cleanup_free_ char *id = xstrndup(rest, strcspn(rest, "/"));
    const char *verb = rest + strlen(id);
    if (!is_digest(id)) {
        problem_not_found(exchange);
        return;
    }
    if (get && *verb == '\0') {
        submit(front, exchange, CALL_DEVICE_SHOW, json_pack("{s:s}", "device", id));
    } else if (!get && strcmp(verb, "/retire") == 0) {
        json_t *value = admin_body(exchange, "retire", members_reason, ARRAY_SIZE(members_reason));
        if (!value)
            return;
        json_object_set_new(value, "device", json_string(id));
        submit(front, exchange, CALL_DEVICE_RETIRE, value);
    } else {
        problem_not_found(exchange);
    }
}

static void post_body(struct front *front, struct http_exchange *exchange, enum engine_call call,
                      const char *where, const struct shape_member *members, size_t count)
{
    json_t *value = admin_body(exchange, where, members, count);
    if (value)
        submit(front, exchange, call, value);
}

static void admin_get(struct front *front, struct http_exchange *exchange, const char *path)
{
    if (strcmp(path, "state") == 0) {
        submit(front, exchange, CALL_STATE, json_object());
    } else if (strcmp(path, "stream") == 0) {
        live_add(front, exchange);
    } else if (strcmp(path, "log") == 0) {
        list(front, exchange, CALL_LOG, json_object());
    } else if (strcmp(path, "releases") == 0) {
        submit(front, exchange, CALL_RELEASE_LIST, json_object());
    } else if (strncmp(path, "releases/", 9) == 0 && is_digest(path + 9)) {
        submit(front, exchange, CALL_RELEASE_SHOW, json_pack("{s:s}", "release", path + 9));
    } else if (strcmp(path, "rollouts") == 0) {
        submit(front, exchange, CALL_ROLLOUT_LIST, json_object());
    } else if (strncmp(path, "rollouts/", 9) == 0) {
        rollout_call(front, exchange, true, path + 9);
    } else if (strcmp(path, "devices") == 0) {
        list(front, exchange, CALL_DEVICE_LIST, json_object());
    } else if (strncmp(path, "devices/", 8) == 0) {
        device_call(front, exchange, true, path + 8);
    } else {
        problem_not_found(exchange);
    }
}

static void admin_post(struct front *front, struct http_exchange *exchange, const char *path)
{
    if (strcmp(path, "tokens") == 0)
        post_body(front, exchange, CALL_TOKEN_NEW, "token", members_token,
                  ARRAY_SIZE(members_token));
    else if (strcmp(path, "releases") == 0)
        publish(front, exchange);
    else if (strcmp(path, "rollouts") == 0)
        post_body(front, exchange, CALL_ROLLOUT_START, "rollout", members_rollout,
                  ARRAY_SIZE(members_rollout));
    else if (strncmp(path, "rollouts/", 9) == 0)
        rollout_call(front, exchange, false, path + 9);
    else if (strncmp(path, "devices/", 8) == 0)
        device_call(front, exchange, false, path + 8);
    else
        problem_not_found(exchange);
}

void admin_handle(struct front *front, struct http_exchange *exchange, const char *path)
{
    enum role role = auth_role(front, exchange);
    const char *method = http_method(exchange);
    if (role == ROLE_NONE) {
        http_reply_header(exchange, "WWW-Authenticate", "Bearer");
        http_problem(exchange, 401, "token", "This address needs a token",
                     "Send Authorization: Bearer with the text of admin.token or viewer.token.",
                     "%s",
                     http_header(exchange, "Authorization") ? "the token opens nothing here"
                                                            : "no Authorization header");
        return;
    }
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        admin_get(front, exchange, path);
        return;
    }
    if (role != ROLE_ADMIN) {
        http_problem(exchange, 403, "read-only", "This token may only read",
                     "Use the token in admin.token.", "%s %s", method, http_path(exchange));
        return;
    }
    if (strcmp(method, "PUT") == 0 && strncmp(path, "artifacts/", 10) == 0)
        upload_put(front, exchange, path + 10);
    else if (strcmp(method, "POST") == 0)
        admin_post(front, exchange, path);
    else
        problem_method(exchange, "GET, HEAD, POST");
}
