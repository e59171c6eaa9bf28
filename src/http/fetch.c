#include "http/transfer.h"

#include <errno.h>
#include <string.h>

#define SYSTEM_CAS "/etc/ssl/certs/ca-certificates.crt"

static void set_method(CURL *easy, const char *method, const char *body)
{
    if (body) {
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
        curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
    }
    if (strcmp(method, "HEAD") == 0)
        curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
}

int http_fetch_until(const char *method, const char *url, const char *const *headers,
                     const char *body, size_t limit, double timeout, int cancel_fd,
                     struct http_answer *ret, char **ret_headers, struct error *error)
{
    _cleanup_buf_ struct buf header_text = BUF_INIT;
    struct transfer transfer = {
        .url = url, .answer = ret, .limit = limit, .headers = ret_headers ? &header_text : NULL};
    struct curl_slist *lines = NULL;
    bool verify;
    int r;

    *ret = (struct http_answer){.retry_after = -1};
    if (!*method || strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != strlen(method))
        return error_set(error, -EINVAL, "the method is \"%s\": expected one such as GET", method);
    r = line_new(&transfer.line, error);
    if (r < 0)
        return r;
    r = transfer_prepare(&transfer, headers, &lines, error);
    if (r == 0) {
        CURL *easy = transfer.line->easy;

        verify = !url_host_is_loopback(url);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, verify ? 1L : 0L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, verify ? 2L : 0L);
        curl_easy_setopt(easy, CURLOPT_CAINFO, SYSTEM_CAS);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "maeslant-probe/" MAESLANT_VERSION);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)((timeout > 0 ? timeout : 30) * 1000));
        set_method(easy, method, body);
        r = transfer_run(&transfer, cancel_fd, error);
    }
    curl_slist_free_all(lines);
    line_free(transfer.line);
    if (r < 0)
        http_answer_free(ret);
    else if (ret_headers)
        *ret_headers = buf_take(&header_text);
    return r;
}

int http_fetch(const char *method, const char *url, const char *const *headers, const char *body,
               size_t limit, double timeout, struct http_answer *ret, char **ret_headers,
               struct error *error)
{
    return http_fetch_until(method, url, headers, body, limit, timeout, -1, ret, ret_headers,
                            error);
}
