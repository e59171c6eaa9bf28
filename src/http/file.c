#include "http/private.h"
#include "http/problem.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* libmicrohttpd's own reader of files moves 4 KiB at a time through TLS. */
#define TLS_BLOCK (32u << 10)

struct file_part {
    int fd;
    uint64_t from;
};

static ssize_t read_part(void *user, uint64_t position, char *data, size_t max)
{
    const struct file_part *part = user;
    ssize_t got;

    do {
        got = pread(part->fd, data, max, (off_t)(part->from + position));
    } while (got < 0 && errno == EINTR);
    return got > 0 ? got : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void free_part(void *user)
{
    struct file_part *part = user;

    (void)close(part->fd);
    free(part);
}

/* Takes over `fd`. */
static struct MHD_Response *part_response(const struct http_server *server, int fd, uint64_t from,
                                          uint64_t len)
{
    struct MHD_Response *response;
    struct file_part *part;

    if (len == 0) {
        (void)close(fd);
        return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
    }
    if (!server->tls) {
        response = MHD_create_response_from_fd_at_offset64(len, fd, from);
        if (!response)
            (void)close(fd);
        return response;
    }
    part = xmalloc(sizeof(*part));
    *part = (struct file_part){.fd = fd, .from = from};
    response = MHD_create_response_from_callback(len, TLS_BLOCK, read_part, part, free_part);
    if (!response)
        free_part(part);
    return response;
}

/* If-Range names the representation that the part is wanted of; a date is never ours. */
static bool range_applies(const struct http_exchange *exchange, const char *etag)
{
    const char *condition = http_header(exchange, "If-Range");
    size_t len = strlen(etag);

    if (!condition)
        return true;
    return strlen(condition) == len + 2 && condition[0] == '"' && condition[len + 1] == '"' &&
           memcmp(condition + 1, etag, len) == 0;
}

static void reply_unreadable(struct http_exchange *exchange, int error)
{
    exchange_drop_headers(exchange);
    if (error == ENOENT || error == ENOTDIR || error == ELOOP || error == EISDIR)
        http_problem(exchange, 404, "not-found", "There is no such file",
                     "Check the name; a release's files are there from its publication on.",
                     "%s is not here", http_path(exchange));
    else
        http_problem(exchange, 500, "file-unreadable", "The file cannot be read",
                     "The server's operator finds the cause in its log.", "%s: %s",
                     http_path(exchange), strerror(error));
}

static void reply_unsatisfiable(struct http_exchange *exchange, const char *range, uint64_t size)
{
    _cleanup_free_ char *place = xasprintf("bytes */%llu", (unsigned long long)size);

    exchange_drop_headers(exchange);
    http_reply_header(exchange, MHD_HTTP_HEADER_CONTENT_RANGE, place);
    http_problem(exchange, 416, "range", "The range lies beyond the file's end",
                 "Ask for a range within the size, or for the whole file.",
                 "Range is '%.80s'; the file has %llu bytes", range, (unsigned long long)size);
}

/* Takes over `fd`. */
static void reply_open_file(struct http_exchange *exchange, int fd, uint64_t size,
                            const char *content_type, const char *etag)
{
    _cleanup_free_ char *quoted = xasprintf("\"%s\"", etag);
    const char *condition = http_header(exchange, "If-None-Match");
    const char *range = range_applies(exchange, etag) ? http_header(exchange, "Range") : NULL;
    bool get = strcmp(http_method(exchange), "GET") == 0;
    struct MHD_Response *response;
    uint64_t from = 0, len = size;
    unsigned status = 200;

    if (condition && request_etag_matches(condition, etag)) {
        status = 304;
    } else {
        switch (request_range_parse(get ? range : NULL, size, &from, &len)) {
        case RANGE_WHOLE:
            break;
        case RANGE_PART:
            status = 206;
            break;
        case RANGE_UNSATISFIABLE:
            (void)close(fd);
            reply_unsatisfiable(exchange, range, size);
            return;
        }
    }
    response = part_response(exchange->server, fd, from, len);
    response_add(response, MHD_HTTP_HEADER_ETAG, quoted);
    response_add(response, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
    if (status == 200 || status == 206) {
        response_add(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
        response_add(response, "X-Content-Type-Options", "nosniff");
    }
    if (status == 206) {
        _cleanup_free_ char *place =
            xasprintf("bytes %llu-%llu/%llu", (unsigned long long)from,
                      (unsigned long long)(from + len - 1), (unsigned long long)size);

        response_add(response, MHD_HTTP_HEADER_CONTENT_RANGE, place);
    }
    exchange_add_headers(exchange, response);
    exchange_reply(exchange, status, response, NULL, false);
}

void http_reply_file(struct http_exchange *exchange, const char *path, const char *content_type,
                     const char *etag)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    struct stat st;

    if (fd < 0) {
        reply_unreadable(exchange, errno);
        return;
    }
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        (void)close(fd);
        reply_unreadable(exchange, ENOENT);
        return;
    }
    reply_open_file(exchange, fd, (uint64_t)st.st_size, content_type, etag);
}
