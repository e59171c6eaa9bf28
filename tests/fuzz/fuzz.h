/* What libFuzzer calls; a broken property ends in abort(). */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void must(int property)
{
    if (!property)
        abort();
}
