/* Strict readers of the small texts that people write: integers, durations, shares, sizes, names.
 * Each quotes the value at fault and says what was expected. Must never accept trailing bytes. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

/* Decimal, no sign, no leading zeros but "0", within [min, max]. */
int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct error *error);
int parse_double(const char *text, double min, double max, double *ret, struct error *error);
/* "500ms", "10s", "15m", "1h", "7d", also joined ("1h30m") and with a decimal fraction ("1.5s");
 * seconds in `ret`, within [0, 10 years]. A bare number is refused, but "0" is zero. */
int parse_duration(const char *text, double *ret_seconds, struct error *error);
/* "0.1%" or "0.001": a share in [0, 1]. */
int parse_share(const char *text, double *ret, struct error *error);
/* "64KiB", "10MiB", "1GiB", or plain bytes. */
int parse_size(const char *text, uint64_t *ret, struct error *error);
/* Names of products, channels, organisations, rings, probes, stages, attributes: 1–128 bytes of
 * [a-z A-Z 0-9 . _ + -], not starting with '.' or '-'. */
bool is_name(const char *text);
/* Valid UTF-8 without control bytes but \t and \n. */
bool is_text(const char *text, size_t len);
/* Seconds as people read them: "12s", "3m20s", "2h5m", "850ms". */
void format_duration(double seconds, char *ret_text, size_t size);
