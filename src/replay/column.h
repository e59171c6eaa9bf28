/* Where in a line of JSON the value stands that a sentence is about. */
#pragma once

#include <stddef.h>

/* Column, in characters from 1, of the value in `text` (valid JSON) that the sentence's path leads
 * to: `policy.stages[1].share is 2: …` or `policy: "x" is not known here`. As far as the path
 * leads, else the first character of the value. */
size_t line_column(const char *text, size_t len, const char *sentence);
