/* What the other text modules stand on: UTF-8, showing foreign bytes, and numbers that read and
 * print alike in every locale. Must never allocate and never look at the process's locale. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Bytes of the UTF-8 sequence that starts at `text` (1–4), or 0 when there is none within `len`:
 * overlong forms, surrogates and code points past U+10FFFF are none. */
size_t utf8_sequence(const char *text, size_t len);

/* Copies `text` for people: control bytes and bytes that are not UTF-8 become \xNN. What does not
 * fit into `size` (at least 4) ends in "…". Returns the length written. */
size_t text_escape(char *ret_text, size_t size, const char *text, size_t len);

/* Length of the JSON number (RFC 8259 §6) at the start of `text`, 0 when there is none;
 * `ret_integer` (may be NULL) says whether it has neither fraction nor exponent. */
size_t number_length(const char *text, bool *ret_integer);

/* strtod, and "%g" with as few of 15–17 digits as read back the same; both with '.'. */
double text_to_double(const char *text, char **ret_end);
void double_to_text(double value, char ret_text[static 32]);
