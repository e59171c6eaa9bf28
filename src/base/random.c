#include "base/random.h"

#include "base/encode.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void random_bytes(void *ret, size_t len)
{
    uint8_t *out = ret;

    while (len > 0) {
        ssize_t got = getrandom(out, len, 0);

        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort();
        out += got;
        len -= (size_t)got;
    }
}

double random_unit(void)
{
    uint64_t bits;

    random_bytes(&bits, sizeof(bits));
    return (double)(bits >> 11) * 0x1p-53;
}

void random_hex(char *ret, size_t len)
{
    /* The raw bytes lie in the upper half, which the hex overwrites only after reading them. */
    uint8_t *raw = (uint8_t *)ret + len;

    random_bytes(raw, len);
    hex_encode(raw, len, ret);
}
