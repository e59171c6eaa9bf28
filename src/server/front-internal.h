/* What the front's files share. */
#pragma once

#include "server/front.h"

#include <pthread.h>

enum role { ROLE_NONE, ROLE_VIEWER, ROLE_ADMIN };

struct front {
    struct engine *engine;
    char *artifacts;
    uint64_t min_free;
    bool tls;
    uint8_t admin_hash[32], viewer_hash[32]; /* of the tokens */
    char admin_session[65], viewer_session[65];

    /* Handlers hold it for reading; front_stop closes the door with it, so that no handler is left
       inside when the engine goes. */
    pthread_rwlock_t door;
    bool closed;

    pthread_mutex_t upload_lock;

    /* live.c */
    pthread_mutex_t live_lock;
    pthread_cond_t live_wake;
    pthread_t live_thread;
    struct http_stream **streams;
    size_t stream_count;
    bool changed, stopping;
};

/* Hands the request to the engine; its `done` replies and frees it. `body` is copied. */
struct engine_request *front_request(struct http_exchange *exchange, enum engine_call call,
                                     json_t *value /* taken */);

/* auth.c */
void auth_init(struct front *front, const char *admin_token, const char *viewer_token);
/* The role of a request's bearer token or session cookie (a cookie gives at most reads). */
enum role auth_role(const struct front *front, const struct http_exchange *exchange);
void auth_session(struct front *front, struct http_exchange *exchange); /* POST /session */

/* device-calls.c */
void device_post(struct front *front, struct http_exchange *exchange, const char *call);
void device_leash(struct front *front, struct http_exchange *exchange, const char *permit);

/* admin-calls.c */
void admin_handle(struct front *front, struct http_exchange *exchange, const char *path);

/* upload.c */
void upload_put(struct front *front, struct http_exchange *exchange, const char *digest);
void artifact_get(struct front *front, struct http_exchange *exchange, const char *digest);

/* live.c */
int live_start(struct front *front, struct error *error);
void live_add(struct front *front, struct http_exchange *exchange);
void live_stop(struct front *front);

/* Replies that several files give. */
void problem_method(struct http_exchange *exchange, const char *allowed);
void problem_not_found(struct http_exchange *exchange);
/* False: the body is not declared as JSON, and the refusal was sent. */
bool front_takes_json(struct http_exchange *exchange);
