/* Text for people. */
#pragma once

#include "base/buf.h"

/* With the characters that mean something in HTML escaped. */
void html_add(struct buf *page, const char *text);
/* "8.5 M", "12 k", "31.5". */
void number_text(double value, char *ret, size_t size);
