#include "release/manifest.h"

#include "base/buf.h"
#include "base/encode.h"
#include "trust/envelope.h"

#include <errno.h>
#include <string.h>

#define LABEL "maeslant release signature v1 "
#define LABEL_LEN (sizeof(LABEL) - 1)
#define ID_LEN (KEY_ID_SIZE - 1)
#define SIGNATURE_BASE64 88
#define FILE_LEN (LABEL_LEN + ID_LEN + 1 + SIGNATURE_BASE64 + 1)

char *manifest_sign(const struct secret_key *key, const void *manifest, size_t len)
{
    _cleanup_free_ char *base64 = NULL;
    uint8_t signature[SIGNATURE_SIZE];
    char id[KEY_ID_SIZE];

    key_sign(key, CONTEXT_RELEASE, manifest, len, signature);
    base64 = base64_encode(signature, sizeof(signature));
    key_id(&key->public, id);
    return xasprintf(LABEL "%s\n%s\n", id, base64);
}

static int parse(const char *text, size_t len, char ret_id[static KEY_ID_SIZE],
                 uint8_t ret_signature[static SIGNATURE_SIZE])
{
    uint8_t id[ID_LEN / 2];
    size_t got;

    if (len == FILE_LEN && text[len - 1] == '\n')
        len--;
    if (len != FILE_LEN - 1 || memcmp(text, LABEL, LABEL_LEN) != 0)
        return -EINVAL;
    memcpy(ret_id, text + LABEL_LEN, ID_LEN);
    ret_id[ID_LEN] = '\0';
    text += LABEL_LEN + ID_LEN;
    if (hex_decode(ret_id, id, sizeof(id)) < 0 || *text != '\n')
        return -EINVAL;
    if (base64_decode(text + 1, SIGNATURE_BASE64, ret_signature, SIGNATURE_SIZE, &got) < 0 ||
        got != SIGNATURE_SIZE)
        return -EINVAL;
    return 0;
}

int manifest_verify(const struct public_key *keys, size_t key_count, const void *manifest,
                    size_t len, const char *signature, size_t signature_len, struct error *error)
{
    uint8_t bytes[SIGNATURE_SIZE];
    char id[KEY_ID_SIZE];

    if (parse(signature, signature_len, id, bytes) < 0)
        return error_set(error, -EINVAL,
                         "\"%.*s\" is no release signature; expected two lines, \"" LABEL
                         "<key id>\" and the base64 of %d bytes, as release sign writes them",
                         (int)(signature_len < 60 ? signature_len : 60), signature, SIGNATURE_SIZE);
    for (size_t i = 0; i < key_count; i++) {
        char known[KEY_ID_SIZE];

        key_id(&keys[i], known);
        if (strcmp(known, id) != 0)
            continue;
        if (key_verify(&keys[i], CONTEXT_RELEASE, manifest, len, bytes))
            return 0;
        return error_set(error, -EBADMSG,
                         "the signature by key %s does not fit the manifest: one of the two was "
                         "changed after signing; sign it again or fetch it anew",
                         id);
    }
    return error_set(error, -EBADMSG,
                     "the manifest is signed by key %s, which is none of the %zu trusted release "
                     "keys; sign with a trusted key, or pin this one if it is the vendor's",
                     id, key_count);
}
