/* Signed JSON of the server: {"signed":"<the exact JSON text>","key":"<key id>","signature":
 * "<base64>"}. What is signed is a string, so nothing has to be made canonical. Must never hand out
 * a value whose signature was not checked. */
#pragma once

#include "base/json.h"
#include "trust/key.h"

#define CONTEXT_RELEASE "maeslant release v1\n"
#define CONTEXT_PERMIT "maeslant permit v1\n"
#define CONTEXT_HALTS "maeslant halts v1\n"
#define CONTEXT_CERTIFICATE "maeslant certificate v1\n"
#define CONTEXT_BUNDLE "maeslant bundle v1\n"
#define CONTEXT_PLAN "maeslant plan v1\n"
#define CONTEXT_ANSWER "maeslant answer v1\n"
/* Device bodies: "maeslant enroll v1\n", "maeslant begin v1\n", "maeslant report v1\n",
 * "maeslant status v1\n" (design/protocol.md). */

/* Text of the envelope over `value`, owned by the caller. */
char *envelope_seal(const struct secret_key *key, const char *context, const json_t *value);
/* Checks the signature by `key` and returns the signed value (json_decref). -EBADMSG when the
 * signature or key is wrong, -EINVAL when the text is no envelope. */
int envelope_open(const struct public_key *key, const char *context, const char *text, size_t len,
                  json_t **ret, struct error *error);
/* The same for an envelope that lies inside a larger object. */
int envelope_open_json(const struct public_key *key, const char *context, const json_t *envelope,
                       json_t **ret, struct error *error);

/* Header value "<device id> <base64 signature>" over "maeslant <call> v1\n" ‖ body. */
char *device_signature(const struct secret_key *key, const char *call, const void *body,
                       size_t len);
/* Splits the header value; no check of the signature. */
int device_signature_parse(const char *header, char ret_device[static 65],
                           uint8_t ret_signature[static SIGNATURE_SIZE], struct error *error);
bool device_signature_verify(const struct public_key *key, const char *call, const void *body,
                             size_t len, const uint8_t signature[static SIGNATURE_SIZE]);
