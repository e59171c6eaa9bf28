#include "rollout/names.h"

#include "base/buf.h"

#include <string.h>

/* FNV-1a. A crafted set of names only slows the look-up; names come from enrolled devices. */
static uint32_t hash_text(const char *text, size_t len)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    return hash;
}

static uint32_t *find_slot(const struct names *names, const char *text, size_t len)
{
    uint32_t at = hash_text(text, len) & (names->slot_count - 1);
    while (names->slots[at] != 0) {
        const char *there = names->text[names->slots[at] - 1];
        if (strncmp(there, text, len) == 0 && there[len] == '\0')
            break;
        at = (at + 1) & (names->slot_count - 1);
    }
    return &names->slots[at];
}

static void make_room(struct names *names)
{
    if (2 * (names->count + 1) <= names->slot_count)
        return;
    free(names->slots);
    names->slot_count = names->slot_count ? 2 * names->slot_count : 64;
    names->slots = xcalloc(names->slot_count, sizeof *names->slots);
    for (uint32_t i = 0; i < names->count; i++)
        *find_slot(names, names->text[i], strlen(names->text[i])) = i + 1;
}

uint32_t names_add(struct names *names, const char *text, size_t len)
{
    make_room(names);
    uint32_t *slot = find_slot(names, text, len);
    if (*slot == 0) {
        if (names->count == names->cap) {
            names->cap = names->cap ? 2 * names->cap : 32;
            names->text = xrealloc(names->text, names->cap, sizeof *names->text);
        }
        names->text[names->count] = xstrndup(text, len);
        *slot = ++names->count;
    }
    return *slot - 1;
}

uint32_t names_find(const struct names *names, const char *text, size_t len)
{
    return names->slot_count == 0 ? UINT32_MAX : *find_slot(names, text, len) - 1;
}

void names_free(struct names *names)
{
    for (uint32_t i = 0; i < names->count; i++)
        free(names->text[i]);
    free(names->text);
    free(names->slots);
    *names = (struct names){0};
}
