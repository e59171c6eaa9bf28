/* server.yaml: how the control plane listens and what it keeps free. */
#pragma once

#include "base/error.h"
#include "http/server.h"

struct serve_config {
    char *address;
    uint16_t port;
    char *user; /* or NULL */
    uint64_t min_free;
    struct http_limits limits;
};
/* Errors name the file, line and member. Free with serve_config_free. */
int serve_config_load(const char *path, struct serve_config *ret, struct error *error);
void serve_config_free(struct serve_config *config);
/* "127.0.0.1:8443", "[::1]:0". */
int serve_listen_parse(const char *text, char **ret_address, uint16_t *ret_port,
                       struct error *error);
