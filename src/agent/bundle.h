/* The support bundle: texts from all over the agent, each without its secrets, in one tar.zst. Must
 * never hold a key, a token or a proxy's password, and never fail because one part cannot be had.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

#include <stdbool.h>

struct bundle_options {
    const char *root;
    const char *log; /* NULL: the system's journal, when the root is / */
    bool offline;
};
/* Adds the archive's bytes to `ret`. */
int bundle_make(const struct bundle_options *options, struct buf *ret, struct error *error);
