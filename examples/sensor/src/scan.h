/* One event through rules and templates. Must never write anything. */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "content.h"
#include "engine.h"
#include "event.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct findings {
    struct buf what; /* "rule A,B", "template 100,291" or both, joined by a space; empty: clean */
    size_t count;    /* of rules and templates that matched */
};

/* A regular file of at most 16 MiB; a larger one is -EFBIG. A link is not followed. */
int scan_file(const struct engine *engine, const struct content *content, uint64_t cycle,
              const char *path, struct findings *ret, struct error *error);
int scan_heartbeat(const struct engine *engine, const struct content *content, uint64_t cycle,
                   struct findings *ret, struct error *error);
void findings_free(struct findings *findings);
#define _cleanup_findings_ __attribute__((cleanup(findings_free)))
