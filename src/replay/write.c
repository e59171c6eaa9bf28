#include "replay/write.h"

#include "base/json.h"
#include "base/text.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void add_number(struct buf *buf, double value)
{
    char text[32];

    if (!isfinite(value)) {
        buf_add_str(buf, "null");
        return;
    }
    double_to_text(value == 0 ? 0 : value, text); /* no negative zero */
    buf_add_str(buf, text);
}

void write_head(struct buf *buf, double t, const char *kind, const char *name)
{
    buf_add_str(buf, "{\"t\":");
    add_number(buf, t);
    write_text(buf, kind, name);
}

void write_text(struct buf *buf, const char *name, const char *value)
{
    if (!value)
        return;
    buf_addf(buf, ",\"%s\":", name);
    json_write_string(buf, value, strlen(value));
}

void write_number(struct buf *buf, const char *name, double value)
{
    buf_addf(buf, ",\"%s\":", name);
    add_number(buf, value);
}

void write_count(struct buf *buf, const char *name, uint64_t value)
{
    buf_addf(buf, ",\"%s\":%" PRIu64, name, value);
}

char *write_end(struct buf *buf)
{
    buf_add(buf, "}", 1);
    return buf_take(buf);
}
