#include "http/transfer.h"

#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define HEADERS_MAX (64u << 10)

static void init_curl(void)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        abort();
}

void transfer_global(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    (void)pthread_once(&once, init_curl);
}

int line_new(struct line **ret, struct error *error)
{
    struct line *line = xcalloc(1, sizeof(*line));

    transfer_global();
    line->easy = curl_easy_init();
    line->multi = curl_multi_init();
    if (!line->easy || !line->multi) {
        line_free(line);
        return error_set(error, -ENOMEM, "libcurl could not be set up: out of memory");
    }
    *ret = line;
    return 0;
}

void line_free(struct line *line)
{
    if (line->easy)
        curl_easy_cleanup(line->easy);
    if (line->multi)
        curl_multi_cleanup(line->multi);
    free(line);
}

static int fail(struct transfer *transfer, int code, const char *what)
{
    transfer->failed = error_set(transfer->error, code, "%s: %s", transfer->url, what);
    return code;
}

static size_t on_body(char *data, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    struct http_answer *answer = transfer->answer;
    size_t len = size * count;
    long status = 0;

    (void)curl_easy_getinfo(transfer->line->easy, CURLINFO_RESPONSE_CODE, &status);
    if (transfer->sink && (status == 200 || status == 206)) {
        transfer->failed = transfer->sink(transfer, data, len);
        return transfer->failed < 0 ? 0 : len;
    }
    if (len > transfer->limit - answer->body.len) {
        fail(transfer, -EFBIG, "the answer is larger than the limit for it");
        return 0;
    }
    buf_add(&answer->body, data, len);
    return len;
}

/* Copies a header's value without white space around it; too long a one is left out. */
static void copy_value(const char *value, size_t len, char *ret, size_t size)
{
    ret[0] = '\0';
    if (len >= size)
        return;
    memcpy(ret, value, len);
    ret[len] = '\0';
}

static void take_etag(struct http_answer *answer, const char *value, size_t len)
{
    if (len >= 2 && value[0] == 'W' && value[1] == '/') {
        value += 2;
        len -= 2;
    }
    if (len < 2 || value[0] != '"' || value[len - 1] != '"')
        return;
    copy_value(value + 1, len - 2, answer->etag, sizeof(answer->etag));
}

static void take_retry_after(struct http_answer *answer, const char *value, size_t len)
{
    char text[64];

    copy_value(value, len, text, sizeof(text));
    if (*text && strspn(text, "0123456789") == strlen(text) && strlen(text) < 9) {
        answer->retry_after = (double)strtoul(text, NULL, 10);
    } else {
        time_t date = curl_getdate(text, NULL);
        double left = (double)date - clock_now(CLOCK_REALTIME);

        if (date > 0)
            answer->retry_after = left > 0 ? left : 0;
    }
}

static void take_header(struct transfer *transfer, const char *line, size_t len)
{
    struct http_answer *answer = transfer->answer;
    const char *colon = memchr(line, ':', len);
    const char *value, *end = line + len;
    size_t name_len;

    if (!colon)
        return;
    name_len = (size_t)(colon - line);
    value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && strchr(" \t\r\n", end[-1]))
        end--;
    len = (size_t)(end - value);
    if (name_len == 12 && strncasecmp(line, "Content-Type", 12) == 0) {
        copy_value(value, len, answer->content_type, sizeof(answer->content_type));
    } else if (name_len == 4 && strncasecmp(line, "ETag", 4) == 0) {
        take_etag(answer, value, len);
    } else if (name_len == 4 && strncasecmp(line, "Date", 4) == 0) {
        char text[64];
        time_t date;

        copy_value(value, len, text, sizeof(text));
        date = curl_getdate(text, NULL);
        answer->date = date > 0 ? (int64_t)date : 0;
    } else if (name_len == 11 && strncasecmp(line, "Retry-After", 11) == 0) {
        take_retry_after(answer, value, len);
    } else if (name_len == 13 && strncasecmp(line, "Content-Range", 13) == 0 && len > 6 &&
               strncasecmp(value, "bytes ", 6) == 0) {
        char text[32];
        size_t digits = strspn(value + 6, "0123456789");

        copy_value(value + 6, digits, text, sizeof(text));
        if (*text)
            transfer->range_from = strtoull(text, NULL, 10);
    }
}

static size_t on_header(char *data, size_t size, size_t count, void *user)
{
    struct transfer *transfer = user;
    size_t len = size * count;

    transfer->header_bytes += len;
    if (transfer->header_bytes > HEADERS_MAX) {
        fail(transfer, -EFBIG, "the answer's header is larger than 64 KiB");
        return 0;
    }
    if (len > 5 && memcmp(data, "HTTP/", 5) == 0) {
        /* The final answer's, after one of 100. */
        transfer->answer->content_type[0] = transfer->answer->etag[0] = '\0';
        transfer->answer->retry_after = -1;
        transfer->range_from = UINT64_MAX;
        if (transfer->headers)
            buf_clear(transfer->headers);
    } else {
        take_header(transfer, data, len);
    }
    if (transfer->headers)
        buf_add(transfer->headers, data, len);
    return len;
}

int transfer_prepare(struct transfer *transfer, const char *const *headers,
                     struct curl_slist **ret_lines, struct error *error)
{
    /* libcurl would wait for a "100 Continue" before bodies of 1 MiB. */
    struct curl_slist *lines = curl_slist_append(NULL, "Expect:");
    CURL *easy = transfer->line->easy;

    for (size_t i = 0; headers && headers[i]; i++) {
        if (strpbrk(headers[i], "\r\n") || !strchr(headers[i], ':')) {
            curl_slist_free_all(lines);
            return error_set(error, -EINVAL,
                             "the header \"%s\" cannot be sent: expected one line \"Name: value\"",
                             headers[i]);
        }
        lines = curl_slist_append(lines, headers[i]);
    }
    *ret_lines = lines;
    transfer->range_from = UINT64_MAX;
    transfer->answer->retry_after = -1;
    curl_easy_setopt(easy, CURLOPT_URL, transfer->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, lines);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->message);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_3);
    curl_easy_setopt(easy, CURLOPT_PROXY_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    /* Empty, not absent: then libcurl does not ask the environment. */
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    return 0;
}

static int result_errno(const struct transfer *transfer, CURLcode code)
{
    long os = 0;

    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        return -ETIMEDOUT;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return -EHOSTUNREACH;
    case CURLE_COULDNT_CONNECT:
        (void)curl_easy_getinfo(transfer->line->easy, CURLINFO_OS_ERRNO, &os);
        if (os == ETIMEDOUT)
            return -ETIMEDOUT;
        return os == EHOSTUNREACH || os == ENETUNREACH ? -EHOSTUNREACH : -ECONNREFUSED;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return -EPROTO;
    case CURLE_FILESIZE_EXCEEDED:
        return -EFBIG;
    case CURLE_OUT_OF_MEMORY:
        return -ENOMEM;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return -EINVAL;
    default:
        return -EIO;
    }
}

/* What the proxy said, where it let nothing through; 0 otherwise. */
static long proxy_refusal(const struct transfer *transfer, CURLcode code)
{
    long status = 0;

    if (code == CURLE_OK)
        return 0;
    (void)curl_easy_getinfo(transfer->line->easy, CURLINFO_HTTP_CONNECTCODE, &status);
    return status >= 300 ? status : 0;
}

static int result(struct transfer *transfer, CURLcode code, struct error *error)
{
    long status = 0, refused = proxy_refusal(transfer, code);

    (void)curl_easy_getinfo(transfer->line->easy, CURLINFO_RESPONSE_CODE, &status);
    transfer->answer->status = (unsigned)status;
    if (transfer->failed < 0)
        return transfer->failed;
    if (code == CURLE_OK)
        return 0;
    if (refused == 407)
        return error_set(error, -EACCES,
                         "%s: the proxy answered 407: it does not take the name and the password; "
                         "expected name:password in proxy_auth_file, as the proxy knows them",
                         transfer->url);
    if (refused)
        return error_set(error, -EIO, "%s: the proxy answered %ld to CONNECT: expected 200",
                         transfer->url, refused);
    return error_set(error, result_errno(transfer, code), "%s: %s", transfer->url,
                     transfer->message[0] ? transfer->message : curl_easy_strerror(code));
}

/* Until it is done, or `cancel_fd` can be read. */
static int run_multi(struct line *line, int cancel_fd, CURLcode *ret)
{
    for (;;) {
        const int longest = 30000; /* ms; libcurl's own timers end the wait before */
        struct curl_waitfd cancel = {.fd = cancel_fd, .events = CURL_WAIT_POLLIN};
        CURLMsg *message;
        int running, left;

        if (curl_multi_perform(line->multi, &running) != CURLM_OK)
            return -EIO;
        while ((message = curl_multi_info_read(line->multi, &left)))
            if (message->msg == CURLMSG_DONE) {
                *ret = message->data.result;
                return 0;
            }
        if (curl_multi_poll(line->multi, &cancel, cancel_fd >= 0 ? 1 : 0, longest, NULL) !=
            CURLM_OK)
            return -EIO;
        if (cancel_fd >= 0 && cancel.revents)
            return -ECANCELED;
    }
}

int transfer_run(struct transfer *transfer, int cancel_fd, struct error *error)
{
    struct line *line = transfer->line;
    CURLcode code = CURLE_OK;
    int r;

    transfer->error = error;
    transfer->failed = 0;
    transfer->message[0] = '\0';
    if (curl_multi_add_handle(line->multi, line->easy) != CURLM_OK)
        return error_set(error, -EIO, "%s: libcurl does not take the request", transfer->url);
    r = run_multi(line, cancel_fd, &code);
    if (r == 0)
        r = result(transfer, code, error);
    else if (r == -ECANCELED)
        error_set(error, r, "%s: given up, as asked", transfer->url);
    else
        error_set(error, r, "%s: libcurl failed", transfer->url);
    (void)curl_multi_remove_handle(line->multi, line->easy);
    return r;
}
