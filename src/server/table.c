#include "server/table.h"

#include "base/buf.h"

#include <stdint.h>
#include <string.h>

static const char *name_of(const struct table *table, const void *item)
{
    return table->by_pointer ? *(char *const *)item : (const char *)item;
}

static size_t hash(const char *name)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */

    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 1099511628211u;
    return (size_t)(h ^ h >> 29);
}

static size_t slot_of(const struct table *table, const char *name)
{
    size_t i = hash(name) & (table->cap - 1);

    while (table->slots[i] && strcmp(name_of(table, table->slots[i]), name) != 0)
        i = (i + 1) & (table->cap - 1);
    return i;
}

void *table_get(const struct table *table, const char *name)
{
    return table->cap ? table->slots[slot_of(table, name)] : NULL;
}

void table_put(struct table *table, void *item)
{
    if (2 * (table->count + 1) > table->cap) {
        struct table larger = {.cap = table->cap ? 2 * table->cap : 64,
                               .by_pointer = table->by_pointer};

        larger.slots = xcalloc(larger.cap, sizeof *larger.slots);
        for (size_t i = 0; i < table->cap; i++)
            if (table->slots[i])
                larger.slots[slot_of(&larger, name_of(table, table->slots[i]))] = table->slots[i];
        free(table->slots);
        table->slots = larger.slots;
        table->cap = larger.cap;
    }
    table->slots[slot_of(table, name_of(table, item))] = item;
    table->count++;
}

void table_remove(struct table *table, const char *name)
{
    size_t hole, i;

    if (!table->cap)
        return;
    hole = slot_of(table, name);
    if (!table->slots[hole])
        return;
    table->slots[hole] = NULL;
    table->count--;
    /* What was pushed past the hole moves back, so that it is still found. */
    for (i = (hole + 1) & (table->cap - 1); table->slots[i]; i = (i + 1) & (table->cap - 1)) {
        void *item = table->slots[i];

        table->slots[i] = NULL;
        table->slots[slot_of(table, name_of(table, item))] = item;
    }
}

void table_free(struct table *table)
{
    free(table->slots);
    table->slots = NULL;
    table->count = table->cap = 0;
}
