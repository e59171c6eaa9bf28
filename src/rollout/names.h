/* Texts as small numbers: each distinct text gets the next number, in order of appearance, so that
 * the same events give the same numbers everywhere. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct names {
    char **text;
    uint32_t count, cap;
    uint32_t *slots; /* open addressing: number + 1, 0 for empty */
    uint32_t slot_count;
};

uint32_t names_add(struct names *names, const char *text, size_t len);
uint32_t names_find(const struct names *names, const char *text, size_t len); /* or UINT32_MAX */
void names_free(struct names *names);
