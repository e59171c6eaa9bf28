/* A mark in the folder's lock file that says that a store was made there, so that a store which is
 * gone is noticed. Must never let a control plane start without its memory: it would give permits
 * for what was halted. */
#pragma once

#include "base/error.h"

/* -EUCLEAN with the way out when the mark is there and the store at `path` is not, or is empty. */
int store_mark_check(int lock_fd, const char *path, struct error *error);
/* After the store was opened. On a disk without room there is no mark until the next start. */
void store_mark_set(int lock_fd);
