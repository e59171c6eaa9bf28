#include "sim/random.h"

#include <assert.h>
#include <string.h>

#define ROUNDS 4
#define LN2 0.69314718055994530942

double chance_exponential(uint64_t bits)
{
    /* -ln u for u in (0, 1]: u = 2^exponent · m with m in [1, 2), and ln m = 2 artanh((m-1)/(m+1)),
     * whose series is exact to 1e-15 after these terms. */
    double u = (double)((bits >> 11) + 1) * 0x1p-53;
    uint64_t raw;
    memcpy(&raw, &u, sizeof raw);
    int exponent = (int)(raw >> 52) - 1023;
    raw = (raw & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x3ff0000000000000);
    double m;
    memcpy(&m, &raw, sizeof m);
    double z = (m - 1) / (m + 1), square = z * z, sum = 0;
    for (int n = 29; n >= 1; n -= 2)
        sum = sum * square + 1.0 / n;
    double value = -(exponent * LN2 + 2 * z * sum);
    return value > 0 ? value : 0;
}

void chance_order_init(struct chance_order *ret, uint64_t key, uint32_t count)
{
    assert(count >= 1);
    unsigned bits = 2;
    while (bits < 32 && (UINT64_C(1) << bits) < count)
        bits++;
    *ret = (struct chance_order){
        .key = key, .count = count, .low_bits = bits / 2, .high_bits = bits - bits / 2};
}

uint32_t chance_order_at(const struct chance_order *order, uint32_t index)
{
    assert(index < order->count);
    uint32_t low_mask = (UINT32_C(1) << order->low_bits) - 1;
    uint32_t high_mask = (UINT32_C(1) << order->high_bits) - 1;
    uint64_t at = index;
    do {
        uint32_t low = (uint32_t)at & low_mask;
        uint32_t high = (uint32_t)(at >> order->low_bits) & high_mask;
        for (unsigned round = 0; round < ROUNDS; round += 2) {
            high ^= (uint32_t)chance_bits(order->key + round, low) & high_mask;
            low ^= (uint32_t)chance_bits(order->key + round + 1, high) & low_mask;
        }
        at = (uint64_t)high << order->low_bits | low;
    } while (at >= order->count);
    return (uint32_t)at;
}
