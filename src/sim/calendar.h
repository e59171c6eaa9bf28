/* What is to come, by time: a calendar of short intervals with a heap for the one that is due and
 * one for what lies beyond the calendar, so that an event costs about the same whether a hundred or
 * ten million wait. Ties are settled by kind and number: the order never depends on history. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct calendar_event {
    double t;
    uint32_t number;
    uint32_t kind;
};

struct calendar_heap {
    struct calendar_event *events;
    size_t count, cap;
};

#define CALENDAR_RING 4096

struct calendar_block;
struct calendar {
    double width; /* of an interval, seconds */
    uint64_t current;
    struct calendar_block *ring[CALENDAR_RING], *spare;
    size_t ring_count;
    struct calendar_heap near, far;
};

void calendar_init(struct calendar *calendar, double width);
void calendar_free(struct calendar *calendar);
void calendar_add(struct calendar *calendar, double t, uint32_t kind, uint32_t number);
/* The next event without taking it; NULL when nothing is to come. Valid until the next call. */
const struct calendar_event *calendar_peek(struct calendar *calendar);
struct calendar_event calendar_take(struct calendar *calendar); /* after a peek that was not NULL */
