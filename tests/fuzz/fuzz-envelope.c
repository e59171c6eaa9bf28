#include "fuzz.h"

#include "base/buf.h"
#include "release/manifest.h"
#include "trust/envelope.h"

#include <errno.h>
#include <string.h>

/* Nothing that was not signed is ever handed out; every reader of signed text takes any bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    _cleanup_free_ char *header = xstrndup(text, size);
    uint8_t signature[SIGNATURE_SIZE];
    char device[65];
    struct public_key key;
    static struct secret_key secret;
    static bool made;
    struct error error = ERROR_INIT;
    json_t *value = NULL;
    int r;

    if (!made)
        key_generate(&secret);
    made = true;
    r = envelope_open(&secret.public, CONTEXT_PLAN, text, size, &value, &error);
    must((r == -EINVAL || r == -EBADMSG) && value == NULL && error.text[0] != '\0');
    r = manifest_verify(&secret.public, 1, "", 0, text, size, &error);
    must(r == -EINVAL || r == -EBADMSG);
    if (device_signature_parse(header, device, signature, &error) == 0)
        must(!device_signature_verify(&secret.public, "begin", text, size, signature));
    if (key_public_parse(text, size, &key, &error) == 0) {
        _cleanup_free_ char *line = key_public_text(&key);

        must(strncmp(line, text, strlen(line)) == 0);
    }
    return 0;
}
