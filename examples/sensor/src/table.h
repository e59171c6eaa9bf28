/* The binary template table (format: README.md beside this folder): what an event's fields must be
 * for a template to match. The parser trusts no length and no count of the bytes it is given; how
 * many fields an engine can supply is not its business, but the engine's.
 * Must never hand out a table that is only partly read. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

#define TABLE_MAX_SIZE ((size_t)1 << 20)
#define TABLE_MAX_TEMPLATES 4096
#define TABLE_MAX_FIELDS 64
#define TABLE_MAX_VALUE 256

struct criterion {
    char *value; /* NULL: wildcard */
};

struct template
{
    uint32_t id;
    unsigned field_count; /* as declared: 1 to TABLE_MAX_FIELDS, with one criterion each */
    struct criterion *fields;
};

struct table {
    struct template *templates;
    size_t count;
};

int table_parse(const void *data, size_t len, struct table *ret, struct error *error);
int table_read(const char *path, struct table *ret, struct error *error);
void table_free(struct table *table);
#define _cleanup_table_ __attribute__((cleanup(table_free)))

/* A table of two templates: 100 with 20 fields, and 291, which declares `fields` (5 to
 * TABLE_MAX_FIELDS) and whose last criterion is a value to match (`last_value`) or, when that is
 * NULL, a wildcard. Adds its bytes to `ret`. */
void table_build(unsigned fields, const char *last_value, struct buf *ret);
