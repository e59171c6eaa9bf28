/* What compares events with templates, in two versions. Version 1 carries the defect of 19 July
 * 2024 on purpose: it supplies 20 inputs and reads as many as the template declares. Version 2
 * counts. Must never be used for anything but showing what such content does to a fleet. */
#pragma once

#include "base/error.h"
#include "event.h"
#include "table.h"

#include <stdbool.h>
#include <stddef.h>

#define ENGINE_NEWEST 2

struct engine {
    unsigned version;
    const char **inputs; /* EVENT_FIELDS pointers, the last thing before an unreadable page */
    void *pool;
    size_t pool_size;
};

int engine_open(unsigned version, struct engine *ret, struct error *error);
void engine_close(struct engine *engine);
#define _cleanup_engine_ __attribute__((cleanup(engine_close)))

/* Whether the engine takes the table. Version 1 takes any; version 2 refuses (-ERANGE) one that
 * declares more fields than it supplies. */
int engine_check(const struct engine *engine, const struct table *table, struct error *error);
/* 1 when the event matches the template, 0 when not; -ERANGE from version 2 when the template
 * declares more fields than there are. Version 1 dies of SIGSEGV there, unless each criterion from
 * the 21st on is a wildcard. */
int engine_match(const struct engine *engine, const struct template *template,
                 const struct event *event);
