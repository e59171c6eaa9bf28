/* The sensor's Unix socket, <run>/sensor.sock, both ends. A connection carries one line with a
 * request, and one answer that starts with "ok" or "error", until its end.
 * The server's end must never wait for a client. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONTROL_MAX_CLIENTS 16
#define CONTROL_MAX_REQUEST 4200 /* a verb and a path */
#define CONTROL_MAX_ANSWER 65536

struct control_client {
    int fd;
    int64_t until_ms; /* CLOCK_MONOTONIC: then it is dropped */
    struct buf request;
};

struct control {
    int listen_fd;
    struct control_client clients[CONTROL_MAX_CLIENTS];
    size_t client_count;
};

/* Replaces a socket that an earlier process left; the caller holds the run folder's lock. */
int control_open(const char *run, struct control *ret, struct error *error);
void control_close(struct control *control);
/* Serves until `until_ms` (CLOCK_MONOTONIC) or until `signal_fd` can be read: then 1, else 0.
 * `answer` fills `ret` with the whole answer. */
int control_serve(struct control *control, int signal_fd, int64_t until_ms,
                  void (*answer)(const char *request, struct buf *ret, void *user), void *user);

/* The client's end. `ret` gets what follows "ok ". -ESRCH: no sensor runs there; -ETIMEDOUT: it
 * does not answer within `timeout_ms`; -EREMOTEIO: it answered with an error, now in `error`. */
int control_ask(const char *run, const char *request, int64_t timeout_ms, struct buf *ret,
                struct error *error);
