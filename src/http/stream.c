#include "http/private.h"

#include <assert.h>
#include <string.h>

#define STREAM_QUEUE_MAX (1u << 20)
#define STREAM_BLOCK (16u << 10)
#define STREAM_BEAT_MS 10000

struct http_stream {
    atomic_int refs;                 /* the owner's until http_stream_end, and the response's */
    struct http_stream *next, *prev; /* guarded by server.streams_lock */
    struct http_server *server;
    pthread_mutex_t lock;
    struct buf queue;
    size_t sent; /* bytes of `queue` that are through */
    int64_t written_ms;
    bool ended; /* nothing more will be queued */
    bool dead;  /* nothing more can be sent */
    struct connection *connection;
    struct MHD_Connection *mhd;
    struct wait wait;
};

static void stream_unref(struct http_stream *stream)
{
    if (atomic_fetch_sub_explicit(&stream->refs, 1, memory_order_acq_rel) > 1)
        return;
    buf_free(&stream->queue);
    pthread_mutex_destroy(&stream->lock);
    server_unref(stream->server);
    free(stream);
}

/* In the connection's thread, whenever it can take more. */
static ssize_t read_queue(void *user, uint64_t position, char *data, size_t max)
{
    struct http_stream *stream = user;
    ssize_t r = 0;
    size_t len;

    pthread_mutex_lock(&stream->lock);
    len = stream->queue.len - stream->sent;
    if (stream->dead || stream->wait.gone) {
        r = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (len > 0) {
        if (len > max)
            len = max;
        memcpy(data, stream->queue.data + stream->sent, len);
        stream->sent += len;
        if (stream->sent == stream->queue.len) {
            buf_clear(&stream->queue);
            stream->sent = 0;
        }
        stream->written_ms = now_ms();
        r = (ssize_t)len;
    } else if (stream->ended) {
        r = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (!wait_begin(stream->server, &stream->wait, stream->connection, stream->mhd)) {
        r = MHD_CONTENT_READER_END_WITH_ERROR;
    }
    pthread_mutex_unlock(&stream->lock);
    return r;
}

/* The response is through or its connection lost. */
static void release(void *user)
{
    struct http_stream *stream = user;
    struct http_server *server = stream->server;

    pthread_mutex_lock(&server->streams_lock);
    if (stream->prev)
        stream->prev->next = stream->next;
    else
        server->streams = stream->next;
    if (stream->next)
        stream->next->prev = stream->prev;
    pthread_mutex_unlock(&server->streams_lock);
    pthread_mutex_lock(&stream->lock);
    stream->dead = true;
    pthread_mutex_unlock(&stream->lock);
    stream_unref(stream);
}

void stream_attach(struct http_stream *stream, struct connection *connection,
                   struct MHD_Connection *mhd)
{
    pthread_mutex_lock(&stream->lock);
    stream->connection = connection;
    stream->mhd = mhd;
    pthread_mutex_unlock(&stream->lock);
}

static void wake(struct http_stream *stream)
{
    wait_end(stream->server, &stream->wait);
}

struct http_stream *http_reply_stream(struct http_exchange *exchange)
{
    struct http_stream *stream = xcalloc(1, sizeof(*stream));
    struct http_server *server = exchange->server;
    struct MHD_Response *response;

    atomic_init(&stream->refs, 2);
    pthread_mutex_init(&stream->lock, NULL);
    stream->server = server;
    atomic_fetch_add_explicit(&server->refs, 1, memory_order_relaxed);
    /* A comment, so that the head does not wait in the socket for the first event. */
    buf_add_str(&stream->queue, ":\n\n");
    stream->written_ms = now_ms();

    pthread_mutex_lock(&server->streams_lock);
    stream->next = server->streams;
    if (stream->next)
        stream->next->prev = stream;
    server->streams = stream;
    stream->ended = atomic_load(&server->stopping);
    pthread_mutex_unlock(&server->streams_lock);

    response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_queue, stream,
                                                 release);
    if (!response)
        abort(); /* out of memory, as in base/buf.h */
    response_add(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
    response_add(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    response_add(response, "X-Accel-Buffering", "no");
    exchange_add_headers(exchange, response);
    exchange_reply(exchange, 200, response, stream, false);
    return stream;
}

/* Fields of the event stream format (HTML, "server-sent events"): CR, LF and CRLF end a line. */
static void add_event(struct buf *queue, const char *event, const char *data)
{
    if (event)
        buf_addf(queue, "event: %.*s\n", (int)strcspn(event, "\r\n"), event);
    for (const char *line = data;;) {
        size_t len = strcspn(line, "\r\n");

        buf_add_str(queue, "data: ");
        buf_add(queue, line, len);
        buf_add_str(queue, "\n");
        line += len;
        if (!*line)
            break;
        line += line[0] == '\r' && line[1] == '\n' ? 2 : 1;
    }
    buf_add_str(queue, "\n");
}

bool http_stream_send(struct http_stream *stream, const char *event, const char *data)
{
    bool sent = false;

    pthread_mutex_lock(&stream->lock);
    if (!stream->dead && !stream->ended) {
        if (stream->sent > 0 && stream->queue.len + strlen(data) > STREAM_QUEUE_MAX) {
            memmove(stream->queue.data, stream->queue.data + stream->sent,
                    stream->queue.len - stream->sent);
            stream->queue.len -= stream->sent;
            stream->sent = 0;
        }
        if (stream->queue.len + strlen(data) > STREAM_QUEUE_MAX) {
            /* A stream with a hole would mislead; the client comes back and starts afresh. */
            stream->dead = true;
        } else {
            add_event(&stream->queue, event, data);
            sent = true;
        }
        wake(stream);
    }
    pthread_mutex_unlock(&stream->lock);
    return sent;
}

bool http_stream_alive(struct http_stream *stream)
{
    bool alive;

    pthread_mutex_lock(&stream->lock);
    alive = !stream->dead && !stream->ended;
    pthread_mutex_unlock(&stream->lock);
    return alive;
}

static void end(struct http_stream *stream)
{
    pthread_mutex_lock(&stream->lock);
    stream->ended = true;
    wake(stream);
    pthread_mutex_unlock(&stream->lock);
}

void http_stream_end(struct http_stream *stream)
{
    end(stream);
    stream_unref(stream);
}

void streams_beat(struct http_server *server, int64_t now)
{
    pthread_mutex_lock(&server->streams_lock);
    for (struct http_stream *stream = server->streams; stream; stream = stream->next) {
        pthread_mutex_lock(&stream->lock);
        if (now - stream->written_ms >= STREAM_BEAT_MS && stream->queue.len == 0) {
            buf_add_str(&stream->queue, ":\n\n");
            stream->written_ms = now;
            wake(stream);
        }
        pthread_mutex_unlock(&stream->lock);
    }
    pthread_mutex_unlock(&server->streams_lock);
}

void streams_end(struct http_server *server)
{
    pthread_mutex_lock(&server->streams_lock);
    for (struct http_stream *stream = server->streams; stream; stream = stream->next)
        end(stream);
    pthread_mutex_unlock(&server->streams_lock);
}
