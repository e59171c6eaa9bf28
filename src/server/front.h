/* The front: parses the network, checks signatures and shapes, and hands requests to the engine.
 * Must never hold a signing key or touch the database. */
#pragma once

#include "base/error.h"
#include "http/server.h"
#include "server/engine.h"

struct front;

struct front_options {
    struct engine *engine;
    const char *artifacts;    /* folder */
    const char *admin_token;  /* text */
    const char *viewer_token; /* text */
    uint64_t min_free;        /* uploads leave so many bytes free */
    bool tls;                 /* session cookies are marked Secure */
};

int front_new(const struct front_options *options, struct front **ret, struct error *error);
/* The http_handler, with the front as `user`. */
void front_handle(void *user, struct http_exchange *exchange);
/* Lets no request in any more and ends the page's streams: the engine may go then. front_free
 * only after http_server_stop. */
void front_stop(struct front *front);
void front_free(struct front *front);
