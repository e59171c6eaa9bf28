/* Bodies of the devices' POSTs, as the front reads them: strict JSON, then the call's shape. The
 * first byte chooses the call. */
#include "fuzz.h"

#include "base/json.h"
#include "server/shape.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct shape *const shapes[] = {&shape_enroll, &shape_begin, &shape_report,
                                                 &shape_status};
    _cleanup_json_ json_t *body = NULL;
    struct error error = ERROR_INIT;
    const char *code = NULL;
    if (size == 0)
        return 0;
    const struct shape *shape = shapes[data[0] % 4];
    if (json_parse((const char *)data + 1, size - 1, &body, &error) < 0) {
        must(error.text[0] != '\0');
        return 0;
    }
    if (shape_check(body, shape->call, shape->members, shape->count, &code, &error) < 0) {
        must(code && *code && error.text[0] != '\0');
        return 0;
    }
    must(json_is_object(body) && json_is_integer(json_object_get(body, "seq")));
    must(json_is_string(json_object_get(body, "agent")));
    return 0;
}
