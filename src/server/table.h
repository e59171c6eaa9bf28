/* Hash table of things whose first member is their name (a char array or a char pointer is told at
 * init). Must never own what it holds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct table {
    void **slots;
    size_t count, cap;
    bool by_pointer; /* the item starts with a `char *`, not with the characters */
};

void *table_get(const struct table *table, const char *name);
void table_put(struct table *table, void *item); /* its name must not be there yet */
void table_remove(struct table *table, const char *name);
void table_free(struct table *table);
