/* Replies to bad requests: RFC 9457 application/problem+json with `type`
 * ("https://maeslant.org/problems/<code>"), `title`, `status`, `detail` (what was wrong, with the
 * value) and `remedy` (what to do). Must never echo a secret. */
#pragma once

#include "http/server.h"

void http_problem(struct http_exchange *exchange, unsigned status, const char *code,
                  const char *title, const char *remedy, const char *detail_format, ...)
    __attribute__((format(printf, 6, 7)));
/* The same as text, owned by the caller. */
char *problem_text(unsigned status, const char *code, const char *title, const char *remedy,
                   const char *detail);
