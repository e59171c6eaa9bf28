/* Copies installed content into a slot: regular files and folders only, as in a payload. Must never
 * follow a link out of the content. */
#pragma once

#include "base/error.h"

/* `target` must not exist. On error what was copied stays, for the caller to remove. */
int copy_tree(const char *source, const char *target, struct error *error);
