#include "trust/envelope.h"

#include "base/encode.h"

#include <errno.h>
#include <string.h>

#define SIGNATURE_BASE64 88 /* characters of 64 bytes in base64 */
#define DEVICE_ID_LEN 64
#define ENVELOPE_EXTRA 192 /* bytes around the signed text */
/* Nothing that is signed comes near it; it only keeps a length from meaning "no limit". */
#define SIGNED_MAX (64 * 1024 * 1024)

static const char *const envelope_members[] = {"signed", "key", "signature", NULL};

/* Written by hand, in json_text's order of keys: every answer to a device comes through here. */
char *envelope_seal(const struct secret_key *key, const char *context, const json_t *value)
{
    _cleanup_free_ char *text = json_text(value);
    const size_t len = strlen(text);
    _cleanup_free_ char *base64 = NULL;
    uint8_t signature[SIGNATURE_SIZE];
    char id[KEY_ID_SIZE];
    struct buf envelope = BUF_INIT;

    key_sign(key, context, text, len, signature);
    base64 = base64_encode(signature, sizeof(signature));
    key_id(&key->public, id);
    buf_reserve(&envelope, len + len / 4 + ENVELOPE_EXTRA);
    buf_addf(&envelope, "{\"key\":\"%s\",\"signature\":\"%s\",\"signed\":", id, base64);
    json_write_string(&envelope, text, len);
    buf_add(&envelope, "}", 1);
    return buf_take(&envelope);
}

/* "maeslant plan v1\n" without its newline, for sentences. */
static int context_name_len(const char *context)
{
    size_t len = strlen(context);

    return (int)(len > 0 && context[len - 1] == '\n' ? len - 1 : len);
}

int envelope_open_json(const struct public_key *key, const char *context, const json_t *envelope,
                       json_t **ret, struct error *error)
{
    const char *text, *id, *base64;
    uint8_t signature[SIGNATURE_SIZE];
    char expected[KEY_ID_SIZE];
    size_t got;
    int r;

    if (!json_is_object(envelope))
        return error_set(error, -EINVAL,
                         "this is no envelope; expected an object with signed, key and signature");
    if ((r = json_only(envelope, "envelope", envelope_members, error)) < 0 ||
        (r = json_need_string(envelope, "envelope", "signed", SIGNED_MAX, &text, error)) < 0 ||
        (r = json_need_string(envelope, "envelope", "key", KEY_ID_SIZE - 1, &id, error)) < 0 ||
        (r = json_need_string(envelope, "envelope", "signature", SIGNATURE_BASE64, &base64,
                              error)) < 0)
        return r;
    if (base64_decode(base64, strlen(base64), signature, sizeof(signature), &got) < 0 ||
        got != sizeof(signature))
        return error_set(error, -EINVAL,
                         "envelope.signature: \"%s\" is no signature; expected base64 of %d bytes",
                         base64, SIGNATURE_SIZE);
    key_id(key, expected);
    if (strcmp(id, expected) != 0)
        return error_set(error, -EBADMSG,
                         "signed by key %s, but key %s is trusted here; check that this is the "
                         "right server, or enrol again if its key was replaced",
                         id, expected);
    if (!key_verify(key, context, text, strlen(text), signature))
        return error_set(error, -EBADMSG,
                         "the signature by key %s over this \"%.*s\" is wrong: it was changed on "
                         "its way, or signed for another purpose",
                         id, context_name_len(context), context);
    r = json_parse(text, strlen(text), ret, error);
    return r < 0 ? error_prefix(error, r, "signed text") : 0;
}

int envelope_open(const struct public_key *key, const char *context, const char *text, size_t len,
                  json_t **ret, struct error *error)
{
    _cleanup_json_ json_t *envelope = NULL;
    int r;

    r = json_parse(text, len, &envelope, error);
    if (r < 0)
        return error_prefix(error, r, "envelope");
    return envelope_open_json(key, context, envelope, ret, error);
}

static char *call_context(const char *call)
{
    return xasprintf("maeslant %s v1\n", call);
}

char *device_signature(const struct secret_key *key, const char *call, const void *body, size_t len)
{
    _cleanup_free_ char *context = call_context(call), *base64 = NULL;
    uint8_t signature[SIGNATURE_SIZE];
    char device[65];

    key_sign(key, context, body, len, signature);
    base64 = base64_encode(signature, sizeof(signature));
    key_device_id(&key->public, device);
    return xasprintf("%s %s", device, base64);
}

int device_signature_parse(const char *header, char ret_device[static 65],
                           uint8_t ret_signature[static SIGNATURE_SIZE], struct error *error)
{
    char device[65];
    size_t got;

    if (strlen(header) != DEVICE_ID_LEN + 1 + SIGNATURE_BASE64 || header[DEVICE_ID_LEN] != ' ')
        goto refuse;
    memcpy(device, header, DEVICE_ID_LEN);
    device[DEVICE_ID_LEN] = '\0';
    if (!is_digest(device))
        goto refuse;
    if (base64_decode(header + DEVICE_ID_LEN + 1, SIGNATURE_BASE64, ret_signature, SIGNATURE_SIZE,
                      &got) < 0 ||
        got != SIGNATURE_SIZE)
        goto refuse;
    memcpy(ret_device, device, sizeof(device));
    return 0;
refuse:
    return error_set(error, -EINVAL,
                     "Maeslant-Signature: \"%.160s\" is no device's signature; expected the device "
                     "id (64 hex digits), a space and the base64 of %d bytes",
                     header, SIGNATURE_SIZE);
}

bool device_signature_verify(const struct public_key *key, const char *call, const void *body,
                             size_t len, const uint8_t signature[static SIGNATURE_SIZE])
{
    _cleanup_free_ char *context = call_context(call);

    return key_verify(key, context, body, len, signature);
}
