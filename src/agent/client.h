/* The device's calls (docs/protocol.md): signed bodies out, checked envelopes in. Must never act on
 * an answer whose signature is not the pinned server's. */
#pragma once

#include "agent/agent.h"

struct reply {
    unsigned status;
    json_t *value;      /* what the envelope held; NULL for problems and 204 */
    char code[64];      /* of a problem: "quarantined", … */
    char *problem;      /* for people, NULL when there is none */
    double retry_after; /* seconds, -1 when none */
    char *text;         /* the body */
    size_t len;
    char etag[80];
};
void reply_free(struct reply *reply);
#define _cleanup_reply_ __attribute__((cleanup(reply_free)))

int client_new(struct agent *agent, struct http_client **ret, struct error *error);
/* Adds protocol, agent, device, seq and sent_at to `body`, signs and sends it. 0 when the server
 * answered at all; `context` is the envelope's, NULL: the answer is kept as text. */
int client_post(struct agent *agent, struct http_client *http, const char *call, json_t *body,
                const char *context, double timeout, int cancel_fd, struct reply *ret,
                struct error *error);
int client_get(struct agent *agent, struct http_client *http, const char *path, const char *etag,
               const char *context, size_t limit, double timeout, int cancel_fd, struct reply *ret,
               struct error *error);
/* GET /v1/halts, accepted and obeyed. */
int client_halts(struct agent *agent, struct http_client *http, double timeout, int cancel_fd,
                 struct error *error);
/* The newest time in a signed answer, for TLS on a machine with a dead clock (rule 3): kept when it
 * has moved by an hour. */
void client_keep_time(struct agent *agent);
void client_load_time(struct agent *agent);
/* Enrols; keeps key, certificate and bundle. `token` and, optionally, a bundle known beforehand. */
int client_enroll(const struct paths *paths, const struct config *config, const char *token,
                  const char *bundle, struct error *error);
/* {name: value} of configuration and attributes_exec, owned by the caller. */
json_t *client_attributes(const struct config *config);
/* Runs a command that prints one JSON object of texts, and adds them to `ret` (an object). */
int json_of_command(char *const *command, json_t *ret, struct error *error);
