/* Random numbers: element i of a tensor is number i of the stream. */
#include "backend/ref/ref_ops.h"

void ref_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                      uint64_t first)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(mask); i++) {
        bool keep = (double)rng_unit(rng_word(key, first + (uint64_t)i)) >= p;
        if (mask->dtype == DTYPE_U8)
            ((uint8_t *)mask->data)[i] = keep;
        else
            ref_real(mask)[i] = keep ? 1 / (1 - p) : 0;
    }
}

void ref_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(t); i++)
        ref_real(t)[i] = std * rng_normal(key, (uint64_t)i);
}

void ref_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                      struct rng_key key)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(t); i++)
        ref_real(t)[i] = lo + (hi - lo) * rng_uniform(key, (uint64_t)i);
}
