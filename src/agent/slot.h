/* Slots: whole releases on the device, and the links `current` and `previous` that name two of them
 * (docs/manifest.md). A slot appears under its name only when all of it is on stable storage. Must
 * never point `current` at a slot that is not whole. */
#pragma once

#include "base/error.h"
#include "release/manifest.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How a slot was confirmed; kept beside it, so that a halt later can find the permit. */
struct slot_mark {
    char from[65];   /* what ran before; "" when nothing */
    char permit[33]; /* "" for adopted content */
    int64_t at;      /* wall ms, for people */
};

/* `dir` is the product's folder throughout. Makes it and slots/, and removes what a cut left. */
int slots_open(const char *dir, struct error *error);
char *slot_path(const char *dir, const char *release); /* owned by the caller */
/* Manifest of a slot; its name is checked against the manifest's digest. */
int slot_manifest(const char *dir, const char *release, struct manifest *ret, struct error *error);
/* Whole: manifest, digest and the payload's tree as they were staged. */
int slot_verify(const char *dir, const char *release, struct error *error);
bool slot_exists(const char *dir, const char *release);

/* Stages a verified release: unpacks `archive`, writes the rest, fsyncs all of it and renames it
 * into place. `signature` may be NULL for adopted content. */
int slot_stage(const char *dir, const struct manifest *manifest, const void *manifest_text,
               size_t manifest_len, const char *signature, const char *archive,
               struct error *error);
/* The same from a folder of installed content (rule 8). */
int slot_adopt(const char *dir, const struct manifest *manifest, const void *manifest_text,
               size_t manifest_len, const char *content, struct error *error);

/* Release that a link ("current", "previous") names, "" when there is none; -EBADMSG when the link
 * does not lead into slots/. */
int slot_link(const char *dir, const char *link, char ret[static 65], struct error *error);
/* `release` "" removes the link. */
int slot_set_link(const char *dir, const char *link, const char *release, struct error *error);

int slot_mark_write(const char *dir, const char *release, const struct slot_mark *mark,
                    struct error *error);
int slot_mark_read(const char *dir, const char *release, struct slot_mark *ret);
/* Removes every slot but those in the NULL-terminated list ("" entries are skipped). */
void slots_collect(const char *dir, const char *const *keep);
