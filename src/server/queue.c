/* Requests on their way from any thread to the engine's. */
#include "server/engine-internal.h"

#include "base/clock.h"

#define BATCH 512
/* A sync costs the same whatever it writes, so a commit that follows another closely waits a little
 * for company. */
#define GATHER_SECONDS 0.001

void engine_submit(struct engine *engine, struct engine_request *request)
{
    request->status = 0;
    request->text = NULL;
    request->retry_after = -1;
    request->code = request->title = request->remedy = NULL;
    request->detail.text[0] = '\0';
    request->next = NULL;
    pthread_mutex_lock(&engine->queue_lock);
    *engine->queue_end = request;
    engine->queue_end = &request->next;
    if (++engine->queue_count >= engine->queue_wanted || call_is_urgent(request->call))
        pthread_cond_signal(&engine->queue_signal);
    pthread_mutex_unlock(&engine->queue_lock);
}

/* With the queue's lock; also returns when a request is urgent or the engine is to stop. */
static void wait_for(struct engine *engine, size_t requests, double seconds)
{
    struct timespec until;

    if (!(seconds > 0))
        return;
    if (seconds > 1)
        seconds = 1;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(seconds * 1e9);
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    engine->queue_wanted = requests;
    pthread_cond_timedwait(&engine->queue_signal, &engine->queue_lock, &until);
    engine->queue_wanted = 1;
}

struct engine_request *queue_take(struct engine *engine, double idle, double last, bool *ret_stop)
{
    struct engine_request *first, **end;
    size_t count = 0;

    pthread_mutex_lock(&engine->queue_lock);
    if (!engine->queue && !engine->stopping)
        wait_for(engine, 1, idle);
    if (engine->queue && !engine->stopping && engine->queue_count < BATCH &&
        clock_now(CLOCK_MONOTONIC) - last < GATHER_SECONDS)
        wait_for(engine, BATCH, GATHER_SECONDS);
    first = engine->queue;
    for (end = &engine->queue; *end && count < BATCH; end = &(*end)->next)
        count++;
    if (*end) {
        struct engine_request *rest = *end;
        *end = NULL;
        engine->queue = rest;
    } else {
        engine->queue = NULL;
        engine->queue_end = &engine->queue;
    }
    engine->queue_count -= count;
    *ret_stop = engine->stopping && !first;
    pthread_mutex_unlock(&engine->queue_lock);
    return first;
}
