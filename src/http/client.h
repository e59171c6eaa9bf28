/* HTTP client of agent and command line on libcurl: TLS 1.3 with a pinned CA, no redirects, bounded
 * answers, proxies. Must never fall back to plain HTTP off loopback, nor to the system's CAs unless
 * told so. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_client;

struct http_client_options {
    const char *base_url;      /* "https://host:port" ("http://" on loopback only) */
    const char *ca_path;       /* PEM; NULL only with http:// */
    const char *extra_ca_path; /* more CAs (a proxy's), or NULL */
    const char *proxy;         /* "http://proxy:3128" or NULL; the environment is not asked */
    const char *proxy_user;    /* "name:password" or NULL */
    double connect_timeout;    /* seconds, 10 */
    double timeout;            /* seconds for a whole exchange, 30 */
    int64_t min_unix_time;     /* certificates are checked at max(wall clock, this): rule 3 */
    const char *user_agent;
};
int http_client_new(const struct http_client_options *options, struct http_client **ret,
                    struct error *error);
void http_client_free(struct http_client *client);
/* Time goes on: a later lower bound for the check of certificates. All calls but new and free may
 * come from several threads at once; each then has a connection of its own. */
void http_client_set_min_time(struct http_client *client, int64_t min_unix_time);

struct http_answer {
    unsigned status;
    struct buf body;
    char content_type[80];
    char etag[80];      /* without quotes, "" when none */
    double retry_after; /* seconds, -1 when none */
    int64_t date;       /* Unix seconds of its Date header, 0 when there was none */
};
void http_answer_free(struct http_answer *answer);

/* `headers`: NULL-terminated "Name: value" lines or NULL. `limit`: bytes of body that are accepted.
 * `timeout` ≤ 0: the client's. `cancel_fd` ≥ 0: readable means give up (-ECANCELED). Any HTTP
 * status is a success of the call. -ECONNREFUSED, -ETIMEDOUT, -EHOSTUNREACH, -EPROTO (TLS), -EFBIG,
 * -EIO. */
int http_get(struct http_client *client, const char *path, const char *const *headers, size_t limit,
             double timeout, int cancel_fd, struct http_answer *ret, struct error *error);
int http_post(struct http_client *client, const char *path, const char *const *headers,
              const void *body, size_t len, size_t limit, double timeout, int cancel_fd,
              struct http_answer *ret, struct error *error);
/* As http_post; for uploads in parts. */
int http_put(struct http_client *client, const char *path, const char *const *headers,
             const void *body, size_t len, size_t limit, double timeout, int cancel_fd,
             struct http_answer *ret, struct error *error);
/* Downloads into `path`, going on where an earlier attempt left off (Range), until it has `size`
 * bytes with SHA-256 `sha256`; -EBADMSG (and the file removed) when the digest differs, -EFBIG when
 * the server sends more. `bytes_per_second` 0: no limit. */
int http_download(struct http_client *client, const char *url_path, const char *path, uint64_t size,
                  const char *sha256, uint64_t bytes_per_second, int cancel_fd,
                  struct error *error);
/* For probes: any loopback (or allowed) URL, no client needed. The caller decides which URLs are
 * allowed. No redirects, no proxies. https on loopback is not verified (such products sign their
 * own certificates), elsewhere it is against the system's CAs. `ret_headers` (may be NULL): the
 * reply's header lines, owned by the caller. */
int http_fetch(const char *method, const char *url, const char *const *headers, const char *body,
               size_t limit, double timeout, struct http_answer *ret, char *(*ret_headers),
               struct error *error);
/* The same; `cancel_fd` ≥ 0: readable means give up (-ECANCELED). */
int http_fetch_until(const char *method, const char *url, const char *const *headers,
                     const char *body, size_t limit, double timeout, int cancel_fd,
                     struct http_answer *ret, char **ret_headers, struct error *error);
/* Text of a problem+json answer for people: "403 …: detail. remedy", owned by the caller. */
char *http_answer_problem(const struct http_answer *answer);
