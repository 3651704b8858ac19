/* What operations of the solvers demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static struct op_cost check_solve_residual(const struct backend *be, const struct solve_residual *p)
{
    int64_t rows = p->f.dim[0], count = tensor_count(&p->f);
    assert(p->f.ndim == 2 && p->total.dtype == DTYPE_F64 && tensor_count(&p->total) == 2);
    check_real(be, &p->f);
    check_count(be, &p->g, count);
    check_count(be, &p->z, count);
    check_count(be, &p->norms, 2 * rows);
    check_optional_index(&p->reason, rows);
    return bytes_only(3 * bytes_of(&p->f));
}

/* A history of rows like x, and coefficients with `each` numbers a row for every slot of it. */
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

static struct op_cost check_row_dots(const struct backend *be, const struct row_dots *p)
{
    int64_t vectors = p->y.data != NULL ? 2 : 1, count = tensor_count(&p->x);
    check_real(be, &p->x);
    check_optional(be, &p->y, count);
    check_history(be, &p->dots, vectors, &p->hist, &p->x, p->count);
    check_optional_index(&p->reason, p->x.dim[0]);
    return (struct op_cost){
        .flops = 2.0 * (double)(vectors * p->count * count),
        .bytes = (double)(p->count + vectors) * bytes_of(&p->x),
    };
}

static struct op_cost check_scope_sum(const struct backend *be, const struct tensor *val,
                                      enum scope scope, double decay, bool reverse)
{
    (void)scope, (void)decay, (void)reverse;
    assert(val->ndim == 3);
    check_real(be, val);
    return bytes_only(2 * bytes_of(val));
}

static struct op_cost check_convergence_check(const struct backend *be,
                                              const struct convergence_check *p)
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
    /* The cost of a better iterate, since an iterate nearly always is one. */
    return bytes_only(2 * (bytes_of(&p->z) + bytes_of(&p->best_f)));
}

static struct op_cost check_anderson_weights(const struct backend *be,
                                             const struct anderson_weights *p)
{
    assert(p->alpha.ndim == 2);
    int64_t n = p->alpha.dim[0], m = p->alpha.dim[1];
    check_count(be, &p->alpha, n * m);
    check_count(be, &p->gram, n * m * m);
    check_count(be, &p->dots, n * m);
    check_index(&p->len, n);
    check_index(&p->restarts, n);
    check_optional_index(&p->reason, n);
    assert(p->count >= 1 && p->count <= m && p->slot >= 0 && p->slot < p->count);
    return bytes_only(2 * bytes_of(&p->gram));
}

static struct op_cost check_broyden_weights(const struct backend *be,
                                            const struct broyden_weights *p)
{
    assert(p->gram.ndim == 2 && p->count >= 1 && p->count <= HISTORY_MOST);
    int64_t n = p->coef.dim[0], groups = p->gram.dim[0], triangle = p->count * (p->count + 1) / 2;
    assert(triangle <= p->gram.dim[1] && (n == 0 ? groups == 0 : groups > 0 && n % groups == 0));
    check_real(be, &p->gram);
    check_count(be, &p->coef, n * (p->count + 1));
    check_count(be, &p->dots, n * 2 * p->count);
    check_index(&p->restarts, n);
    double read = (double)((size_t)(groups * (triangle + p->count)) * dtype_size(be->ops->real));
    return bytes_only(read + bytes_of(&p->coef));
}

static struct op_cost check_row_combine(const struct backend *be, const struct row_combine *p)
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
    check_optional_index(&p->reason, p->out.dim[0]);
    double slots = (double)(p->count * (p->hist2.data != NULL ? 2 : 1));
    return (struct op_cost){
        .flops = 2.0 * (double)(p->count * count),
        .bytes = (1 + slots) * bytes_of(&p->out) + bytes_of(&p->x) + bytes_of(&p->y) +
                 2 * bytes_of(&p->sum),
    };
}

SOLVER_OPS(DEFINE_OP)
