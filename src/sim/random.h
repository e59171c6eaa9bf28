/* Chance for the simulator: a number is a function of (seed, stream, index), so that what happens
 * to a device does not depend on what was drawn for others, and all strategies meet the same fleet.
 * Must never use libm, whose last digits differ between machines. */
#pragma once

#include <stdint.h>

/* What a number is drawn for. */
enum chance_stream {
    CHANCE_ROLLOUT_SEED = 1,
    CHANCE_ORDER,
    CHANCE_POLL,
    CHANCE_HARM,
    CHANCE_NOISE,
    CHANCE_REPORT,
    CHANCE_OUTAGE,
    CHANCE_LIAR,
    CHANCE_ATTRIBUTE = 64, /* and the number of the attribute */
};

/* The finaliser of splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
 * generators", 2014): every input bit moves every output bit. */
static inline uint64_t chance_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline uint64_t chance_key(uint64_t seed, unsigned stream)
{
    return chance_mix(chance_mix(seed + UINT64_C(0x9e3779b97f4a7c15)) +
                      stream * UINT64_C(0xd1342543de82ef95));
}

static inline uint64_t chance_bits(uint64_t key, uint64_t index)
{
    return chance_mix(key + (index + 1) * UINT64_C(0x9e3779b97f4a7c15));
}

/* Uniform in [0, 1). */
static inline double chance_unit(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

/* Numbers one after the other. */
struct chance {
    uint64_t key, index;
};
static inline uint64_t chance_next(struct chance *chance)
{
    return chance_bits(chance->key, chance->index++);
}
static inline double chance_next_unit(struct chance *chance)
{
    return chance_unit(chance_next(chance));
}

/* Exponential with mean 1, from 64 bits. */
double chance_exponential(uint64_t bits);

/* A permutation of 0 … count-1 that needs no memory: a Feistel network that walks its cycle back
 * into the range (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002). */
struct chance_order {
    uint64_t key;
    uint32_t count;
    unsigned low_bits, high_bits;
};
void chance_order_init(struct chance_order *ret, uint64_t key, uint32_t count /* ≥ 1 */);
uint32_t chance_order_at(const struct chance_order *order, uint32_t index);
