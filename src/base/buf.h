/* Growing byte buffers and the cleanup helpers that everything uses.
 * A failed allocation ends the process (abort): half a decision is worse than none, and every
 * durable state here survives a crash. Must never hand out memory that it still owns. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

struct buf {
    char *data; /* always NUL-terminated once anything was added; NULL when empty */
    size_t len;
    size_t cap;
};

#define BUF_INIT                                                                                   \
    {                                                                                              \
        0                                                                                          \
    }

void buf_add(struct buf *buf, const void *data, size_t len);
void buf_add_str(struct buf *buf, const char *text);
void buf_addf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_reserve(struct buf *buf, size_t more);
void buf_clear(struct buf *buf); /* keeps the memory */
void buf_free(struct buf *buf);
/* The text, owned by the caller (never NULL); `buf` is empty afterwards. */
char *buf_take(struct buf *buf);

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t count, size_t size);
char *xstrdup(const char *text);
char *xstrndup(const char *text, size_t len);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *xmemdup(const void *data, size_t len);

static inline void cleanup_free(void *p)
{
    free(*(void **)p);
}
void cleanup_fd(int *fd);
#define _cleanup_free_ __attribute__((cleanup(cleanup_free)))
#define _cleanup_fd_ __attribute__((cleanup(cleanup_fd)))
#define _cleanup_buf_ __attribute__((cleanup(buf_free)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
