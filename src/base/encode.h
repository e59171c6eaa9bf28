/* Text forms of bytes: lower-case hex and base64 (RFC 4648 §4, with padding), strict both ways,
 * and SHA-256 (FIPS 180-4). Must never accept two texts for the same bytes. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SHA256_SIZE 32
#define SHA256_HEX_SIZE 65 /* with the NUL */

void hex_encode(const uint8_t *data, size_t len, char *ret_text /* 2 * len + 1 bytes */);
/* Exactly 2 * len lower-case hex digits, else -EINVAL. */
int hex_decode(const char *text, uint8_t *ret_data, size_t len);
char *base64_encode(const void *data, size_t len); /* owned by the caller */
/* Decodes into at most `cap` bytes; -EINVAL when the text is not canonical base64, -E2BIG when
 * longer. */
int base64_decode(const char *text, size_t text_len, uint8_t *ret_data, size_t cap,
                  size_t *ret_len);

void sha256(const void *data, size_t len, uint8_t ret_digest[static SHA256_SIZE]);
void sha256_hex(const void *data, size_t len, char ret_text[static SHA256_HEX_SIZE]);
/* Hashes what `fd` holds from its start, at most `limit` bytes (-EFBIG beyond). */
int sha256_fd(int fd, uint64_t limit, uint8_t ret_digest[static SHA256_SIZE], uint64_t *ret_size);
/* True for 64 lower-case hex digits: how releases, devices and artifacts are named. */
_Bool is_digest(const char *text);
