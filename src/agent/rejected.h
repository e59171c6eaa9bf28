/* Digests that are not tried again by themselves (rule 10). Must never forget one. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Durable. `cause` is a reason code. A digest that is there already counts one more time. */
int rejected_add(const char *path, const char *release, const char *cause, int64_t now_ms,
                 struct error *error);
/* A power cut or `unconfirmed` may be tried once more after 24 h; nothing else ever. A file that
 * cannot be read rejects everything (the error is logged by the caller). */
bool rejected_has(const char *path, const char *release, int64_t now_ms, struct error *error);
