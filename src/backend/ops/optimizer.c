/* What operations of the optimizers demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static void check_norm2(const struct tensor *norm2)
{
    assert(norm2->dtype == DTYPE_F64 && tensor_count(norm2) == 1);
}

static struct op_cost check_sum_squares(const struct backend *be, const struct tensor *acc,
                                        const struct tensor *x)
{
    check_norm2(acc);
    check_real(be, x);
    return bytes_only(bytes_of(x));
}

static struct op_cost check_adam(const struct backend *be, const struct adam *p)
{
    int64_t n = tensor_count(&p->w);
    check_count(be, &p->w, n);
    check_count(be, &p->g, n);
    check_count(be, &p->m, n);
    check_count(be, &p->v, n);
    check_norm2(&p->norm2);
    assert(p->step >= 1 && !(p->coupled && p->cautious));
    assert(p->groups.data == NULL ||
           (p->groups.dtype == DTYPE_U8 &&
            tensor_count(&p->groups) == (n + ADAM_BLOCK - 1) / ADAM_BLOCK));
    return bytes_only(7 * bytes_of(&p->w));
}

static struct op_cost check_momentum(const struct backend *be, const struct momentum *p)
{
    check_count(be, &p->m, tensor_count(&p->g));
    check_real(be, &p->g);
    check_norm2(&p->norm2);
    return bytes_only(4 * bytes_of(&p->g));
}

static struct op_cost check_unit_norm(const struct backend *be, const struct tensor *y,
                                      const struct tensor *x, const struct tensor *norm2,
                                      double least)
{
    check_real(be, y);
    check_count(be, x, tensor_count(y));
    check_norm2(norm2);
    assert(least > 0);
    return bytes_only(2 * bytes_of(y));
}

static struct op_cost check_descend(const struct backend *be, const struct descend *p)
{
    check_real(be, &p->w);
    check_count(be, &p->u, tensor_count(&p->w));
    check_norm2(&p->norm2);
    return bytes_only(3 * bytes_of(&p->w));
}

OPTIMIZER_OPS(DEFINE_OP)
