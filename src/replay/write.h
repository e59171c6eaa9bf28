/* How the lines of this folder are put together. */
#pragma once

#include "base/buf.h"

/* {"t":…,"kind":"name" */
void write_head(struct buf *buf, double t, const char *kind, const char *name);
/* ,"name":"value"; nothing for NULL. */
void write_text(struct buf *buf, const char *name, const char *value);
/* ,"name":value with as few digits as read back the same; null for what JSON has no number for. */
void write_number(struct buf *buf, const char *name, double value);
void write_count(struct buf *buf, const char *name, uint64_t value);
/* Ends the object; the text is the caller's. */
char *write_end(struct buf *buf);
