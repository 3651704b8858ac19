/* The doors to the table: random numbers, solvers, the optimiser. */
#include "ops/doors.h"

void op_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                     uint64_t first)
{
    assert(mask->dtype == DTYPE_U8 || mask->dtype == be->ops->real);
    assert(p >= 0 && p < 1);
    BOOK(OP_dropout_mask, 0, bytes_of(mask), be->ops->dropout_mask(be, mask, p, key, first));
}

void op_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key)
{
    check_real(be, t);
    BOOK(OP_fill_normal, 0, bytes_of(t), be->ops->fill_normal(be, t, std, key));
}

void op_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                     struct rng_key key)
{
    check_real(be, t);
    BOOK(OP_fill_uniform, 0, bytes_of(t), be->ops->fill_uniform(be, t, lo, hi, key));
}

void op_solve_residual(struct backend *be, const struct tensor *g, const struct tensor *f,
                       const struct tensor *z, const struct tensor *norms,
                       const struct tensor *total, const struct tensor *reason)
{
    assert(f->ndim == 2 && total->dtype == DTYPE_F64 && tensor_count(total) == 2);
    check_real(be, f);
    check_count(be, g, tensor_count(f));
    check_count(be, z, tensor_count(f));
    check_count(be, norms, 2 * f->dim[0]);
    reason = present(reason);
    if (reason != NULL)
        check_index(reason, f->dim[0]);
    BOOK(OP_solve_residual, 0, 3 * bytes_of(f),
         be->ops->solve_residual(be, g, f, z, norms, total, reason));
}

static void check_history(const struct backend *be, const struct tensor *coef,
                          const struct tensor *hist, const struct tensor *x, int64_t count)
{
    check_real(be, hist);
    assert(x->ndim == 2 && hist->ndim == 3 && hist->dim[1] == x->dim[0] &&
           hist->dim[2] == x->dim[1]);
    assert(coef->ndim == 2 && coef->dim[0] == x->dim[0] && coef->dim[1] == hist->dim[0]);
    assert(count >= 0 && count <= hist->dim[0]);
}

void op_row_dots(struct backend *be, const struct tensor *dots, const struct tensor *x,
                 const struct tensor *hist, int64_t count, const struct tensor *reason)
{
    check_real(be, dots);
    check_real(be, x);
    check_history(be, dots, hist, x, count);
    reason = present(reason);
    if (reason != NULL)
        check_index(reason, x->dim[0]);
    double bytes = (double)(count + 1) * bytes_of(x);
    BOOK(OP_row_dots, 2.0 * (double)(count * tensor_count(x)), bytes,
         be->ops->row_dots(be, dots, x, hist, count, reason));
}

void op_scope_sum(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                  bool reverse)
{
    assert(val->ndim == 3);
    check_real(be, val);
    BOOK(OP_scope_sum, 0, 2 * bytes_of(val), be->ops->scope_sum(be, val, scope, decay, reverse));
}

void op_solve_judge(struct backend *be, const struct solve_judge *p)
{
    assert(p->z.ndim == 2);
    int64_t n = p->z.dim[0], count = tensor_count(&p->z);
    check_count(be, &p->norms, 2 * n);
    check_count(be, &p->z, count);
    check_count(be, &p->f, count);
    check_count(be, &p->best_z, count);
    check_optional(be, &p->best_f, count);
    check_count(be, &p->best, n);
    check_count(be, &p->first, n);
    check_index(&p->best_at, n);
    check_index(&p->reason, n);
    check_index(&p->evals, n);
    check_index(&p->active, 1);
    /* of a better iterate, which it nearly always is */
    BOOK(OP_solve_judge, 0, 2 * (bytes_of(&p->z) + bytes_of(&p->best_f)),
         be->ops->solve_judge(be, p));
}

void op_anderson_weights(struct backend *be, const struct anderson_weights *p)
{
    assert(p->alpha.ndim == 2);
    int64_t n = p->alpha.dim[0], m = p->alpha.dim[1];
    check_count(be, &p->alpha, n * m);
    check_count(be, &p->gram, n * m * m);
    check_count(be, &p->dots, n * m);
    check_index(&p->len, n);
    check_index(&p->restarts, n);
    if (p->reason.data != NULL)
        check_index(&p->reason, n);
    assert(p->count >= 1 && p->count <= m && p->slot >= 0 && p->slot < p->count);
    BOOK(OP_anderson_weights, 0, 2 * bytes_of(&p->gram), be->ops->anderson_weights(be, p));
}

void op_row_combine(struct backend *be, const struct row_combine *p)
{
    int64_t count = tensor_count(&p->out);
    check_count(be, &p->out, count);
    check_count(be, &p->x, count);
    check_optional(be, &p->y, count);
    if (p->count > 0) {
        check_real(be, &p->coef);
        check_history(be, &p->coef, &p->hist, &p->out, p->count);
        check_optional(be, &p->hist2, tensor_count(&p->hist));
    }
    if (p->reason.data != NULL)
        check_index(&p->reason, p->out.dim[0]);
    int64_t each = p->count * (p->hist2.data != NULL ? 2 : 1);
    double streams = (double)(2 + (p->y.data != NULL ? 1 : 0) + each);
    BOOK(OP_row_combine, 2.0 * (double)(p->count * count), streams * bytes_of(&p->out),
         be->ops->row_combine(be, p));
}

void op_row_divide(struct backend *be, const struct tensor *x, const struct tensor *denom,
                   const struct tensor *restarts)
{
    assert(x->ndim == 2);
    check_real(be, x);
    check_count(be, denom, x->dim[0]);
    check_index(restarts, x->dim[0]);
    BOOK(OP_row_divide, 0, 2 * bytes_of(x), be->ops->row_divide(be, x, denom, restarts));
}

void op_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    assert(acc->dtype == DTYPE_F64 && tensor_count(acc) == 1);
    check_real(be, x);
    BOOK(OP_sum_squares, 0, bytes_of(x), be->ops->sum_squares(be, acc, x));
}

void op_adam(struct backend *be, const struct adam *p)
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
    BOOK(OP_adam, 0, 7 * bytes_of(&p->w), be->ops->adam(be, p));
}
