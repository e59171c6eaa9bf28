/* The YARA rules of a content folder, compiled by libyara. Rules may not include other files.
 * Must never keep half a set: one file that does not compile refuses the whole. */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stddef.h>

struct YR_RULES;

struct rules {
    struct YR_RULES *compiled;
    size_t count;
};

/* libyara's own state: once a process, before anything else here. */
int rules_init(struct error *error);
/* Compiles each *.yar of the folder, in the order of their names; none at all is an error. */
int rules_load(const char *folder, struct rules *ret, struct error *error);
/* Adds the names of the rules that match, separated by commas, to `ret`; returns how many, or a
 * negative errno. */
int rules_scan(const struct rules *rules, const void *data, size_t len, struct buf *ret,
               struct error *error);
void rules_free(struct rules *rules);
#define _cleanup_rules_ __attribute__((cleanup(rules_free)))
