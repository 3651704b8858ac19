/* What operations of the optimizers demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static struct op_cost check_sum_squares(const struct backend *be, const struct tensor *acc,
                                        const struct tensor *x)
{
    assert(acc->dtype == DTYPE_F64 && tensor_count(acc) == 1);
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
    assert(p->norm2.dtype == DTYPE_F64 && tensor_count(&p->norm2) == 1 && p->step >= 1);
    assert(p->decays.data == NULL ||
           (p->decays.dtype == DTYPE_U8 &&
            tensor_count(&p->decays) == (n + ADAM_BLOCK - 1) / ADAM_BLOCK));
    return bytes_only(7 * bytes_of(&p->w));
}

OPTIMIZER_OPS(DEFINE_OP)
