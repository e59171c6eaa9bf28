#include "fuzz.h"

#include "base/buf.h"
#include "base/json.h"
#include "base/yaml.h"

#include <string.h>

/* What was read is written as YAML that reads back as the same value; locating finds the root and
 * survives any path. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    const char *end = size > 0 ? memchr(text, '\n', size) : NULL;
    _cleanup_free_ char *path = end ? xstrndup(text, (size_t)(end - text)) : xstrdup("a.b[1]");
    _cleanup_json_ json_t *value = NULL, *again = NULL;
    _cleanup_free_ char *written = NULL;
    struct error error = ERROR_INIT;
    unsigned line, column;

    yaml_locate(text, size, path, &line, &column);
    must((line == 0) == (column == 0));
    if (yaml_parse(text, size, &value, &error) < 0) {
        must(error.text[0] != '\0' && value == NULL);
        return 0;
    }
    yaml_locate(text, size, "", &line, &column);
    must(line > 0);
    written = yaml_text(value);
    must(strlen(written) > 1024 * 1024 ||
         yaml_parse(written, strlen(written), &again, &error) == 0);
    must(!again || json_equal(value, again));
    return 0;
}
