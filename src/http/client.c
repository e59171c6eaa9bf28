#include "http/client.h"

#include "http/transfer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

struct http_client {
    char *base_url; /* without a slash at its end */
    bool secure;
    char *proxy, *proxy_user, *user_agent;
    double connect_timeout, timeout;
    struct trust trust;
    pthread_mutex_t lock;
    struct line *idle; /* guarded by lock */
};

static bool host_is_loopback(const char *host)
{
    unsigned char address[16];

    if (strcasecmp(host, "localhost") == 0) /* libcurl takes it for loopback without asking */
        return true;
    if (inet_pton(AF_INET, host, address) == 1)
        return address[0] == 127;
    return strcmp(host, "[::1]") == 0;
}

bool url_host_is_loopback(const char *url)
{
    CURLU *parsed = curl_url();
    char *host = NULL;
    bool loopback;

    loopback = curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
               curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
               host_is_loopback(host);
    curl_free(host);
    curl_url_cleanup(parsed);
    return loopback;
}

static int check_base(const char *url, bool *ret_secure, struct error *error)
{
    CURLU *parsed = curl_url();
    char *scheme = NULL, *path = NULL, *extra = NULL;
    int r = 0;

    if (curl_url_set(parsed, CURLUPART_URL, url, 0) != CURLUE_OK ||
        curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
        curl_url_get(parsed, CURLUPART_PATH, &path, 0) != CURLUE_OK)
        r = error_set(error, -EINVAL, "the server's URL is \"%s\": expected https://host:port",
                      url);
    else if (strcmp(scheme, "https") != 0 &&
             (strcmp(scheme, "http") != 0 || !url_host_is_loopback(url)))
        r = error_set(error, -EPERM,
                      "the server's URL is \"%s\": expected https://host:port (plain http:// only "
                      "for 127.0.0.1, ::1 and localhost)",
                      url);
    else if (curl_url_get(parsed, CURLUPART_USER, &extra, 0) == CURLUE_OK ||
             curl_url_get(parsed, CURLUPART_QUERY, &extra, 0) == CURLUE_OK ||
             curl_url_get(parsed, CURLUPART_FRAGMENT, &extra, 0) == CURLUE_OK ||
             strcmp(path, "/") != 0)
        /* Not shown: it may hold a password. */
        r = error_set(error, -EINVAL,
                      "the server's URL has more than scheme, host and port: expected "
                      "https://host:port");
    *ret_secure = r == 0 && scheme && strcmp(scheme, "https") == 0;
    curl_free(scheme);
    curl_free(path);
    curl_free(extra);
    curl_url_cleanup(parsed);
    return r;
}

static char *copy_or_null(const char *text)
{
    return text && *text ? xstrdup(text) : NULL;
}

int http_client_new(const struct http_client_options *options, struct http_client **ret,
                    struct error *error)
{
    struct http_client *client;
    bool secure = false;
    int r;

    transfer_global();
    r = check_base(options->base_url, &secure, error);
    if (r < 0)
        return r;
    if (secure && !options->ca_path)
        return error_set(error, -EINVAL,
                         "%s needs the CA that signed the server's certificate (ca.pem, as "
                         "maeslant init makes it)",
                         options->base_url);
    client = xcalloc(1, sizeof(*client));
    pthread_mutex_init(&client->lock, NULL);
    client->secure = secure;
    client->base_url = xstrdup(options->base_url);
    if (client->base_url[strlen(client->base_url) - 1] == '/')
        client->base_url[strlen(client->base_url) - 1] = '\0';
    client->proxy = url_host_is_loopback(options->base_url) ? NULL : copy_or_null(options->proxy);
    client->proxy_user = copy_or_null(options->proxy_user);
    client->user_agent =
        xstrdup(options->user_agent ? options->user_agent : "maeslant/" MAESLANT_VERSION);
    client->connect_timeout = options->connect_timeout > 0 ? options->connect_timeout : 10;
    client->timeout = options->timeout > 0 ? options->timeout : 30;
    atomic_init(&client->trust.min_unix_time, options->min_unix_time);
    if (secure)
        r = trust_load(&client->trust, options->ca_path, options->extra_ca_path, error);
    if (r < 0) {
        http_client_free(client);
        return r;
    }
    *ret = client;
    return 0;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    while (client->idle) {
        struct line *line = client->idle;

        client->idle = line->next;
        line_free(line);
    }
    trust_free(&client->trust);
    pthread_mutex_destroy(&client->lock);
    free(client->base_url);
    free(client->proxy);
    if (client->proxy_user)
        explicit_bzero(client->proxy_user, strlen(client->proxy_user));
    free(client->proxy_user);
    free(client->user_agent);
    free(client);
}

void http_client_set_min_time(struct http_client *client, int64_t min_unix_time)
{
    atomic_store(&client->trust.min_unix_time, min_unix_time);
}

double client_timeout(const struct http_client *client)
{
    return client->timeout;
}

int client_acquire(struct http_client *client, const char *path, struct line **ret_line,
                   char **ret_url, struct error *error)
{
    struct line *line;
    int r;

    if (path[0] != '/' || strpbrk(path, " \r\n\t#"))
        return error_set(error, -EINVAL,
                         "the path \"%s\" cannot be asked for: expected a percent-encoded one that "
                         "starts with '/'",
                         path);
    pthread_mutex_lock(&client->lock);
    line = client->idle;
    if (line)
        client->idle = line->next;
    pthread_mutex_unlock(&client->lock);
    if (!line) {
        r = line_new(&line, error);
        if (r < 0)
            return r;
    }
    *ret_url = xasprintf("%s%s", client->base_url, path);
    *ret_line = line;
    return 0;
}

void client_configure(struct http_client *client, struct line *line)
{
    CURL *easy = line->easy;

    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, client->secure ? "https" : "http");
    curl_easy_setopt(easy, CURLOPT_USERAGENT, client->user_agent);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(client->connect_timeout * 1000));
    if (client->secure)
        trust_apply(&client->trust, easy);
    if (client->proxy) {
        curl_easy_setopt(easy, CURLOPT_PROXY, client->proxy);
        curl_easy_setopt(easy, CURLOPT_PROXYAUTH, (long)CURLAUTH_ANY);
        if (client->proxy_user)
            curl_easy_setopt(easy, CURLOPT_PROXYUSERPWD, client->proxy_user);
    }
}

void client_release(struct http_client *client, struct line *line)
{
    curl_easy_reset(line->easy); /* the connections stay open */
    pthread_mutex_lock(&client->lock);
    line->next = client->idle;
    client->idle = line;
    pthread_mutex_unlock(&client->lock);
}

/* `body` NULL: GET; `method` NULL: what the body makes of it. */
static int exchange(struct http_client *client, const char *method, const char *path,
                    const char *const *headers, const void *body, size_t len, size_t limit,
                    double timeout, int cancel_fd, struct http_answer *ret, struct error *error)
{
    struct transfer transfer = {.answer = ret, .limit = limit};
    struct curl_slist *lines = NULL;
    _cleanup_free_ char *url = NULL;
    CURL *easy;
    int r;

    *ret = (struct http_answer){.retry_after = -1};
    r = client_acquire(client, path, &transfer.line, &url, error);
    if (r != 0)
        return r;
    transfer.url = url;
    easy = transfer.line->easy;
    r = transfer_prepare(&transfer, headers, &lines, error);
    if (r == 0) {
        client_configure(client, transfer.line);
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS,
                         (long)((timeout > 0 ? timeout : client->timeout) * 1000));
        if (body) {
            curl_easy_setopt(easy, CURLOPT_POST, 1L);
            curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
            curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body);
        }
        if (method)
            curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
        r = transfer_run(&transfer, cancel_fd, error);
    }
    curl_slist_free_all(lines);
    client_release(client, transfer.line);
    if (r < 0)
        http_answer_free(ret);
    return r;
}

int http_get(struct http_client *client, const char *path, const char *const *headers, size_t limit,
             double timeout, int cancel_fd, struct http_answer *ret, struct error *error)
{
    return exchange(client, NULL, path, headers, NULL, 0, limit, timeout, cancel_fd, ret, error);
}

int http_post(struct http_client *client, const char *path, const char *const *headers,
              const void *body, size_t len, size_t limit, double timeout, int cancel_fd,
              struct http_answer *ret, struct error *error)
{
    return exchange(client, NULL, path, headers, body ? body : "", len, limit, timeout, cancel_fd,
                    ret, error);
}

int http_put(struct http_client *client, const char *path, const char *const *headers,
             const void *body, size_t len, size_t limit, double timeout, int cancel_fd,
             struct http_answer *ret, struct error *error)
{
    return exchange(client, "PUT", path, headers, body ? body : "", len, limit, timeout, cancel_fd,
                    ret, error);
}
