/* The doors to the table: rows, tables, losses, weight normalisation. */
#include "backend/op_checks.h"

void op_residual_norm(struct backend *be, const struct residual_norm *p)
{
    assert(p->a.ndim == 2);
    int64_t n = p->a.dim[0], d = p->a.dim[1];
    check_real(be, &p->a);
    check_optional(be, &p->bias, d);
    check_mask(be, &p->mask, n, d, p->rows_per_mask);
    check_optional(be, &p->res, n * d);
    check_optional(be, &p->gain, d);
    check_optional(be, &p->sum, n * d);
    check_optional(be, &p->xhat, n * d);
    check_optional(be, &p->rstd, n);
    check_optional(be, &p->y, n * d);
    assert((p->kind == NORM_NONE) == (p->y.data == NULL));
    assert(p->kind != NORM_NONE || p->sum.data != NULL);
    assert(p->gain.data == NULL || p->kind == NORM_RMS);
    double bytes = bytes_of(&p->a) + bytes_of(&p->res) + bytes_of(&p->sum) + bytes_of(&p->y) +
                   bytes_of(&p->xhat);
    PROFILE(OP_residual_norm, 0, bytes, be->ops->residual_norm(be, p));
}

/* Checks a vjp call; returns the bytes it moves. */
static double check_norm_vjp(const struct backend *be, const struct residual_norm_vjp *p)
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
    check_mask(be, &p->mask, n, d, p->rows_per_mask);
    assert(p->mask.data == NULL || p->da.data != NULL);
    return bytes_of(&p->dy) + bytes_of(&p->dsum) + bytes_of(&p->xhat) + bytes_of(&p->ds) +
           bytes_of(&p->da);
}

void op_residual_norm_vjp(struct backend *be, const struct residual_norm_vjp *p)
{
    double bytes = check_norm_vjp(be, p);
    PROFILE(OP_residual_norm_vjp, 0, bytes, be->ops->residual_norm_vjp(be, p));
}

void op_norm_vjp_tangent(struct backend *be, const struct norm_vjp_tangent *p)
{
    double bytes = 2 * check_norm_vjp(be, &p->vjp);
    int64_t count = tensor_count(&p->vjp.ds);
    if (p->vjp.kind != NORM_NONE)
        check_count(be, &p->s_t, count);
    check_optional(be, &p->dy_t, count);
    check_optional(be, &p->dsum_t, count);
    check_count(be, &p->ds_t, count);
    check_optional(be, &p->da_t, count);
    assert((p->da_t.data == NULL) == (p->vjp.da.data == NULL));
    PROFILE(OP_norm_vjp_tangent, 0, bytes, be->ops->norm_vjp_tangent(be, p));
}

void op_gather_rows(struct backend *be, const struct tensor *out, const struct tensor *table,
                    const struct tensor *idx, double scale)
{
    assert(out->ndim == 2 && table->ndim == 2 && out->dim[1] == table->dim[1]);
    check_real(be, out);
    check_real(be, table);
    check_index(idx, out->dim[0]);
    PROFILE(OP_gather_rows, 0, 2 * bytes_of(out), be->ops->gather_rows(be, out, table, idx, scale));
}

void op_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                         const struct tensor *idx, double scale)
{
    assert(x->ndim == 2 && table->ndim == 2 && x->dim[1] == table->dim[1]);
    check_real(be, x);
    check_real(be, table);
    check_index(idx, x->dim[0]);
    PROFILE(OP_scatter_add_rows, 0, 3 * bytes_of(x),
            be->ops->scatter_add_rows(be, table, x, idx, scale));
}

void op_scatter_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                     const struct tensor *idx)
{
    assert(x->ndim == 2 && table->ndim == 2 && x->dim[1] == table->dim[1]);
    check_real(be, x);
    check_real(be, table);
    check_index(idx, x->dim[0]);
    PROFILE(OP_scatter_rows, 0, 2 * bytes_of(x), be->ops->scatter_rows(be, table, x, idx));
}

void op_softmax_xent(struct backend *be, const struct softmax_xent *p)
{
    assert(p->logits.ndim == 2);
    check_real(be, &p->logits);
    check_optional(be, &p->bias, p->logits.dim[1]);
    check_index(&p->target, p->logits.dim[0]);
    if (p->pos.data != NULL)
        check_index(&p->pos, p->logits.dim[0]);
    check_real(be, &p->nll);
    PROFILE(OP_softmax_xent, 0, (p->gradient ? 2 : 1) * bytes_of(&p->logits),
            be->ops->softmax_xent(be, p));
}

void op_log_softmax(struct backend *be, const struct tensor *logits, const struct tensor *bias)
{
    assert(logits->ndim == 2);
    check_real(be, logits);
    bias = present(bias);
    if (bias != NULL)
        check_optional(be, bias, logits->dim[1]);
    PROFILE(OP_log_softmax, 0, 2 * bytes_of(logits), be->ops->log_softmax(be, logits, bias));
}

void op_weight_norm(struct backend *be, const struct tensor *w, const struct tensor *inv,
                    const struct tensor *v, const struct tensor *g)
{
    assert(v->ndim == 2);
    check_real(be, v);
    check_count(be, w, tensor_count(v));
    check_count(be, inv, v->dim[0]);
    check_count(be, g, v->dim[0]);
    PROFILE(OP_weight_norm, 0, 2 * bytes_of(v), be->ops->weight_norm(be, w, inv, v, g));
}

void op_weight_norm_vjp(struct backend *be, const struct tensor *dv, const struct tensor *dg,
                        const struct tensor *dw, const struct tensor *v, const struct tensor *g,
                        const struct tensor *inv)
{
    assert(v->ndim == 2);
    check_real(be, v);
    check_count(be, dv, tensor_count(v));
    check_count(be, dw, tensor_count(v));
    check_count(be, dg, v->dim[0]);
    check_count(be, g, v->dim[0]);
    check_count(be, inv, v->dim[0]);
    PROFILE(OP_weight_norm_vjp, 0, (dv->data != dw->data ? 4 : 3) * bytes_of(v),
            be->ops->weight_norm_vjp(be, dv, dg, dw, v, g, inv));
}
