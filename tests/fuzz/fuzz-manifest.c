#include "fuzz.h"

#include "base/buf.h"
#include "release/manifest.h"

#include <errno.h>
#include <string.h>

/* What is accepted can be used without further doubt; what is refused has a sentence and leaves
 * nothing to free. What an engineer's tool accepts, a device reads as well. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum manifest_for modes[] = {MANIFEST_SOURCE, MANIFEST_BUILT, MANIFEST_DEVICE};
    const char *text = (const char *)data;
    int results[ARRAY_SIZE(modes)];

    for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
        struct manifest manifest;
        struct error error = ERROR_INIT;

        results[i] = manifest_parse(text, size, modes[i], &manifest, &error);
        if (results[i] < 0) {
            must(error.text[0] != '\0' && manifest.product == NULL);
            continue;
        }
        must(strlen(manifest.release) == 64 && manifest.sequence > 0);
        must(manifest.activate[0] != NULL && manifest.probe_count > 0);
        must(manifest.has_payload == (modes[i] != MANIFEST_SOURCE));
        for (size_t j = 0; j < manifest.requires_count; j++)
            must(constraint_check(manifest.requires[j].value) == 0);
        (void)contract_check(&manifest, manifest.provides, manifest.provides_count, &error);
        for (char **part = manifest.activate; *part; part++) {
            _cleanup_free_ char *out = NULL;
            int r = substitute(*part, manifest.provides, manifest.provides_count, &out, &error);

            must(r == 0 || r == -ENOENT);
        }
        manifest_free(&manifest);
    }
    must(results[1] < 0 || results[2] == 0 || results[2] == -EPROTONOSUPPORT);
    return 0;
}
