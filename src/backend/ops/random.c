/* What operations of random numbers demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static struct op_cost check_dropout_mask(const struct backend *be, const struct tensor *mask,
                                         double p, struct rng_key key, uint64_t first)
{
    (void)key, (void)first;
    assert(mask->dtype == DTYPE_U8 || mask->dtype == be->ops->real);
    assert(p >= 0 && p < 1);
    return bytes_only(bytes_of(mask));
}

static struct op_cost check_fill_normal(const struct backend *be, const struct tensor *t,
                                        double std, struct rng_key key)
{
    (void)std, (void)key;
    check_real(be, t);
    return bytes_only(bytes_of(t));
}

static struct op_cost check_fill_uniform(const struct backend *be, const struct tensor *t,
                                         double lo, double hi, struct rng_key key)
{
    (void)lo, (void)hi, (void)key;
    check_real(be, t);
    return bytes_only(bytes_of(t));
}

RANDOM_OPS(DEFINE_OP)
