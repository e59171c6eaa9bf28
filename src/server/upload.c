/* Artifacts on their way in and out. An upload comes in parts of at most a body's size, so a large
 * payload needs no larger limit and goes on after a cut; it gets its final name when its digest is
 * right. */
#include "server/front-internal.h"

#include "base/encode.h"
#include "base/file.h"
#include "base/parse.h"
#include "http/problem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ARTIFACT_MAX (UINT64_C(4) << 30)

static void reply_progress(struct http_exchange *exchange, uint64_t received, bool complete)
{
    char text[96];
    snprintf(text, sizeof text, "{\"received\":%" PRIu64 ",\"complete\":%s}", received,
             complete ? "true" : "false");
    http_reply(exchange, 200, "application/json", text, strlen(text));
}

static void problem_storage(struct http_exchange *exchange, const char *detail)
{
    http_reply_header(exchange, "Retry-After", "10");
    http_problem(exchange, 503, "storage", "The artifact can't be stored",
                 "Make room on the control plane's disk and send the same part again.", "%s",
                 detail);
}

/* Checks a whole upload and gives it its name. */
static void finish(struct http_exchange *exchange, int fd, const char *part, const char *path,
                   const char *digest, uint64_t size)
{
    struct error error = ERROR_INIT;
    uint8_t hash[SHA256_SIZE];
    char text[SHA256_HEX_SIZE];
    uint64_t hashed;
    if (sha256_fd(fd, ARTIFACT_MAX, hash, &hashed) < 0) {
        problem_storage(exchange, "the upload can't be read back");
        return;
    }
    hex_encode(hash, sizeof hash, text);
    if (strcmp(text, digest) != 0) {
        unlink(part);
        http_problem(exchange, 409, "digest", "The artifact is not what its name says",
                     "Send it again from offset 0.", "expected SHA-256 %s, received %s", digest,
                     text);
        return;
    }
    if (fsync(fd) < 0 || file_rename(AT_FDCWD, part, path, &error) < 0) {
        problem_storage(exchange, error.text[0] ? error.text : "the upload can't be synced");
        return;
    }
    reply_progress(exchange, size, true);
}

static void take_part(struct front *front, struct http_exchange *exchange, const char *digest,
                      uint64_t offset, uint64_t size)
{
    struct error error = ERROR_INIT;
    struct stat st;
    _cleanup_free_ char *path = path_join(front->artifacts, digest);
    _cleanup_free_ char *part = xasprintf("%s/.part-%s", front->artifacts, digest);
    size_t len;
    const uint8_t *body = http_body(exchange, &len);

    if (stat(path, &st) == 0) {
        reply_progress(exchange, (uint64_t)st.st_size, true);
        return;
    }
    uint64_t space;
    if (space_free(AT_FDCWD, front->artifacts, &space, &error) == 0 &&
        space < front->min_free + (size - offset)) {
        char detail[128];
        snprintf(detail, sizeof detail, "%" PRIu64 " bytes are free, %" PRIu64 " must stay so",
                 space, front->min_free);
        problem_storage(exchange, detail);
        return;
    }
    _cleanup_fd_ int fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0 || fstat(fd, &st) < 0) {
        problem_storage(exchange, strerror(errno));
        return;
    }
    if (offset == 0 && ftruncate(fd, 0) == 0)
        st.st_size = 0;
    if ((uint64_t)st.st_size != offset) {
        http_problem(exchange, 409, "offset", "The part does not follow the one before",
                     "Go on from the offset that the detail names, or start again from 0.",
                     "offset %" PRIu64 "; expected %" PRIu64, offset, (uint64_t)st.st_size);
        return;
    }
    for (size_t done = 0; done < len;) {
        ssize_t n = pwrite(fd, body + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int saved = errno;
            if (ftruncate(fd, (off_t)offset) < 0)
                unlink(part);
            problem_storage(exchange, strerror(saved));
            return;
        }
        done += (size_t)n;
    }
    if (offset + len == size)
        finish(exchange, fd, part, path, digest, size);
    else
        reply_progress(exchange, offset + len, false);
}

void upload_put(struct front *front, struct http_exchange *exchange, const char *digest)
{
    struct error error = ERROR_INIT;
    uint64_t offset = 0, size = 0;
    size_t len;
    const char *text_offset = http_query(exchange, "offset"),
               *text_size = http_query(exchange, "size");
    http_body(exchange, &len);
    if (!is_digest(digest)) {
        problem_not_found(exchange);
        return;
    }
    if (!text_offset || !text_size || parse_u64(text_size, 0, ARTIFACT_MAX, &size, &error) < 0 ||
        parse_u64(text_offset, 0, size, &offset, &error) < 0 || len > size - offset) {
        http_problem(exchange, 400, "member-invalid", "The part's place is not clear",
                     "Send ?offset=<bytes before>&size=<bytes in all>, at most 4 GiB.", "%s",
                     error.text[0] ? error.text : "offset and size do not fit the body");
        return;
    }
    pthread_mutex_lock(&front->upload_lock);
    take_part(front, exchange, digest, offset, size);
    pthread_mutex_unlock(&front->upload_lock);
}

void artifact_get(struct front *front, struct http_exchange *exchange, const char *digest)
{
    _cleanup_free_ char *path = path_join(front->artifacts, digest);
    if (!is_digest(digest) || access(path, R_OK) < 0) {
        http_problem(exchange, 404, "not-found", "No artifact has this digest",
                     "Names are 64 lower-case hex digits of what was published.",
                     "artifact '%.80s'", digest);
        return;
    }
    http_reply_header(exchange, "Cache-Control", "max-age=31536000, immutable");
    http_reply_file(exchange, path, "application/octet-stream", digest);
}
