#include "sim/calendar.h"

#include "base/buf.h"

#include <assert.h>
#include <stdlib.h>

#define BLOCK_EVENTS 62

struct calendar_block {
    struct calendar_block *next;
    uint32_t count;
    struct calendar_event events[BLOCK_EVENTS];
};

static bool earlier(const struct calendar_event *a, const struct calendar_event *b)
{
    if (a->t != b->t)
        return a->t < b->t;
    if (a->kind != b->kind)
        return a->kind < b->kind;
    return a->number < b->number;
}

static void heap_push(struct calendar_heap *heap, struct calendar_event event)
{
    if (heap->count == heap->cap) {
        heap->cap = heap->cap ? 2 * heap->cap : 64;
        heap->events = xrealloc(heap->events, heap->cap, sizeof *heap->events);
    }
    size_t at = heap->count++;
    for (; at > 0 && earlier(&event, &heap->events[(at - 1) / 2]); at = (at - 1) / 2)
        heap->events[at] = heap->events[(at - 1) / 2];
    heap->events[at] = event;
}

static struct calendar_event heap_pop(struct calendar_heap *heap)
{
    assert(heap->count > 0);
    struct calendar_event top = heap->events[0], last = heap->events[--heap->count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < heap->count; at = child) {
        if (child + 1 < heap->count && earlier(&heap->events[child + 1], &heap->events[child]))
            child++;
        if (!earlier(&heap->events[child], &last))
            break;
        heap->events[at] = heap->events[child];
    }
    if (heap->count > 0)
        heap->events[at] = last;
    return top;
}

void calendar_init(struct calendar *calendar, double width)
{
    assert(width > 0);
    *calendar = (struct calendar){.width = width};
}

static void free_blocks(struct calendar_block *block)
{
    while (block) {
        struct calendar_block *next = block->next;
        free(block);
        block = next;
    }
}

void calendar_free(struct calendar *calendar)
{
    for (size_t i = 0; i < CALENDAR_RING; i++)
        free_blocks(calendar->ring[i]);
    free_blocks(calendar->spare);
    free(calendar->near.events);
    free(calendar->far.events);
    *calendar = (struct calendar){0};
}

static void ring_add(struct calendar *calendar, uint64_t interval, struct calendar_event event)
{
    struct calendar_block **head = &calendar->ring[interval % CALENDAR_RING];
    if (!*head || (*head)->count == BLOCK_EVENTS) {
        struct calendar_block *block = calendar->spare;
        if (block)
            calendar->spare = block->next;
        else
            block = xmalloc(sizeof *block);
        block->next = *head;
        block->count = 0;
        *head = block;
    }
    (*head)->events[(*head)->count++] = event;
    calendar->ring_count++;
}

static uint64_t interval_of(const struct calendar *calendar, double t)
{
    return (uint64_t)(t / calendar->width);
}

static void put(struct calendar *calendar, struct calendar_event event)
{
    uint64_t interval = interval_of(calendar, event.t);
    if (interval <= calendar->current)
        heap_push(&calendar->near, event);
    else if (interval < calendar->current + CALENDAR_RING)
        ring_add(calendar, interval, event);
    else
        heap_push(&calendar->far, event);
}

void calendar_add(struct calendar *calendar, double t, uint32_t kind, uint32_t number)
{
    assert(t >= 0);
    put(calendar, (struct calendar_event){.t = t, .kind = kind, .number = number});
}

/* Makes the next interval the current one and its events the near ones. */
static void advance(struct calendar *calendar)
{
    if (calendar->ring_count > 0)
        calendar->current++;
    else
        calendar->current = interval_of(calendar, calendar->far.events[0].t);
    while (calendar->far.count > 0 &&
           interval_of(calendar, calendar->far.events[0].t) < calendar->current + CALENDAR_RING)
        put(calendar, heap_pop(&calendar->far));
    struct calendar_block **head = &calendar->ring[calendar->current % CALENDAR_RING];
    while (*head) {
        struct calendar_block *block = *head;
        for (uint32_t i = 0; i < block->count; i++)
            heap_push(&calendar->near, block->events[i]);
        calendar->ring_count -= block->count;
        *head = block->next;
        block->next = calendar->spare;
        calendar->spare = block;
    }
}

const struct calendar_event *calendar_peek(struct calendar *calendar)
{
    while (calendar->near.count == 0 && (calendar->ring_count > 0 || calendar->far.count > 0))
        advance(calendar);
    return calendar->near.count > 0 ? &calendar->near.events[0] : NULL;
}

struct calendar_event calendar_take(struct calendar *calendar)
{
    return heap_pop(&calendar->near);
}
