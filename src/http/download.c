#include "base/encode.h"
#include "base/file.h"
#include "http/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESUMES 4 /* in one call, each only after progress */
#define PROBLEM_LIMIT (16u << 10)

struct download {
    const char *path;
    int fd;
    uint64_t have, size;
    bool started; /* the first body bytes of this attempt were seen */
};

static int start_body(struct transfer *transfer, struct download *download)
{
    long status = 0;

    (void)curl_easy_getinfo(transfer->line->easy, CURLINFO_RESPONSE_CODE, &status);
    download->started = true;
    if (status == 206 && transfer->range_from == download->have)
        return 0;
    if (status == 206)
        return error_set(transfer->error, -EIO,
                         "%s: the server sent bytes from %llu on where those from %llu on were "
                         "asked for",
                         transfer->url, (unsigned long long)transfer->range_from,
                         (unsigned long long)download->have);
    /* The whole of it again: the server knows no ranges. */
    download->have = 0;
    if (ftruncate(download->fd, 0) < 0) {
        int r = -errno;

        return error_set(transfer->error, r, "cannot empty %s: %s", download->path, strerror(-r));
    }
    return 0;
}

static int take_part(struct transfer *transfer, const char *data, size_t len)
{
    struct download *download = transfer->user;
    int r = download->started ? 0 : start_body(transfer, download);

    if (r < 0)
        return r;
    if (len > download->size - download->have)
        return error_set(transfer->error, -EFBIG,
                         "%s: the server sends more than the %llu bytes that the release states",
                         transfer->url, (unsigned long long)download->size);
    while (len > 0) {
        ssize_t put = pwrite(download->fd, data, len, (off_t)download->have);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            r = errno == EFBIG ? -ENOSPC : -errno; /* a file that may not grow is a full disk */
            return error_set(transfer->error, r, "cannot write %s: %s%s", download->path,
                             strerror(-r),
                             r == -ENOSPC ? "; make room on that file system and try again" : "");
        }
        data += put;
        len -= (size_t)put;
        download->have += (uint64_t)put;
    }
    return 0;
}

static int refused(const struct http_answer *answer, const char *url, struct error *error)
{
    _cleanup_free_ char *why = http_answer_problem(answer);

    return error_set(error, answer->status == 404 || answer->status == 410 ? -ENOENT : -EIO,
                     "%s: the server answered %s", url, why);
}

/* libcurl looks at the speed only after up to 100 reads of its buffer: keep those within a second's
 * worth. */
static void limit_speed(CURL *easy, uint64_t bytes_per_second)
{
    uint64_t buffer = bytes_per_second / 100;

    curl_easy_setopt(easy, CURLOPT_MAX_RECV_SPEED_LARGE, (curl_off_t)bytes_per_second);
    if (buffer < CURL_MAX_READ_SIZE)
        curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, buffer > 1024 ? (long)buffer : 1024L);
}

static int attempt(struct http_client *client, const char *url_path, struct download *download,
                   uint64_t bytes_per_second, int cancel_fd, struct error *error)
{
    struct http_answer answer = {.retry_after = -1};
    struct transfer transfer = {
        .answer = &answer, .limit = PROBLEM_LIMIT, .sink = take_part, .user = download};
    struct curl_slist *lines = NULL;
    _cleanup_free_ char *url = NULL;
    _cleanup_free_ char *range = NULL;
    const char *headers[2] = {NULL, NULL};
    int r;

    if (download->have > 0)
        range = xasprintf("Range: bytes=%llu-", (unsigned long long)download->have);
    headers[0] = range;
    download->started = false;
    r = client_acquire(client, url_path, &transfer.line, &url, error);
    if (r < 0)
        return r;
    transfer.url = url;
    r = transfer_prepare(&transfer, headers, &lines, error);
    if (r == 0) {
        CURL *easy = transfer.line->easy;

        client_configure(client, transfer.line);
        /* No limit for the whole: only standing still counts. */
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)client_timeout(client) + 1);
        if (bytes_per_second > 0)
            limit_speed(easy, bytes_per_second);
        r = transfer_run(&transfer, cancel_fd, error);
    }
    if (r == 0 && answer.status == 416 && download->have > 0) {
        download->have = 0;
        r = ftruncate(download->fd, 0) < 0 ? -errno : -EAGAIN;
    } else if (r == 0 && answer.status != 200 && answer.status != 206) {
        r = refused(&answer, url, error);
    }
    curl_slist_free_all(lines);
    client_release(client, transfer.line);
    http_answer_free(&answer);
    return r;
}

static bool worth_resuming(int r)
{
    return r == -EIO || r == -ETIMEDOUT || r == -EAGAIN;
}

static int fill(struct http_client *client, const char *url_path, struct download *download,
                uint64_t bytes_per_second, int cancel_fd, struct error *error)
{
    int r = 0;

    for (int i = 0; i <= RESUMES && download->have < download->size; i++) {
        uint64_t before = download->have;

        r = attempt(client, url_path, download, bytes_per_second, cancel_fd, error);
        if (r < 0 && !(worth_resuming(r) && (download->have > before || r == -EAGAIN)))
            return r;
        if (r == 0 && download->have == before)
            break;
    }
    if (download->have == download->size)
        return 0;
    if (r < 0 && r != -EAGAIN)
        return r;
    return error_set(error, -EIO,
                     "%s ended after %llu of %llu bytes; the next try goes on from there", url_path,
                     (unsigned long long)download->have, (unsigned long long)download->size);
}

static int check_digest(const struct download *download, const char *sha256, struct error *error)
{
    uint8_t digest[SHA256_SIZE];
    char text[SHA256_HEX_SIZE];
    int r = sha256_fd(download->fd, download->size, digest, NULL);

    if (r < 0)
        return error_set(error, r, "cannot read %s back: %s", download->path, strerror(-r));
    hex_encode(digest, sizeof(digest), text);
    if (strcmp(text, sha256) != 0)
        return error_set(error, -EBADMSG,
                         "the download has SHA-256 %s, the release states %s: it was damaged or "
                         "exchanged on its way",
                         text, sha256);
    return 0;
}

static int make_durable(const struct download *download, struct error *error)
{
    _cleanup_free_ char *parent = xstrdup(download->path);
    char *slash = strrchr(parent, '/');
    const char *dir = ".";

    if (fsync(download->fd) < 0) {
        int r = -errno;

        return error_set(error, r, "cannot make %s durable: %s", download->path, strerror(-r));
    }
    if (slash) {
        slash[slash == parent ? 1 : 0] = '\0';
        dir = parent;
    }
    return dir_sync(AT_FDCWD, dir, error);
}

int http_download(struct http_client *client, const char *url_path, const char *path, uint64_t size,
                  const char *sha256, uint64_t bytes_per_second, int cancel_fd, struct error *error)
{
    _cleanup_fd_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    struct download download = {.path = path, .fd = fd, .size = size};
    struct stat st;
    int r;

    if (fd < 0 || fstat(fd, &st) < 0) {
        r = -errno;
        return error_set(error, r, "cannot open %s for the download: %s", path, strerror(-r));
    }
    if (!S_ISREG(st.st_mode))
        return error_set(error, -EINVAL, "%s is not a regular file", path);
    if (!is_digest(sha256))
        return error_set(error, -EINVAL, "the SHA-256 is \"%s\": expected 64 hex digits", sha256);
    if ((uint64_t)st.st_size > size) {
        if (ftruncate(fd, 0) < 0) {
            r = -errno;
            return error_set(error, r, "cannot empty %s: %s", path, strerror(-r));
        }
    } else {
        download.have = (uint64_t)st.st_size;
    }
    r = fill(client, url_path, &download, bytes_per_second, cancel_fd, error);
    if (r == 0)
        r = check_digest(&download, sha256, error);
    if (r == 0)
        r = make_durable(&download, error);
    /* What is wrong must not be gone on with; what is only unfinished must. */
    if (r == -EBADMSG || r == -EFBIG)
        (void)unlink(path);
    return r;
}
