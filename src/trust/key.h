/* Ed25519 keys (RFC 8032, through libsodium) in files, and signatures with a context, so that a
 * signature made for one purpose is never one for another. Must never print a secret key. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_PUBLIC_SIZE 32
#define KEY_SECRET_SIZE 64
#define SIGNATURE_SIZE 64
#define KEY_ID_SIZE 17 /* 16 hex digits and a NUL */

struct public_key {
    uint8_t bytes[KEY_PUBLIC_SIZE];
};
struct secret_key {
    uint8_t bytes[KEY_SECRET_SIZE];
    struct public_key public;
};

void key_generate(struct secret_key *ret);
void key_wipe(struct secret_key *key);
/* First 16 hex digits of the SHA-256 of the public key; device ids are the whole of it. */
void key_id(const struct public_key *key, char ret[static KEY_ID_SIZE]);
void key_device_id(const struct public_key *key, char ret[static 65]);

/* Text forms, one line: "maeslant public key v1 <base64>" and "maeslant secret key v1 <base64 of
 * the 32-byte seed>". A secret key file must not be readable by others (else -EACCES). */
int key_public_parse(const char *text, size_t len, struct public_key *ret, struct error *error);
char *key_public_text(const struct public_key *key);
int key_public_load(const char *path, struct public_key *ret, struct error *error);
int key_secret_load(const char *path, struct secret_key *ret, struct error *error);
/* Writes `path` (0600, durable; -EEXIST when it is there) and, when not NULL, `public_path` (0644).
 */
int key_save(const struct secret_key *key, const char *path, const char *public_path,
             struct error *error);

/* Over context ‖ message; contexts end with "v1\n" (docs/protocol.md lists them). */
void key_sign(const struct secret_key *key, const char *context, const void *message, size_t len,
              uint8_t ret[static SIGNATURE_SIZE]);
bool key_verify(const struct public_key *key, const char *context, const void *message, size_t len,
                const uint8_t signature[static SIGNATURE_SIZE]);
