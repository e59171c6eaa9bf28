/* `maeslant serve`: puts front, engine and HTTP server together, drops root, and stops cleanly on
 * SIGTERM. Must never listen in plain HTTP off loopback. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct serve_options {
    const char *directory; /* made by `maeslant init` */
    const char *listen;    /* "ADDRESS:PORT" or NULL: server.yaml's */
    const char *user;      /* to become when started as root; NULL: server.yaml's */
    const char *port_file; /* the port is written here once the server answers, or NULL */
    bool plain;            /* plain HTTP, on loopback only */
    bool no_gate;
    bool allow_root;
};
int serve_run(const struct serve_options *options, struct error *error);

/* The names in a control plane's folder. */
#define SERVE_ADDRESS "address" /* the URL, while the server runs */
#define SERVE_CONFIG "server.yaml"
#define SERVE_ADMIN_TOKEN "admin.token"
#define SERVE_VIEWER_TOKEN "viewer.token"
#define SERVE_ARTIFACTS "artifacts"
#define SERVE_SERVER_KEY "keys/server.key"
#define SERVE_SERVER_PUBLIC "keys/server.pub"
#define SERVE_ENROLMENT_KEY "keys/enrolment.key"
#define SERVE_ENROLMENT_PUBLIC "keys/enrolment.pub"
#define SERVE_RELEASE_PUBLIC "keys/release.pub"
#define SERVE_CA "tls/ca.pem"
#define SERVE_TLS_CERTIFICATE "tls/tls.pem"
#define SERVE_TLS_KEY "tls/tls.key"
