/* What operations of normalisation demand and cost, and their functions. */
#include "backend/ops/op_functions.h"

static struct op_cost check_residual_norm(const struct backend *be, const struct residual_norm *p)
{
    assert(p->a.ndim == 2);
    int64_t n = p->a.dim[0], d = p->a.dim[1];
    check_real(be, &p->a);
    check_optional(be, &p->bias, d);
    check_row_mask(be, &p->mask, n, d, p->rows_per_mask);
    check_optional(be, &p->res, n * d);
    check_optional(be, &p->gain, d);
    check_optional(be, &p->sum, n * d);
    check_optional(be, &p->xhat, n * d);
    check_optional(be, &p->rstd, n);
    check_optional(be, &p->y, n * d);
    assert((p->kind == NORM_NONE) == (p->y.data == NULL));
    assert(p->kind != NORM_NONE || p->sum.data != NULL);
    assert(p->gain.data == NULL || p->kind == NORM_RMS);
    return bytes_only(bytes_of(&p->a) + bytes_of(&p->res) + bytes_of(&p->sum) + bytes_of(&p->y) +
                      bytes_of(&p->xhat));
}

static struct op_cost check_residual_norm_vjp(const struct backend *be,
                                              const struct residual_norm_vjp *p)
{
    assert(p->ds.ndim == 2);
    int64_t n = p->ds.dim[0], d = p->ds.dim[1];
    check_real(be, &p->ds);
    if (p->kind != NORM_NONE) {
        check_count(be, &p->dy, n * d);
        check_count(be, &p->xhat, n * d);
        check_count(be, &p->rstd, n);
    } else {
        check_count(be, &p->dsum, n * d);
    }
    check_optional(be, &p->dsum, n * d);
    check_optional(be, &p->gain, d);
    check_optional(be, &p->dgain, d);
    check_optional(be, &p->da, n * d);
    check_row_mask(be, &p->mask, n, d, p->rows_per_mask);
    assert(p->mask.data == NULL || p->da.data != NULL);
    return bytes_only(bytes_of(&p->dy) + bytes_of(&p->dsum) + bytes_of(&p->xhat) +
                      bytes_of(&p->ds) + bytes_of(&p->da));
}

static struct op_cost check_norm_vjp_tangent(const struct backend *be,
                                             const struct norm_vjp_tangent *p)
{
    double vjp_bytes = check_residual_norm_vjp(be, &p->vjp).bytes;
    int64_t count = tensor_count(&p->vjp.ds);
    if (p->vjp.kind != NORM_NONE)
        check_count(be, &p->s_t, count);
    check_optional(be, &p->dy_t, count);
    check_optional(be, &p->dsum_t, count);
    check_count(be, &p->ds_t, count);
    check_optional(be, &p->da_t, count);
    assert((p->da_t.data == NULL) == (p->vjp.da.data == NULL));
    return bytes_only(2 * vjp_bytes);
}

static struct op_cost check_weight_norm(const struct backend *be, const struct tensor *w,
                                        const struct tensor *inv, const struct tensor *v,
                                        const struct tensor *g)
{
    assert(v->ndim == 2);
    check_real(be, v);
    check_count(be, w, tensor_count(v));
    check_count(be, inv, v->dim[0]);
    check_count(be, g, v->dim[0]);
    return bytes_only(2 * bytes_of(v));
}

static struct op_cost check_weight_norm_vjp(const struct backend *be,
                                            const struct weight_norm_vjp *p)
{
    int64_t rows = p->v.dim[0], count = tensor_count(&p->v);
    assert(p->v.ndim == 2);
    check_real(be, &p->v);
    check_count(be, &p->dv, count);
    check_count(be, &p->dw, count);
    check_count(be, &p->dg, rows);
    check_count(be, &p->g, rows);
    check_count(be, &p->inv, rows);
    return bytes_only((p->dv.data != p->dw.data ? 4 : 3) * bytes_of(&p->v));
}

NORM_OPS(DEFINE_OP)
