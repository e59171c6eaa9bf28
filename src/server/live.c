/* The page's live view: one thread asks the engine for its state after changes, at most five times
 * a second and only while somebody looks, and sends it to every stream. */
#include "server/front-internal.h"

#include "base/clock.h"
#include "http/problem.h"

#include <errno.h>
#include <string.h>

#define STREAMS_MAX 64
#define PAUSE_MS 200

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t here;
    bool done;
};

static void answered(struct engine_request *request)
{
    struct answer *answer = request->user;
    pthread_mutex_lock(&answer->lock);
    answer->done = true;
    pthread_cond_signal(&answer->here);
    pthread_mutex_unlock(&answer->lock);
}

/* The state's JSON, owned by the caller, or NULL. */
static char *ask_state(struct front *front)
{
    struct answer answer = {.done = false};
    pthread_mutex_init(&answer.lock, NULL);
    pthread_cond_init(&answer.here, NULL);
    struct engine_request request = {.call = CALL_STATE,
                                     .value = json_object(),
                                     .done = answered,
                                     .user = &answer,
                                     .retry_after = -1};
    engine_submit(front->engine, &request);
    pthread_mutex_lock(&answer.lock);
    while (!answer.done)
        pthread_cond_wait(&answer.here, &answer.lock);
    pthread_mutex_unlock(&answer.lock);
    pthread_mutex_destroy(&answer.lock);
    pthread_cond_destroy(&answer.here);
    json_decref(request.value);
    if (request.status == 200)
        return request.text;
    free(request.text);
    return NULL;
}

static void send_to_all(struct front *front, const char *state)
{
    pthread_mutex_lock(&front->live_lock);
    for (size_t i = 0; i < front->stream_count;) {
        if (http_stream_send(front->streams[i], "state", state)) {
            i++;
            continue;
        }
        http_stream_end(front->streams[i]);
        front->streams[i] = front->streams[--front->stream_count];
    }
    pthread_mutex_unlock(&front->live_lock);
}

static void *live_loop(void *user)
{
    struct front *front = user;
    pthread_mutex_lock(&front->live_lock);
    while (!front->stopping) {
        if (!front->changed || front->stream_count == 0) {
            pthread_cond_wait(&front->live_wake, &front->live_lock);
            continue;
        }
        front->changed = false;
        pthread_mutex_unlock(&front->live_lock);
        _cleanup_free_ char *state = ask_state(front);
        if (state)
            send_to_all(front, state);
        clock_sleep(PAUSE_MS / 1000.0);
        pthread_mutex_lock(&front->live_lock);
    }
    pthread_mutex_unlock(&front->live_lock);
    return NULL;
}

static void state_changed(void *user)
{
    struct front *front = user;
    pthread_mutex_lock(&front->live_lock);
    front->changed = true;
    pthread_cond_signal(&front->live_wake);
    pthread_mutex_unlock(&front->live_lock);
}

void live_add(struct front *front, struct http_exchange *exchange)
{
    pthread_mutex_lock(&front->live_lock);
    if (front->stopping || front->stream_count >= STREAMS_MAX) {
        pthread_mutex_unlock(&front->live_lock);
        http_reply_header(exchange, "Retry-After", "10");
        http_problem(exchange, 503, "streams-full", "All live views of this node are taken",
                     "Close another page, or read /v1/admin/state now and then.",
                     "%d streams are open", STREAMS_MAX);
        return;
    }
    front->streams = xrealloc(front->streams, front->stream_count + 1, sizeof *front->streams);
    front->streams[front->stream_count++] = http_reply_stream(exchange);
    front->changed = true;
    pthread_cond_signal(&front->live_wake);
    pthread_mutex_unlock(&front->live_lock);
}

int live_start(struct front *front, struct error *error)
{
    pthread_mutex_init(&front->live_lock, NULL);
    pthread_cond_init(&front->live_wake, NULL);
    int r = pthread_create(&front->live_thread, NULL, live_loop, front);
    if (r != 0)
        return error_set(error, -r, "the live view's thread can't start: %s", strerror(r));
    engine_on_change(front->engine, state_changed, front);
    return 0;
}

void live_stop(struct front *front)
{
    engine_on_change(front->engine, NULL, NULL);
    pthread_mutex_lock(&front->live_lock);
    front->stopping = true;
    pthread_cond_signal(&front->live_wake);
    pthread_mutex_unlock(&front->live_lock);
    pthread_join(front->live_thread, NULL);
    for (size_t i = 0; i < front->stream_count; i++)
        http_stream_end(front->streams[i]);
    free(front->streams);
    pthread_mutex_destroy(&front->live_lock);
    pthread_cond_destroy(&front->live_wake);
}
