/* The doors to the table: random numbers, solvers, the optimizer. */
#include "backend/op_checks.h"

void op_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                     uint64_t first)
{
    assert(mask->dtype == DTYPE_U8 || mask->dtype == be->ops->real);
    assert(p >= 0 && p < 1);
    PROFILE(OP_dropout_mask, 0, bytes_of(mask), be->ops->dropout_mask(be, mask, p, key, first));
}

void op_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key)
{
    check_real(be, t);
    PROFILE(OP_fill_normal, 0, bytes_of(t), be->ops->fill_normal(be, t, std, key));
}

void op_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                     struct rng_key key)
{
    check_real(be, t);
    PROFILE(OP_fill_uniform, 0, bytes_of(t), be->ops->fill_uniform(be, t, lo, hi, key));
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
    PROFILE(OP_solve_residual, 0, 3 * bytes_of(f),
            be->ops->solve_residual(be, g, f, z, norms, total, reason));
}

/* `each`: numbers of every row of coef for a slot of hist. */
static void check_history(const struct backend *be, const struct tensor *coef, int64_t each,
                          const struct tensor *hist, const struct tensor *x, int64_t count)
{
    check_real(be, coef);
    check_real(be, hist);
    assert(x->ndim == 2 && hist->ndim == 3 && hist->dim[1] == x->dim[0] &&
           hist->dim[2] == x->dim[1]);
    assert(coef->dim[0] == x->dim[0] && coef->dim[coef->ndim - 1] == hist->dim[0]);
    assert(tensor_count(coef) == each * x->dim[0] * hist->dim[0]);
    assert(count >= 0 && count <= hist->dim[0]);
}

static void check_reason(const struct tensor *reason, int64_t rows)
{
    if (reason->data != NULL)
        check_index(reason, rows);
}

void op_row_dots(struct backend *be, const struct row_dots *p)
{
    int64_t vectors = p->y.data != NULL ? 2 : 1, count = tensor_count(&p->x);
    check_real(be, &p->x);
    check_optional(be, &p->y, count);
    check_history(be, &p->dots, vectors, &p->hist, &p->x, p->count);
    check_reason(&p->reason, p->x.dim[0]);
    PROFILE(OP_row_dots, 2.0 * (double)(vectors * p->count * count),
            (double)(p->count + vectors) * bytes_of(&p->x), be->ops->row_dots(be, p));
}

void op_scope_sum(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                  bool reverse)
{
    assert(val->ndim == 3);
    check_real(be, val);
    PROFILE(OP_scope_sum, 0, 2 * bytes_of(val), be->ops->scope_sum(be, val, scope, decay, reverse));
}

void op_convergence_check(struct backend *be, const struct convergence_check *p)
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
    PROFILE(OP_convergence_check, 0, 2 * (bytes_of(&p->z) + bytes_of(&p->best_f)),
            be->ops->convergence_check(be, p));
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
    check_reason(&p->reason, n);
    assert(p->count >= 1 && p->count <= m && p->slot >= 0 && p->slot < p->count);
    PROFILE(OP_anderson_weights, 0, 2 * bytes_of(&p->gram), be->ops->anderson_weights(be, p));
}

void op_broyden_weights(struct backend *be, const struct broyden_weights *p)
{
    assert(p->gram.ndim == 2 && p->count >= 1 && p->count <= HISTORY_MOST);
    int64_t n = p->coef.dim[0], groups = p->gram.dim[0], triangle = p->count * (p->count + 1) / 2;
    assert(triangle <= p->gram.dim[1] && (n == 0 ? groups == 0 : groups > 0 && n % groups == 0));
    check_real(be, &p->gram);
    check_count(be, &p->coef, n * (p->count + 1));
    check_count(be, &p->dots, n * 2 * p->count);
    check_index(&p->restarts, n);
    double read = (double)((size_t)(groups * (triangle + p->count)) * dtype_size(be->ops->real));
    PROFILE(OP_broyden_weights, 0, read + bytes_of(&p->coef), be->ops->broyden_weights(be, p));
}

void op_row_combine(struct backend *be, const struct row_combine *p)
{
    int64_t count = tensor_count(&p->out);
    check_count(be, &p->out, count);
    check_optional(be, &p->x, count);
    check_optional(be, &p->y, count);
    check_optional(be, &p->sum, count);
    if (p->count > 0) {
        check_history(be, &p->coef, 1, &p->hist, &p->out, p->count);
        check_optional(be, &p->hist2, tensor_count(&p->hist));
    }
    check_reason(&p->reason, p->out.dim[0]);
    double slots = (double)(p->count * (p->hist2.data != NULL ? 2 : 1));
    PROFILE(OP_row_combine, 2.0 * (double)(p->count * count),
            (1 + slots) * bytes_of(&p->out) + bytes_of(&p->x) + bytes_of(&p->y) +
                2 * bytes_of(&p->sum),
            be->ops->row_combine(be, p));
}

void op_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    assert(acc->dtype == DTYPE_F64 && tensor_count(acc) == 1);
    check_real(be, x);
    PROFILE(OP_sum_squares, 0, bytes_of(x), be->ops->sum_squares(be, acc, x));
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
    PROFILE(OP_adam, 0, 7 * bytes_of(&p->w), be->ops->adam(be, p));
}
