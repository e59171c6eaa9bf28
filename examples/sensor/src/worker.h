/* The sensor itself: a loop that scans, answers on its socket and keeps its content. It runs as a
 * process of its own and is expected to die of bad content.
 * Must never swap content that it could not load whole. */
#pragma once

#include "base/error.h"

struct worker_options {
    const char *content; /* the slot to begin with */
    const char *watch;   /* the folder whose files are scanned */
    const char *run;     /* where socket and log go; exists */
    unsigned engine;
};

enum { WORKER_CYCLE_MS = 200 };

/* Runs until it is told to stop (0). A negative errno means that it could not begin. `ready` is
 * called once the content is loaded and the socket listens, before the first event is evaluated.
 * SIGTERM and SIGINT are to be blocked. */
int worker_run(const struct worker_options *options, void (*ready)(const char *digest, void *user),
               void *user, struct error *error);
