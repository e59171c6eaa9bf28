#include "agent/check-internal.h"

#include "base/buf.h"
#include "base/parse.h"
#include "http/client.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define ANSWER_MAX ((size_t)1024 * 1024)

/* Our reading of a URL has to be libcurl's, or a probe could ask a host that was not checked: so
 * only the plainest form passes. */
static int check_url(const char *url, char *const *hosts, struct error *error)
{
    _cleanup_free_ char *host = NULL;
    const char *start = url, *end, *port;
    size_t len;

    for (const char *p = url; *p; p++)
        if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f || *p == '\\')
            return error_set(error, -EINVAL,
                             "\"%.128s\" holds blanks, backslashes or bytes outside ASCII: write "
                             "them as %%XX",
                             url);
    if (strncmp(url, "http://", 7) == 0)
        start += 7;
    else if (strncmp(url, "https://", 8) == 0)
        start += 8;
    else
        return error_set(error, -EINVAL,
                         "\"%.128s\" is no URL that can be probed: expected http:// or https://",
                         url);
    end = start + strcspn(start, "/?#");
    if (memchr(start, '@', (size_t)(end - start)))
        return error_set(error, -EPERM,
                         "\"%.128s\": names and passwords in URLs are not allowed: use headers",
                         url);
    if (*start == '[') {
        len = strcspn(++start, "]/?#");
        port = start[len] == ']' ? start + len + 1 : end;
        if (port > end || start[len] != ']')
            return error_set(error, -EINVAL, "\"%.128s\": expected a ] after the address", url);
    } else {
        len = strcspn(start, ":/?#");
        port = start + len;
    }
    if (port < end) {
        _cleanup_free_ char *digits = xstrndup(port + 1, (size_t)(end - port - 1));
        uint64_t number;

        if (*port != ':' || parse_u64(digits, 1, 65535, &number, NULL) < 0)
            return error_set(error, -EINVAL, "\"%.128s\": expected a port from 1 to 65535", url);
    }
    host = xstrndup(start, len);
    return check_host(host, hosts, error);
}

static void free_headers(char ***list)
{
    for (char **p = *list; p && *p; p++)
        free(*p);
    free(*list);
}

static int fetch(const struct check *check, const struct check_vars *vars, size_t limit,
                 int cancel_fd, struct http_answer *answer, char **ret_headers, struct error *error)
{
    __attribute__((cleanup(free_headers))) char **headers =
        xcalloc(check->header_count + 1, sizeof(char *));
    _cleanup_free_ char *url = NULL;
    _cleanup_free_ char *body = NULL;
    _cleanup_free_ char *method = NULL;
    int r = check_fill(check->url, vars, &url, error);

    if (r == 0)
        r = check_url(url, vars->hosts, error);
    if (r == 0)
        r = check_fill(check->method ? check->method : "GET", vars, &method, error);
    if (r == 0 && check->body)
        r = check_fill(check->body, vars, &body, error);
    for (size_t i = 0; r == 0 && i < check->header_count; i++) {
        _cleanup_free_ char *value = NULL;

        r = check_fill(check->headers[i].value, vars, &value, error);
        if (r == 0)
            headers[i] = xasprintf("%s: %s", check->headers[i].name, value);
    }
    if (r < 0)
        return r;
    return http_fetch_until(method, url, (const char *const *)headers, body, limit, check->timeout,
                            cancel_fd, answer, ret_headers, error);
}

/* Says whether "name: value" is among the lines of `headers`. */
static bool has_header(const char *headers, const char *name, const char *value)
{
    size_t name_len = strlen(name), value_len = strlen(value);

    for (const char *p = headers; p && *p;) {
        size_t len = strcspn(p, "\r\n");
        const char *end = p + len;

        if (len > name_len && strncasecmp(p, name, name_len) == 0 && p[name_len] == ':') {
            const char *found = p + name_len + 1;

            found += strspn(found, " \t");
            while (end > found && strchr(" \t", end[-1]))
                end--;
            if (found <= end && value_len == (size_t)(end - found) &&
                memcmp(found, value, value_len) == 0)
                return true;
        }
        p += len;
        p += strspn(p, "\r\n");
    }
    return false;
}

static int judge(const struct check *check, const struct check_vars *vars,
                 const struct http_answer *answer, const char *headers, struct error *error)
{
    _cleanup_free_ char *wanted = NULL;
    _cleanup_free_ char *body = NULL;
    int r = 0;

    if ((int)answer->status != check->expect_status)
        return error_set(error, -EIO, "status %u: expected %d", answer->status,
                         check->expect_status);
    if (check->expect_header.name) {
        r = check_fill(check->expect_header.value, vars, &wanted, error);
        if (r == 0 && !has_header(headers, check->expect_header.name, wanted))
            r = error_set(error, -EIO, "no header \"%s: %s\"", check->expect_header.name, wanted);
    }
    if (r == 0 && check->expect_body) {
        r = check_fill(check->expect_body, vars, &body, error);
        if (r == 0 && *body &&
            (answer->body.len == 0 ||
             !memmem(answer->body.data, answer->body.len, body, strlen(body))))
            r = error_set(error, -EIO, "the body does not hold \"%.64s\"", body);
    }
    return r;
}

int check_http(const struct check *check, const struct check_vars *vars, int cancel_fd,
               struct error *error)
{
    _cleanup_free_ char *headers = NULL;
    struct http_answer answer = {0};
    int r = fetch(check, vars, ANSWER_MAX, cancel_fd, &answer, &headers, error);

    if (r == 0)
        r = judge(check, vars, &answer, headers, error);
    http_answer_free(&answer);
    return r;
}

int check_http_body(const struct check *check, const struct check_vars *vars, size_t limit,
                    int cancel_fd, struct buf *ret, struct error *error)
{
    struct http_answer answer = {0};
    int r = fetch(check, vars, limit, cancel_fd, &answer, NULL, error);

    if (r == 0 && answer.status != 200)
        r = error_set(error, -EIO, "status %u: expected 200", answer.status);
    if (r == 0 && answer.body.len > 0)
        buf_add(ret, answer.body.data, answer.body.len);
    http_answer_free(&answer);
    return r;
}
