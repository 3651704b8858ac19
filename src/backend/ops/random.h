/* Random numbers by counter (base/rng.h), the same on every backend up to rounding. */
#ifndef DEQ_BACKEND_OPS_RANDOM_H
#define DEQ_BACKEND_OPS_RANDOM_H

#include "backend/tensor.h"
#include "base/rng.h"

/* dropout_mask Element i becomes 1 (U8) or 1/(1-p) (real) if rng_unit(rng_word(key, first + i)) is
 *              at least p, and 0 otherwise. `mask` may be a part of a larger mask, and `first` is
 *              then the number of its first element in that one.
 * fill_normal  Element i becomes std * rng_normal(key, i).
 * fill_uniform Element i becomes lo + (hi - lo) * rng_uniform(key, i). */
#define RANDOM_OPS(OP)                                                                         \
    OP(dropout_mask, (be, mask, p, key, first), const struct tensor *mask, double p,           \
       struct rng_key key, uint64_t first)                                                     \
    OP(fill_normal, (be, t, std, key), const struct tensor *t, double std, struct rng_key key) \
    OP(fill_uniform, (be, t, lo, hi, key), const struct tensor *t, double lo, double hi,       \
       struct rng_key key)

#endif
