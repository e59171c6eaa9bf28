/* The clocks of design/endpoint.md rule 3: wall time decides nothing but windows. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <time.h>

double clock_now(clockid_t clock); /* seconds */
int64_t clock_ms(clockid_t clock); /* milliseconds */
void clock_sleep(double seconds);  /* CLOCK_MONOTONIC, goes on after EINTR */
/* RFC 3339, UTC, milliseconds: "2026-11-25T02:00:58.123Z" (25 bytes with the NUL). */
void clock_format(int64_t unix_ms, char ret_text[static 25]);
/* The kernel's boot id (36 bytes and a NUL), or the text of $MAESLANT_BOOT_ID in tests. */
int boot_id(char ret_id[static 37]);
