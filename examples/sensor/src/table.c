#include "table.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static const char magic[8] = "MSLTTMPL";
enum { FORMAT_VERSION = 1, HEADER_SIZE = 20, WILDCARD = 0, MATCH = 1 };

struct reader {
    const uint8_t *data;
    size_t len, at;
};

static int read_number(struct reader *reader, size_t bytes, uint32_t *ret)
{
    uint32_t value = 0;

    if (reader->len - reader->at < bytes)
        return -ENODATA;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint32_t)reader->data[reader->at + i] << (8 * i);
    reader->at += bytes;
    *ret = value;
    return 0;
}

static int read_header(struct reader *reader, uint32_t *ret_count, struct error *error)
{
    uint32_t version, reserved, size;

    if (reader->len < HEADER_SIZE)
        return error_set(error, -ENODATA,
                         "the template table has %zu bytes; its header alone has %d", reader->len,
                         HEADER_SIZE);
    if (memcmp(reader->data, magic, sizeof(magic)) != 0)
        return error_set(error, -EINVAL,
                         "this is no template table: it does not start with %.8s; build one with "
                         "maeslant-sensor make-table",
                         magic);
    reader->at = sizeof(magic);
    read_number(reader, 2, &version);
    read_number(reader, 2, &reserved);
    read_number(reader, 4, ret_count);
    read_number(reader, 4, &size);
    if (version != FORMAT_VERSION || reserved != 0)
        return error_set(error, -EPROTO,
                         "the template table is of version %u with flags %u; this sensor reads "
                         "version %d without flags",
                         version, reserved, FORMAT_VERSION);
    if (*ret_count > TABLE_MAX_TEMPLATES)
        return error_set(error, -E2BIG, "the template table declares %u templates; %d is the most",
                         *ret_count, TABLE_MAX_TEMPLATES);
    if (size != reader->len)
        return error_set(error, -EBADMSG,
                         "the template table says that it has %u bytes, but has %zu: it was %s",
                         size, reader->len, size > reader->len ? "cut off" : "added to");
    return 0;
}

static int read_criterion(struct reader *reader, struct criterion *ret)
{
    const char *value;
    uint32_t kind, len;

    if (read_number(reader, 1, &kind) < 0)
        return -ENODATA;
    if (kind == WILDCARD)
        return 0;
    if (kind != MATCH)
        return -EINVAL;
    if (read_number(reader, 2, &len) < 0)
        return -ENODATA;
    if (len > TABLE_MAX_VALUE)
        return -E2BIG;
    if (reader->len - reader->at < len)
        return -ENODATA;
    value = (const char *)reader->data + reader->at;
    if (memchr(value, '\0', len))
        return -EINVAL;
    ret->value = xstrndup(value, len);
    reader->at += len;
    return 0;
}

static int read_template(struct reader *reader, struct template *ret, struct error *error)
{
    uint32_t field_count;

    if (read_number(reader, 4, &ret->id) < 0 || read_number(reader, 2, &field_count) < 0)
        return error_set(error, -ENODATA, "the table ends at byte %zu, where a template should be",
                         reader->len);
    if (field_count == 0 || field_count > TABLE_MAX_FIELDS)
        return error_set(error, -E2BIG, "template %u declares %u fields; 1 to %d are possible",
                         ret->id, field_count, TABLE_MAX_FIELDS);
    ret->fields = xcalloc(field_count, sizeof(*ret->fields));
    ret->field_count = field_count;
    for (uint32_t i = 0; i < field_count; i++) {
        size_t at = reader->at;
        int r = read_criterion(reader, &ret->fields[i]);

        if (r == -ENODATA)
            return error_set(error, r, "the table ends within field %u of template %u", i + 1,
                             ret->id);
        if (r == -E2BIG)
            return error_set(error, r, "field %u of template %u has a value of more than %d bytes",
                             i + 1, ret->id, TABLE_MAX_VALUE);
        if (r < 0)
            return error_set(error, r,
                             "field %u of template %u (at byte %zu) is neither a wildcard (0) nor "
                             "a value (1) without NUL bytes",
                             i + 1, ret->id, at);
    }
    return 0;
}

int table_parse(const void *data, size_t len, struct table *ret, struct error *error)
{
    _cleanup_table_ struct table table = {0};
    struct reader reader = {.data = data, .len = len};
    uint32_t count = 0;
    int r = read_header(&reader, &count, error);

    if (r < 0)
        return r;
    table.templates = xcalloc(count ? count : 1, sizeof(*table.templates));
    while (table.count < count) {
        r = read_template(&reader, &table.templates[table.count++], error);
        if (r < 0)
            return r;
    }
    if (reader.at != len)
        return error_set(error, -EBADMSG, "%zu bytes follow the last of the table's %u templates",
                         len - reader.at, count);
    *ret = table;
    table = (struct table){0};
    return 0;
}

int table_read(const char *path, struct table *ret, struct error *error)
{
    _cleanup_buf_ struct buf bytes = BUF_INIT;
    int r = file_read(AT_FDCWD, path, TABLE_MAX_SIZE, &bytes, error);

    if (r < 0)
        return r;
    r = table_parse(bytes.data, bytes.len, ret, error);
    return r < 0 ? error_prefix(error, r, "%s", path) : 0;
}

void table_free(struct table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        for (unsigned f = 0; f < table->templates[i].field_count; f++)
            free(table->templates[i].fields[f].value);
        free(table->templates[i].fields);
    }
    free(table->templates);
    *table = (struct table){0};
}

static void add_number(struct buf *buf, size_t bytes, uint32_t value)
{
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)(value >> (8 * i));

        buf_add(buf, &byte, 1);
    }
}

static void add_criterion(struct buf *buf, const char *value)
{
    add_number(buf, 1, value ? MATCH : WILDCARD);
    if (!value)
        return;
    add_number(buf, 2, (uint32_t)strlen(value));
    buf_add_str(buf, value);
}

/* Field 1 is the kind of event, field 4 the file's extension (event.h). */
static void add_template(struct buf *buf, uint32_t id, unsigned fields, const char *extension,
                         const char *last_value)
{
    add_number(buf, 4, id);
    add_number(buf, 2, fields);
    for (unsigned i = 1; i <= fields; i++) {
        if (i == 1)
            add_criterion(buf, "file");
        else if (i == 4)
            add_criterion(buf, extension);
        else
            add_criterion(buf, i == fields ? last_value : NULL);
    }
}

void table_build(unsigned fields, const char *last_value, struct buf *ret)
{
    _cleanup_buf_ struct buf body = BUF_INIT;

    add_template(&body, 100, 20, "dropper", NULL);
    add_template(&body, 291, fields, "pipe", last_value);
    buf_add(ret, magic, sizeof(magic));
    add_number(ret, 2, FORMAT_VERSION);
    add_number(ret, 2, 0);
    add_number(ret, 4, 2);
    add_number(ret, 4, (uint32_t)(HEADER_SIZE + body.len));
    buf_add(ret, body.data, body.len);
}
