/* Uniform and normal numbers in double precision. */
#include "base/rng.h"

#include <math.h>

double rng_uniform(struct rng_key key, uint64_t index)
{
    uint32_t w[4];
    rng_block(key, index / 2, w);
    const uint32_t *pair = w + 2 * (index % 2);
    uint64_t bits = ((uint64_t)pair[0] << 32 | pair[1]) >> 11;
    return (double)bits * 0x1.0p-53;
}

double rng_normal(struct rng_key key, uint64_t index)
{
    const double two_pi = 6.283185307179586476925;
    uint32_t w[4];
    rng_block(key, index / 2, w);
    /* u is in (0, 1], so that its logarithm is finite. */
    double u = ((double)w[0] + 1.0) * 0x1.0p-32;
    double v = ((double)w[1] + (double)w[2] * 0x1.0p-32) * 0x1.0p-32;
    double r = sqrt(-2.0 * log(u));
    return index % 2 == 0 ? r * cos(two_pi * v) : r * sin(two_pi * v);
}
