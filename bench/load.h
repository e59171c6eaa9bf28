/* The load generator of script/bench: many HTTP/1.1 connections from one thread, plain or TLS 1.3,
 * kept or a new one for every request. Measures servers, so it must never be cleverer with one
 * server than with another: no pipelining, no TLS resumption, one request in flight a connection.
 */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct load_options {
    const char *address; /* "127.0.0.1" */
    uint16_t port;
    bool tls;
    bool fresh; /* every request on a connection of its own */
    unsigned connections;
    double seconds; /* no request starts later; 0: until `next` has no more */
    pid_t pid;      /* whose CPU time is counted, 0: nobody's */
    /* The next request's bytes (borrowed until its answer); false: no more. */
    bool (*next)(void *user, size_t *ret_index, const char **ret_bytes, size_t *ret_len);
    /* An answer; the body lives until it returns. */
    void (*answered)(void *user, size_t index, unsigned status, const char *body, size_t len);
    void *user;
};

struct load_result {
    uint64_t answers;
    double seconds;     /* from the first request to the last answer */
    double cpu_seconds; /* of `pid` meanwhile */
};

/* -EIO with the reason when a connection broke or an answer could not be read: nothing that was
 * measured then counts. Kept connections are open before the clock starts. */
int load_run(const struct load_options *options, struct load_result *ret, struct error *error);

/* User and system seconds of all of its threads; negative when there is no such process. */
double load_cpu_seconds(pid_t pid);
