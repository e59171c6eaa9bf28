#include "fuzz.h"

#include "engine.h"
#include "event.h"
#include "table.h"

#include <string.h>

/* The second engine survives every table: it refuses it, or evaluates all of it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct event event;
    _cleanup_table_ struct table table = {0};
    _cleanup_engine_ struct engine engine = {0};
    struct error error = ERROR_INIT;
    char text[] = "file";

    if (table_parse(data, size, &table, &error) < 0) {
        must(error.text[0] != '\0' && table.templates == NULL);
        return 0;
    }
    must(engine_open(2, &engine, &error) == 0);
    for (unsigned i = 0; i < EVENT_FIELDS; i++)
        event.fields[i] = text;
    for (size_t i = 0; i < table.count; i++) {
        int r = engine_match(&engine, &table.templates[i], &event);

        must((r < 0) == (table.templates[i].field_count > EVENT_FIELDS));
    }
    return 0;
}
