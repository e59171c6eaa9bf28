#include "agent/client.h"

#include "agent/hooks.h"
#include "base/clock.h"
#include "base/encode.h"
#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/process.h"
#include "trust/envelope.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define ANSWER_MAX (1024 * 1024)
#define HALTS_MAX ((size_t)16 * 1024 * 1024)

void reply_free(struct reply *reply)
{
    json_decref(reply->value);
    free(reply->problem);
    free(reply->text);
    *reply = (struct reply){0};
}

/* Certificates are checked no earlier than this (rule 3): when this program was installed. */
static int64_t built_at(void)
{
    struct stat st;

    return stat("/proc/self/exe", &st) == 0 ? (int64_t)st.st_mtime : 0;
}

static int read_secret(const struct paths *paths, const char *path, char **ret, struct error *error)
{
    _cleanup_free_ char *full = paths_below(paths, path);
    _cleanup_buf_ struct buf text = BUF_INIT;
    int r = file_read(AT_FDCWD, full, 1024, &text, error);

    if (r < 0)
        return r;
    while (text.len > 0 && text.data[text.len - 1] == '\n')
        text.data[--text.len] = '\0';
    *ret = buf_take(&text);
    return 0;
}

static int open_client(const struct paths *paths, const struct config *config, int64_t floor,
                       struct http_client **ret, struct error *error)
{
    _cleanup_free_ char *ca = config->ca ? paths_below(paths, config->ca) : NULL;
    _cleanup_free_ char *extra = config->extra_ca ? paths_below(paths, config->extra_ca) : NULL;
    _cleanup_free_ char *user = NULL;
    struct http_client_options options = {
        .base_url = config->server,
        .ca_path = ca,
        .extra_ca_path = extra,
        .proxy = config->proxy,
        .connect_timeout = 10,
        .timeout = 30,
        .min_unix_time = floor > built_at() ? floor : built_at(),
        .user_agent = "maeslant-agent/" MAESLANT_VERSION,
    };
    int r = 0;

    if (config->proxy_auth_file)
        r = read_secret(paths, config->proxy_auth_file, &user, error);
    options.proxy_user = user;
    return r == 0 ? http_client_new(&options, ret, error) : r;
}

int client_new(struct agent *agent, struct http_client **ret, struct error *error)
{
    return open_client(&agent->paths, &agent->config, agent->clock_floor, ret, error);
}

static void read_problem(const struct http_answer *answer, struct reply *ret)
{
    static const char prefix[] = "https://maeslant.org/problems/";
    _cleanup_json_ json_t *problem = NULL;
    const char *type = "";

    ret->problem = http_answer_problem(answer);
    if (answer->body.len == 0 ||
        json_parse(answer->body.data, answer->body.len, &problem, NULL) < 0)
        return;
    (void)json_may_string(problem, "", "type", 256, &type, NULL);
    if (strncmp(type, prefix, strlen(prefix)) == 0)
        (void)snprintf(ret->code, sizeof(ret->code), "%s", type + strlen(prefix));
}

static void see_time(struct agent *agent, const json_t *value)
{
    static const char *const names[] = {"at", "issued_at"};
    int64_t at = 0;

    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        (void)json_may_integer(value, "", names[i], 0, INT64_MAX, &at, NULL);
    (void)pthread_mutex_lock(&agent->lock);
    if (at / 1000 > agent->clock_floor)
        agent->clock_floor = at / 1000;
    (void)pthread_mutex_unlock(&agent->lock);
}

void client_load_time(struct agent *agent)
{
    _cleanup_free_ char *path = path_join(agent->paths.state, "clock");
    _cleanup_buf_ struct buf text = BUF_INIT;
    uint64_t seconds;

    if (file_read(AT_FDCWD, path, 32, &text, NULL) < 0 || text.len < 2)
        return;
    text.data[text.len - 1] = '\0';
    if (parse_u64(text.data, 0, INT32_MAX * (uint64_t)2, &seconds, NULL) == 0)
        agent->clock_floor = agent->clock_kept = (int64_t)seconds;
}

void client_keep_time(struct agent *agent)
{
    _cleanup_free_ char *path = path_join(agent->paths.state, "clock");
    _cleanup_free_ char *text = NULL;
    int64_t floor;

    (void)pthread_mutex_lock(&agent->lock);
    floor = agent->clock_floor;
    (void)pthread_mutex_unlock(&agent->lock);
    if (floor < agent->clock_kept + 3600)
        return;
    text = xasprintf("%lld\n", (long long)floor);
    if (file_write(AT_FDCWD, path, text, strlen(text), 0600, NULL) == 0)
        agent->clock_kept = floor;
}

/* Takes the answer over. */
static int take(struct agent *agent, struct http_answer *answer, const char *context,
                struct reply *ret, struct error *error)
{
    int r = 0;

    ret->status = answer->status;
    ret->retry_after = answer->retry_after;
    (void)snprintf(ret->etag, sizeof(ret->etag), "%s", answer->etag);
    if (answer->status >= 400)
        read_problem(answer, ret);
    else if (answer->status == 200 && context)
        r = envelope_open(&agent->identity.server_key, context,
                          answer->body.data ? answer->body.data : "", answer->body.len, &ret->value,
                          error);
    ret->len = answer->body.len;
    ret->text = buf_take(&answer->body);
    http_answer_free(answer);
    if (r < 0)
        return error_prefix(error, r, "the server's answer is not to be trusted");
    if (ret->value && agent)
        see_time(agent, ret->value);
    return 0;
}

static int send_signed(struct http_client *http, const struct secret_key *key, const char *call,
                       const json_t *body, double timeout, int cancel_fd,
                       struct http_answer *answer, struct error *error)
{
    _cleanup_free_ char *text = json_text(body);
    _cleanup_free_ char *signature = device_signature(key, call, text, strlen(text));
    _cleanup_free_ char *header = xasprintf("Maeslant-Signature: %s", signature);
    _cleanup_free_ char *path = xasprintf("/v1/%s", call);
    const char *headers[] = {"Content-Type: application/json", header, NULL};

    return http_post(http, path, headers, text, strlen(text), ANSWER_MAX, timeout, cancel_fd,
                     answer, error);
}

static void set(json_t *body, const char *name, json_t *value)
{
    if (json_object_set_new(body, name, value) < 0)
        abort();
}

int client_post(struct agent *agent, struct http_client *http, const char *call, json_t *body,
                const char *context, double timeout, int cancel_fd, struct reply *ret,
                struct error *error)
{
    struct http_answer answer = {0};
    uint64_t seq = 0;
    int r;

    *ret = (struct reply){.retry_after = -1};
    (void)pthread_mutex_lock(&agent->post_lock);
    r = counter_next(&agent->counter, &seq, error);
    if (r == 0) {
        set(body, "protocol", json_integer(1));
        set(body, "agent", json_string(MAESLANT_VERSION));
        set(body, "device", json_string(agent->identity.device));
        set(body, "seq", json_integer((json_int_t)seq));
        set(body, "sent_at", json_integer(clock_ms(CLOCK_REALTIME)));
        r = send_signed(http, &agent->identity.key, call, body, timeout, cancel_fd, &answer, error);
    }
    (void)pthread_mutex_unlock(&agent->post_lock);
    crash_point("sent-", call);
    return r < 0 ? r : take(agent, &answer, context, ret, error);
}

int client_get(struct agent *agent, struct http_client *http, const char *path, const char *etag,
               const char *context, size_t limit, double timeout, int cancel_fd, struct reply *ret,
               struct error *error)
{
    _cleanup_free_ char *match = etag && *etag ? xasprintf("If-None-Match: \"%s\"", etag) : NULL;
    const char *headers[] = {match, NULL};
    struct http_answer answer = {0};
    int r = http_get(http, path, headers, limit, timeout, cancel_fd, &answer, error);

    *ret = (struct reply){.retry_after = -1};
    return r < 0 ? r : take(agent, &answer, context, ret, error);
}

int client_halts(struct agent *agent, struct http_client *http, double timeout, int cancel_fd,
                 struct error *error)
{
    _cleanup_reply_ struct reply reply = {0};
    int r = client_get(agent, http, "/v1/halts", NULL, NULL, HALTS_MAX, timeout, cancel_fd, &reply,
                       error);

    if (r < 0)
        return r;
    if (reply.status != 200)
        return error_set(error, -EIO, "the halts' list was not given: %s",
                         reply.problem ? reply.problem : "an empty answer");
    return agent_take_halts(agent, reply.text, reply.len, error);
}

int json_of_command(char *const *command, json_t *ret, struct error *error)
{
    struct process_limits limits = {.timeout = 10, .output = 65536, .strict_output = true};
    struct process_result result = {0};
    _cleanup_json_ json_t *object = NULL;
    const char *name;
    json_t *value;
    int r = process_run(command, NULL, NULL, NULL, &limits, -1, &result, error);

    if (r == 0 && result.exit_status != 0) {
        char how[128];

        process_describe(&result, how, sizeof(how));
        r = error_set(error, -EIO, "%s: %s: expected exit 0", command[0], how);
    }
    if (r == 0)
        r = json_parse(result.output.data ? result.output.data : "", result.output.len, &object,
                       error);
    if (r == 0 && !json_is_object(object))
        r = error_set(error, -EINVAL, "%s: expected one JSON object of texts", command[0]);
    if (r == 0) {
        json_object_foreach(object, name, value)
        {
            if (!json_is_string(value) || json_string_length(value) > 128) {
                r = error_set(error, -EINVAL, "%s: %.64s is no text of at most 128 bytes",
                              command[0], name);
                break;
            }
            (void)json_object_set(ret, name, value);
        }
    }
    process_result_free(&result);
    return r;
}

json_t *client_attributes(const struct config *config)
{
    json_t *attributes = json_object();
    struct error error = ERROR_INIT;

    if (config->attributes_exec && json_of_command(config->attributes_exec, attributes, &error) < 0)
        log_warning("attributes", "%s", error.text);
    for (size_t i = 0; i < config->attribute_count; i++)
        set(attributes, config->attributes[i].name, json_string(config->attributes[i].value));
    return attributes;
}

static int keep_enrolment(const struct paths *paths, const struct secret_key *key,
                          const char *machine, const struct reply *reply,
                          const struct public_key *pinned, struct error *error)
{
    _cleanup_json_ json_t *answer = NULL;
    _cleanup_free_ char *certificate = NULL;
    _cleanup_free_ char *bundle = NULL;
    const json_t *certificate_value, *bundle_value;
    int r = json_parse(reply->text, reply->len, &answer, error);

    if (r == 0)
        r = json_need(answer, "enroll", "certificate", JSON_OBJECT, &certificate_value, error);
    if (r == 0)
        r = json_need(answer, "enroll", "bundle", JSON_OBJECT, &bundle_value, error);
    if (r != 0)
        return r;
    certificate = json_text(certificate_value);
    bundle = json_text(bundle_value);
    return identity_save(paths, key, machine, certificate, bundle, pinned, error);
}

int client_enroll(const struct paths *paths, const struct config *config, const char *token,
                  const char *bundle, struct error *error)
{
    _cleanup_json_ json_t *body = json_object();
    _cleanup_reply_ struct reply reply = {0};
    _cleanup_free_ char *public_text = NULL;
    struct http_answer answer = {0};
    struct http_client *http = NULL;
    struct counter counter = {0};
    struct public_key pinned;
    struct secret_key key;
    char machine[65];
    uint64_t seq;
    int r = machine_digest(paths, machine, error);

    if (r == 0 && bundle)
        r = bundle_enrolment_key(bundle, strlen(bundle), &pinned, error);
    if (r == 0)
        r = identity_key(paths, &key, error);
    if (r < 0)
        return r;
    r = counter_open(paths, &counter, error);
    if (r == 0)
        r = counter_next(&counter, &seq, error);
    if (r == 0)
        r = open_client(paths, config, 0, &http, error);
    if (r == 0) {
        public_text = base64_encode(key.public.bytes, KEY_PUBLIC_SIZE);
        set(body, "protocol", json_integer(1));
        set(body, "agent", json_string(MAESLANT_VERSION));
        set(body, "seq", json_integer((json_int_t)seq));
        set(body, "sent_at", json_integer(clock_ms(CLOCK_REALTIME)));
        set(body, "token", json_string(token));
        set(body, "public_key", json_string(public_text));
        set(body, "machine", json_string(machine));
        set(body, "attributes", client_attributes(config));
        if (config->group)
            set(body, "group", json_string(config->group));
        r = send_signed(http, &key, "enroll", body, 30, -1, &answer, error);
    }
    if (r == 0)
        r = take(NULL, &answer, NULL, &reply, error);
    if (r == 0 && reply.status != 200)
        r = error_set(error, -EPERM, "the server does not enrol this device: %s",
                      reply.problem ? reply.problem : "an empty answer");
    if (r == 0)
        r = keep_enrolment(paths, &key, machine, &reply, bundle ? &pinned : NULL, error);
    counter_close(&counter);
    http_client_free(http);
    key_wipe(&key);
    return r;
}
