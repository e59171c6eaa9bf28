/* One exchange through libcurl, for the files of the client. */
#pragma once

#include "http/client.h"

#include <curl/curl.h>
#include <openssl/ssl.h>
#include <stdatomic.h>

struct line { /* an easy handle and the connections it keeps alive */
    struct line *next;
    CURL *easy;
    CURLM *multi;
};

struct transfer {
    struct line *line;
    const char *url;
    struct http_answer *answer;
    struct buf *headers; /* header lines, or NULL */
    size_t limit;        /* of answer->body */
    size_t header_bytes;
    int failed;          /* negative errno of a callback */
    struct error *error; /* of that failure */
    /* Takes bodies of 200 and 206 instead of answer->body, when not NULL. */
    int (*sink)(struct transfer *transfer, const char *data, size_t len);
    void *user;
    uint64_t range_from; /* of Content-Range, UINT64_MAX when there was none */
    char message[CURL_ERROR_SIZE];
};

void transfer_global(void); /* curl_global_init, once */
int line_new(struct line **ret, struct error *error);
void line_free(struct line *line);
/* Options that hold for every request: no redirects, no environment, no signals, HTTP/1.1.
 * `lines`: extra headers, kept by the caller until the transfer is done. */
int transfer_prepare(struct transfer *transfer, const char *const *headers,
                     struct curl_slist **ret_lines, struct error *error);
/* Runs it. Fills transfer->answer. */
int transfer_run(struct transfer *transfer, int cancel_fd, struct error *error);

/* client-tls.c */
struct trust {
    X509_STORE *store;
    _Atomic int64_t min_unix_time;
};
int trust_load(struct trust *trust, const char *ca_path, const char *extra_ca_path,
               struct error *error);
void trust_free(struct trust *trust);
void trust_apply(struct trust *trust, CURL *easy);

/* client.c */
/* A line and the URL of `path`; to be given back with client_release. */
int client_acquire(struct http_client *client, const char *path, struct line **ret_line,
                   char **ret_url, struct error *error);
/* The client's options, after transfer_prepare. */
void client_configure(struct http_client *client, struct line *line);
void client_release(struct http_client *client, struct line *line);
double client_timeout(const struct http_client *client);
bool url_host_is_loopback(const char *url);
