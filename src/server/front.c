#include "server/front-internal.h"

#include "base/encode.h"
#include "base/parse.h"
#include "http/problem.h"
#include "page.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#define POLICY                                                                                     \
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "              \
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

void problem_method(struct http_exchange *exchange, const char *allowed)
{
    http_reply_header(exchange, "Allow", allowed);
    http_problem(exchange, 405, "method", "This address does not take that method",
                 "Use a method that the Allow header names.", "%s %s; allowed: %s",
                 http_method(exchange), http_path(exchange), allowed);
}

void problem_not_found(struct http_exchange *exchange)
{
    http_problem(exchange, 404, "not-found", "There is nothing at this address",
                 "See docs/protocol.md for the addresses of version 1.", "%s %s",
                 http_method(exchange), http_path(exchange));
}

bool front_takes_json(struct http_exchange *exchange)
{
    static const char json[] = "application/json";
    const char *type = http_header(exchange, "Content-Type");
    size_t len = strlen(json);

    /* strchr finds the text's end, too. */
    if (type && strncasecmp(type, json, len) == 0 && strchr("; \t", type[len]))
        return true;
    http_problem(exchange, 415, "media-type", "The body is not declared as JSON",
                 "Send Content-Type: application/json.", "Content-Type is '%.80s'",
                 type ? type : "absent");
    return false;
}

static void engine_done(struct engine_request *request)
{
    struct http_exchange *exchange = request->user;
    if (request->retry_after >= 0) {
        char seconds[32];
        snprintf(seconds, sizeof seconds, "%.0f", fmax(1, ceil(request->retry_after)));
        http_reply_header(exchange, "Retry-After", seconds);
    }
    if (request->status == 200)
        http_reply(exchange, 200, "application/json", request->text, strlen(request->text));
    else
        http_problem(exchange, request->status, request->code ? request->code : "internal",
                     request->title ? request->title : "The request was refused",
                     request->remedy ? request->remedy : "", "%s", request->detail.text);
    json_decref(request->value);
    free((void *)request->body);
    free(request->text);
    free(request);
}

struct engine_request *front_request(struct http_exchange *exchange, enum engine_call call,
                                     json_t *value)
{
    struct engine_request *request = xcalloc(1, sizeof *request);
    size_t len;
    const void *body = http_body(exchange, &len);
    request->call = call;
    request->value = value;
    request->body = len ? xmemdup(body, len) : NULL;
    request->body_len = len;
    request->done = engine_done;
    request->user = exchange;
    request->retry_after = -1;
    return request;
}

static bool is_get(const struct http_exchange *exchange)
{
    return strcmp(http_method(exchange), "GET") == 0 || strcmp(http_method(exchange), "HEAD") == 0;
}

static void plan_get(struct front *front, struct http_exchange *exchange, const char *rest)
{
    const char *slash = strchr(rest, '/');
    char product[129], channel[129];
    if (!slash || (size_t)(slash - rest) >= sizeof product || strlen(slash + 1) >= sizeof channel) {
        problem_not_found(exchange);
        return;
    }
    memcpy(product, rest, (size_t)(slash - rest));
    product[slash - rest] = '\0';
    memcpy(channel, slash + 1, strlen(slash + 1) + 1);
    struct http_blob *plan =
        is_name(product) && is_name(channel) ? engine_plan(front->engine, product, channel) : NULL;
    if (!plan) {
        http_problem(exchange, 404, "plan-unknown", "No release was published for this channel",
                     "Check product and channel, or publish a release first.",
                     "product '%.128s', channel '%.128s'", product, channel);
        return;
    }
    http_reply_blob(exchange, plan);
    http_blob_unref(plan);
}

static void halts_get(struct front *front, struct http_exchange *exchange)
{
    struct http_blob *halts = engine_halts(front->engine);
    if (!halts) {
        problem_not_found(exchange);
        return;
    }
    http_reply_blob(exchange, halts);
    http_blob_unref(halts);
}

static bool page_get(struct http_exchange *exchange, const char *path)
{
    const struct page_file *file = page_find(path);
    if (!file)
        return false;
    const char *tag = http_header(exchange, "If-None-Match");
    http_reply_header(exchange, "Content-Security-Policy", POLICY);
    http_reply_header(exchange, "X-Content-Type-Options", "nosniff");
    http_reply_header(exchange, "Referrer-Policy", "no-referrer");
    http_reply_header(exchange, "Cache-Control", "no-cache");
    http_reply_header(exchange, "ETag", file->etag);
    if (tag && strcmp(tag, file->etag) == 0)
        http_reply(exchange, 304, file->content_type, "", 0);
    else
        http_reply(exchange, 200, file->content_type, file->data, file->len);
    return true;
}

/* The part of `path` behind `prefix`, or NULL. */
static const char *behind(const char *path, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(path, prefix, len) == 0 ? path + len : NULL;
}

static void route(struct front *front, struct http_exchange *exchange)
{
    const char *path = http_path(exchange), *rest;
    bool get = is_get(exchange);

    if ((rest = behind(path, "/v1/plans/")))
        get ? plan_get(front, exchange, rest) : problem_method(exchange, "GET, HEAD");
    else if (strcmp(path, "/v1/halts") == 0)
        get ? halts_get(front, exchange) : problem_method(exchange, "GET, HEAD");
    else if ((rest = behind(path, "/v1/leash/")))
        get ? device_leash(front, exchange, rest) : problem_method(exchange, "GET");
    else if ((rest = behind(path, "/v1/artifacts/")))
        get ? artifact_get(front, exchange, rest) : problem_method(exchange, "GET, HEAD");
    else if (strcmp(path, "/v1/enroll") == 0 || strcmp(path, "/v1/begin") == 0 ||
             strcmp(path, "/v1/report") == 0 || strcmp(path, "/v1/status") == 0)
        device_post(front, exchange, path + strlen("/v1/"));
    else if ((rest = behind(path, "/v1/admin/")))
        admin_handle(front, exchange, rest);
    else if (strcmp(path, "/session") == 0)
        auth_session(front, exchange);
    else if (!get || !page_get(exchange, path))
        problem_not_found(exchange);
}

void front_handle(void *user, struct http_exchange *exchange)
{
    struct front *front = user;
    pthread_rwlock_rdlock(&front->door);
    if (front->closed) {
        http_reply_header(exchange, "Retry-After", "5");
        http_problem(exchange, 503, "stopping", "The control plane is stopping",
                     "Try again in a few seconds.", "%s %s", http_method(exchange),
                     http_path(exchange));
    } else {
        route(front, exchange);
    }
    pthread_rwlock_unlock(&front->door);
}

int front_new(const struct front_options *options, struct front **ret, struct error *error)
{
    struct front *front = xcalloc(1, sizeof *front);
    front->engine = options->engine;
    front->artifacts = xstrdup(options->artifacts);
    front->min_free = options->min_free;
    front->tls = options->tls;
    pthread_rwlock_init(&front->door, NULL);
    pthread_mutex_init(&front->upload_lock, NULL);
    auth_init(front, options->admin_token, options->viewer_token);
    int r = live_start(front, error);
    if (r < 0) {
        free(front->artifacts);
        free(front);
        return r;
    }
    *ret = front;
    return 0;
}

void front_stop(struct front *front)
{
    pthread_rwlock_wrlock(&front->door);
    front->closed = true;
    pthread_rwlock_unlock(&front->door);
    live_stop(front);
}

void front_free(struct front *front)
{
    if (!front)
        return;
    pthread_rwlock_destroy(&front->door);
    pthread_mutex_destroy(&front->upload_lock);
    free(front->artifacts);
    free(front);
}
