#include "fuzz.h"

#include "base/buf.h"
#include "base/json.h"

#include <string.h>

/* What was read is written as text that reads back as the same value and the same text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_json_ json_t *value = NULL, *again = NULL;
    _cleanup_free_ char *text = NULL, *second = NULL;
    struct error error = ERROR_INIT;

    if (json_parse((const char *)data, size, &value, &error) < 0) {
        must(error.text[0] != '\0' && value == NULL);
        return 0;
    }
    text = json_text(value);
    must(json_parse(text, strlen(text), &again, &error) == 0);
    must(json_equal(value, again));
    second = json_text(again);
    must(strcmp(text, second) == 0);
    return 0;
}
