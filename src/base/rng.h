/* Counter-based random numbers, by Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011). A number is a pure function of (seed, stream, index). It
 * is therefore the same on every device, thread and rank, and a checkpoint saves only the seed and
 * the step. */
#ifndef DEQ_BASE_RNG_H
#define DEQ_BASE_RNG_H

#include <stdint.h>

/* How functions that draw numbers are declared. cuda/ defines it before it includes this file, so
 * that the same code gives the same numbers on a device. */
#ifndef RNG_FN
#define RNG_FN static inline
#endif

struct rng_key {
    uint64_t seed;   /* of the run */
    uint64_t stream; /* what the numbers are for, from rng_stream */
};

/* What the program draws numbers for. */
enum rng_purpose {
    RNG_INIT = 1,
    RNG_DROPOUT,
    RNG_SAMPLE,
    RNG_PENALTY,
    RNG_LIMIT,
    RNG_COUNT,
    RNG_START
};

/* A stream id from a purpose, a step and a sub-index. Distinct triples give distinct streams while
 * purpose < 2^16, step < 2^32 and sub < 2^16. */
static inline uint64_t rng_stream(uint64_t purpose, uint64_t step, uint64_t sub)
{
    return purpose << 48 | (step & 0xffffffffu) << 16 | (sub & 0xffffu);
}

/* Computes block number `block`, which is four 32-bit words. */
RNG_FN void rng_block(struct rng_key key, uint64_t block, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)block, c1 = (uint32_t)(block >> 32);
    uint32_t c2 = (uint32_t)key.stream, c3 = (uint32_t)(key.stream >> 32);
    uint32_t k0 = (uint32_t)key.seed, k1 = (uint32_t)(key.seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Word `index` of the stream. */
RNG_FN uint32_t rng_word(struct rng_key key, uint64_t index)
{
    uint32_t w[4];
    rng_block(key, index / 4, w);
    return w[index % 4];
}

/* Uniform in (0, 1), made of 24 random bits and a half, which is exact in float32. */
RNG_FN float rng_unit(uint32_t word)
{
    return ((float)(word >> 8) + 0.5f) * (1.0f / 16777216.0f);
}

/* Uniform in [0, 1) with 53 bits, from words 2 * index and 2 * index + 1. */
double rng_uniform(struct rng_key key, uint64_t index);

/* Standard normal number `index` of the stream, by Box and Muller in double precision. */
double rng_normal(struct rng_key key, uint64_t index);

#endif
