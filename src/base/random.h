/* Randomness from the kernel. Must never be seeded. */
#pragma once

#include <stddef.h>
#include <stdint.h>

void random_bytes(void *ret, size_t len);
double random_unit(void); /* uniform in [0, 1) */
/* `len` random bytes as hex into 2 * len + 1 bytes. */
void random_hex(char *ret, size_t len);
