/* An event as the sensor sees it: exactly EVENT_FIELDS texts, in the order that templates name them
 * by. Must never hold fewer: the engine takes their number for granted. */
#pragma once

#include "base/buf.h"

#include <stdint.h>
#include <sys/stat.h>

#define EVENT_FIELDS 20

struct event {
    char *fields[EVENT_FIELDS]; /* never NULL once made */
};

struct event_source {
    unsigned engine;
    uint64_t cycle;
};

/* `rules` is the list of rules that matched the file, separated by commas, "" for none. */
void event_of_file(const struct event_source *source, const char *path, const struct stat *st,
                   const char *rules, struct event *ret);
/* The event of a cycle in which nothing happened. */
void event_heartbeat(const struct event_source *source, struct event *ret);
void event_free(struct event *event);
#define _cleanup_event_ __attribute__((cleanup(event_free)))
