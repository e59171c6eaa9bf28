#include "base/encode.h"

#include "base/buf.h"

#include <errno.h>
#include <sodium.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* `data` may be the upper half of `ret_text`: digit 2i + 1 never passes byte i + len. */
void hex_encode(const uint8_t *data, size_t len, char *ret_text)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < len; i++) {
        uint8_t byte = data[i];

        ret_text[2 * i] = digits[byte >> 4];
        ret_text[2 * i + 1] = digits[byte & 15];
    }
    ret_text[2 * len] = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

int hex_decode(const char *text, uint8_t *ret_data, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);

        if (low < 0)
            return -EINVAL;
        ret_data[i] = (uint8_t)(high << 4 | low);
    }
    return text[2 * len] == '\0' ? 0 : -EINVAL;
}

char *base64_encode(const void *data, size_t len)
{
    size_t size = sodium_base64_ENCODED_LEN(len, sodium_base64_VARIANT_ORIGINAL);
    char *text = xmalloc(size);

    (void)sodium_bin2base64(text, size, data, len, sodium_base64_VARIANT_ORIGINAL);
    return text;
}

static bool is_base64(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];

        if (!(c >= 'A' && c <= 'Z') && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') &&
            c != '+' && c != '/')
            return false;
    }
    return true;
}

/* libsodium 1.0.18 alone would not do: it takes some bytes above 0x7f for letters. */
int base64_decode(const char *text, size_t text_len, uint8_t *ret_data, size_t cap, size_t *ret_len)
{
    size_t decoded;
    size_t padding = 0;

    if (text_len % 4 != 0)
        return -EINVAL;
    while (padding < 2 && padding < text_len && text[text_len - 1 - padding] == '=')
        padding++;
    if (!is_base64(text, text_len - padding))
        return -EINVAL;
    decoded = text_len / 4 * 3 - padding;
    if (decoded > cap)
        return -E2BIG;
    if (sodium_base642bin(ret_data, cap, text, text_len, NULL, ret_len, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        *ret_len != decoded)
        return -EINVAL;
    return 0;
}

void sha256(const void *data, size_t len, uint8_t ret_digest[static SHA256_SIZE])
{
    (void)crypto_hash_sha256(ret_digest, data, len);
}

void sha256_hex(const void *data, size_t len, char ret_text[static SHA256_HEX_SIZE])
{
    uint8_t digest[SHA256_SIZE];

    sha256(data, len, digest);
    hex_encode(digest, sizeof(digest), ret_text);
}

int sha256_fd(int fd, uint64_t limit, uint8_t ret_digest[static SHA256_SIZE], uint64_t *ret_size)
{
    enum { CHUNK = 64 * 1024 };
    _cleanup_free_ uint8_t *chunk = xmalloc(CHUNK);
    crypto_hash_sha256_state state;
    uint64_t size = 0;

    (void)crypto_hash_sha256_init(&state);
    for (;;) {
        ssize_t got = pread(fd, chunk, CHUNK, (off_t)size);

        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        if ((uint64_t)got > limit - size)
            return -EFBIG;
        size += (uint64_t)got;
        (void)crypto_hash_sha256_update(&state, chunk, (unsigned long long)got);
    }
    (void)crypto_hash_sha256_final(&state, ret_digest);
    if (ret_size)
        *ret_size = size;
    return 0;
}

_Bool is_digest(const char *text)
{
    for (size_t i = 0; i < 2 * SHA256_SIZE; i++)
        if (hex_digit(text[i]) < 0)
            return false;
    return text[2 * SHA256_SIZE] == '\0';
}
