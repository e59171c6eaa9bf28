/* Refusals before the handler. libmicrohttpd can only queue a reply before the body or after it;
 * closing while the client still sends makes the kernel reset the connection, and the client never
 * sees the reply. So the refusal of a request with a body is written at once by hand, and the rest
 * of the body is read and thrown away for a moment. */
#include "http/private.h"
#include "http/problem.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define DISCARD_BYTES (4u << 20)
#define DISCARD_MS 3000

static const struct {
    unsigned status;
    const char *code, *title, *remedy;
} kinds[] = {
    {400, "bad-request", "The request is not plain HTTP/1.1",
     "Send a request as RFC 9112 describes it; a proxy in between may have changed it."},
    {413, "body-too-large", "The body is too large",
     "Send less at once; docs/protocol.md names the limits."},
    {417, "bad-expectation", "The expectation is not understood", "Leave the Expect header out."},
    {431, "header-too-large", "The header fields are too large",
     "Send fewer or shorter header fields; docs/protocol.md names the limits."},
    {501, "bad-encoding", "The transfer encoding is not understood",
     "Send the body with Content-Length, or chunked."},
};

static char *refusal_text(unsigned status, const char *detail)
{
    size_t i = 0;

    while (i + 1 < ARRAY_SIZE(kinds) && kinds[i].status != status)
        i++;
    return problem_text(status, kinds[i].code, kinds[i].title, kinds[i].remedy, detail);
}

static void send_now(struct http_exchange *exchange, struct MHD_Connection *mhd, unsigned status,
                     const char *text)
{
    const union MHD_ConnectionInfo *info = NULL;
    _cleanup_buf_ struct buf reply = BUF_INIT;
    char date[40] = "";
    time_t now = time(NULL);
    struct tm tm;

    if (gmtime_r(&now, &tm))
        (void)strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
    buf_addf(&reply,
             "HTTP/1.1 %u %s\r\nDate: %s\r\nConnection: close\r\n"
             "Content-Type: application/problem+json\r\nContent-Length: %zu\r\n\r\n%s",
             status, MHD_get_reason_phrase_for(status), date, strlen(text), text);
    /* One try each: the socket's buffer is empty here, and the connection is lost anyway. */
    if (exchange->server->tls) {
        info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_GNUTLS_SESSION);
        if (info)
            (void)gnutls_record_send(info->tls_session, reply.data, reply.len);
        return;
    }
    (void)!send(exchange->connection->fd, reply.data, reply.len, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* As libmicrohttpd sees it, since the walk over the header may have stopped half-way. */
static bool body_follows(struct MHD_Connection *mhd)
{
    const char *length =
        MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);

    return (length && length[strspn(length, "0")]) ||
           MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

static bool client_waits(const struct http_exchange *exchange, struct MHD_Connection *mhd)
{
    return exchange->state == EXCHANGE_HEAD &&
           MHD_lookup_connection_value(mhd, MHD_HEADER_KIND, MHD_HTTP_HEADER_EXPECT);
}

enum MHD_Result exchange_refuse(struct http_exchange *exchange, struct MHD_Connection *mhd,
                                unsigned status, const char *detail)
{
    _cleanup_free_ char *text = refusal_text(status, detail);
    struct MHD_Response *response;
    enum MHD_Result r;

    if (exchange->state == EXCHANGE_BODY || (body_follows(mhd) && !client_waits(exchange, mhd))) {
        send_now(exchange, mhd, status, text);
        exchange->state = EXCHANGE_REFUSED;
        buf_free(&exchange->body);
        atomic_store_explicit(&exchange->connection->deadline_ms, now_ms() + DISCARD_MS,
                              memory_order_relaxed);
        return MHD_YES;
    }
    exchange->state = EXCHANGE_QUEUED;
    response = MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_COPY);
    response_add(response, MHD_HTTP_HEADER_CONTENT_TYPE, "application/problem+json");
    /* A reply before the request's end closes the connection afterwards. */
    r = MHD_queue_response(mhd, status, response);
    MHD_destroy_response(response);
    return r;
}

enum MHD_Result exchange_discard(struct http_exchange *exchange, size_t size)
{
    if (size == 0)
        return MHD_NO; /* the request's end */
    exchange->discarded += size;
    return exchange->discarded > DISCARD_BYTES ? MHD_NO : MHD_YES;
}
