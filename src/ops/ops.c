/* The doors to the table: shape checks, time, counts. */
#include "ops/backend.h"

#include <string.h>
#include <time.h>

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

enum { PLANNED_ALIGN = 256, PLANNED_START = 1 << 20 };

static void book(struct backend *be, enum op_id id, double start, double flops, double bytes)
{
    struct op_stat *stat = &be->stat[id];
    stat->seconds +=
        be->seconds_of != NULL ? be->seconds_of(be, id, flops, bytes) : seconds_now() - start;
    stat->calls++;
    stat->flops += flops;
    stat->bytes += bytes;
}

/* Runs one entry of the table (not while planning) and books it. */
#define BOOK(id, flop, byte, call)            \
    do {                                      \
        double start_ = seconds_now();        \
        if (!be->planning)                    \
            call;                             \
        book(be, id, start_, (flop), (byte)); \
    } while (0)

static double bytes_of(const struct tensor *t)
{
    return t->data == NULL ? 0 : (double)tensor_bytes(t);
}

/* Callers may pass a view without data for an optional tensor; backends then get NULL. */
static const struct tensor *present(const struct tensor *t)
{
    return t == NULL || t->data == NULL ? NULL : t;
}

static void check_real(const struct backend *be, const struct tensor *t)
{
    assert(t->data != NULL || tensor_count(t) == 0);
    assert(t->dtype == be->ops->real);
}

/* NULL, or of real type with exactly `count` numbers. */
static void check_optional(const struct backend *be, const struct tensor *t, int64_t count)
{
    if (t->data == NULL)
        return;
    assert(t->dtype == be->ops->real && tensor_count(t) == count);
}

static void check_count(const struct backend *be, const struct tensor *t, int64_t count)
{
    check_real(be, t);
    assert(tensor_count(t) == count);
}

static void check_index(const struct tensor *t, int64_t count)
{
    assert(t->dtype == DTYPE_I32 && t->data != NULL && tensor_count(t) == count);
}

enum status op_alloc(struct backend *be, struct tensor *t, enum dtype dtype, int ndim, int64_t d0,
                     int64_t d1, int64_t d2, int64_t d3, struct error *err)
{
    struct tensor made = tensor_make(NULL, dtype, ndim, d0, d1, d2, d3);
    assert(d0 >= 0 && d1 >= 0 && d2 >= 0 && d3 >= 0);
    *t = made;
    size_t bytes = tensor_bytes(&made);
    if (be->planning) {
        /* an address that nobody looks at, different from all others */
        made.data = (void *)(uintptr_t)(PLANNED_START + be->dry_bytes);
        be->dry_bytes += (bytes / PLANNED_ALIGN + 1) * PLANNED_ALIGN;
    } else {
        TRY(be->ops->alloc(be, &made.data, bytes, err));
    }
    *t = made;
    be->planned[be->part] += bytes;
    be->bytes += bytes;
    if (be->bytes > be->peak_bytes)
        be->peak_bytes = be->bytes;
    if (bytes > 0)
        op_fill(be, t, 0.0);
    return STATUS_OK;
}

void op_release(struct backend *be, struct tensor *t)
{
    if (t->data == NULL)
        return;
    be->bytes -= tensor_bytes(t);
    if (!be->planning)
        be->ops->release(be, t->data);
    t->data = NULL;
}

void op_upload(struct backend *be, const struct tensor *dst, const void *src, enum dtype src_type)
{
    assert(src_type == dst->dtype ||
           (dst->dtype == be->ops->real && (src_type == DTYPE_F32 || src_type == DTYPE_F64)));
    BOOK(OP_upload, 0, bytes_of(dst), be->ops->upload(be, dst, src, src_type));
}

void op_download(struct backend *be, void *dst, enum dtype dst_type, const struct tensor *src)
{
    assert(dst_type == src->dtype || ((src->dtype == DTYPE_F32 || src->dtype == DTYPE_F64) &&
                                      (dst_type == DTYPE_F32 || dst_type == DTYPE_F64)));
    be->syncs++;
    if (be->planning)
        memset(dst, 0, (size_t)tensor_count(src) * dtype_size(dst_type));
    BOOK(OP_download, 0, bytes_of(src), be->ops->download(be, dst, dst_type, src));
}

void op_copy(struct backend *be, const struct tensor *dst, const struct tensor *src)
{
    assert(dst->dtype == src->dtype && tensor_count(dst) == tensor_count(src));
    BOOK(OP_copy, 0, 2 * bytes_of(src), be->ops->copy(be, dst, src));
}

void op_fill(struct backend *be, const struct tensor *t, double value)
{
    BOOK(OP_fill, 0, bytes_of(t), be->ops->fill(be, t, value));
}

void op_gemm_block(struct backend *be, const struct gemm *p)
{
    check_real(be, &p->a);
    check_real(be, &p->b);
    check_real(be, &p->c);
    assert(p->a.ndim == 2 && p->b.ndim == 2 && p->c.ndim == 2);
    int64_t m = p->trans_a ? p->a.dim[1] : p->a.dim[0];
    int64_t k = p->trans_a ? p->a.dim[0] : p->a.dim[1];
    int64_t n = p->trans_b ? p->b.dim[0] : p->b.dim[1];
    assert((p->trans_b ? p->b.dim[1] : p->b.dim[0]) == k);
    assert(p->c.dim[0] == m && p->c.dim[1] == n);
    assert(p->a_stride == 0 || p->a_stride >= p->a.dim[1]);
    assert(p->b_stride == 0 || p->b_stride >= p->b.dim[1]);
    assert(p->c_stride == 0 || p->c_stride >= p->c.dim[1]);
    size_t operands = tensor_bytes(&p->a) + tensor_bytes(&p->b);
    if (operands > be->operand_bytes)
        be->operand_bytes = operands;
    double bytes = (double)operands + (p->beta != 0 ? 2 : 1) * bytes_of(&p->c);
    BOOK(OP_gemm, 2.0 * (double)m * (double)n * (double)k, bytes, be->ops->gemm(be, p));
}

void op_gemm(struct backend *be, bool trans_a, bool trans_b, double alpha, const struct tensor *a,
             const struct tensor *b, double beta, const struct tensor *c)
{
    struct gemm p = {trans_a, trans_b, alpha, beta, *a, *b, *c, 0, 0, 0};
    op_gemm_block(be, &p);
}

void op_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
              double b)
{
    check_real(be, y);
    check_count(be, x, tensor_count(y));
    BOOK(OP_axpby, 0, (b != 0 ? 3 : 2) * bytes_of(y), be->ops->axpby(be, y, a, x, b));
}

void op_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                  const struct tensor *mask)
{
    check_count(be, out, tensor_count(x));
    check_real(be, mask);
    assert(x->ndim == 3 && mask->ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(mask->dim[i] == 1 || mask->dim[i] == x->dim[i]);
    BOOK(OP_mul_bcast, 0, bytes_of(x) + bytes_of(out) + bytes_of(mask),
         be->ops->mul_bcast(be, out, x, mask));
}

void op_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    assert(x->ndim == 2);
    check_real(be, x);
    check_count(be, acc, x->dim[1]);
    BOOK(OP_col_sum, 0, bytes_of(x) + bytes_of(acc), be->ops->col_sum(be, acc, x));
}

/* Rows and sequences of a block in the wider array must not overlap. */
static void check_strides(const struct tensor *t, int64_t batch, int64_t row)
{
    int64_t row_at_least = t->dim[2], used = row != 0 ? row : t->dim[2];
    assert(row == 0 || row >= row_at_least);
    assert(batch == 0 || t->dim[1] == 0 || batch >= (t->dim[1] - 1) * used + t->dim[2]);
    assert(batch != 0 || row == 0 || t->dim[0] <= 1); /* contiguous sequences of strided rows: no */
}

void op_copy_block(struct backend *be, const struct copy_block *p)
{
    check_real(be, &p->to);
    check_real(be, &p->from);
    assert(p->to.ndim == 3 && p->from.ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(p->to.dim[i] == p->from.dim[i]);
    check_strides(&p->to, p->to_batch, p->to_row);
    check_strides(&p->from, p->from_batch, p->from_row);
    check_optional(be, &p->mask, p->to.dim[0] * p->to.dim[2]);
    BOOK(OP_copy_block, 0, 2 * bytes_of(&p->to), be->ops->copy_block(be, p));
}

static void check_mask(const struct backend *be, const struct tensor *mask, int64_t rows,
                       int64_t cols, int64_t rows_per_mask)
{
    if (mask->data == NULL)
        return;
    assert(rows_per_mask > 0 && rows % rows_per_mask == 0);
    check_count(be, mask, rows / rows_per_mask * cols);
}

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
    BOOK(OP_residual_norm, 0, bytes, be->ops->residual_norm(be, p));
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
    BOOK(OP_residual_norm_vjp, 0, bytes, be->ops->residual_norm_vjp(be, p));
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
    BOOK(OP_norm_vjp_tangent, 0, bytes, be->ops->norm_vjp_tangent(be, p));
}

void op_bias_relu(struct backend *be, const struct tensor *h, const struct tensor *bias,
                  const struct tensor *mask, int64_t rows_per_mask)
{
    assert(h->ndim == 2);
    check_real(be, h);
    check_count(be, bias, h->dim[1]);
    mask = present(mask);
    if (mask != NULL)
        check_mask(be, mask, h->dim[0], h->dim[1], rows_per_mask);
    BOOK(OP_bias_relu, 0, 2 * bytes_of(h), be->ops->bias_relu(be, h, bias, mask, rows_per_mask));
}

void op_bias_relu_vjp(struct backend *be, const struct tensor *dh, const struct tensor *h,
                      const struct tensor *mask, int64_t rows_per_mask)
{
    assert(h->ndim == 2);
    check_real(be, h);
    check_count(be, dh, tensor_count(h));
    mask = present(mask);
    if (mask != NULL)
        check_mask(be, mask, h->dim[0], h->dim[1], rows_per_mask);
    BOOK(OP_bias_relu_vjp, 0, 3 * bytes_of(h),
         be->ops->bias_relu_vjp(be, dh, h, mask, rows_per_mask));
}

/* Checks an attention call; returns B*H*L*K, the number of scores. */
static double check_attention(const struct backend *be, const struct attention *p)
{
    check_real(be, &p->qkv);
    check_real(be, &p->rk);
    assert(p->qkv.ndim == 3 && p->qkv.dim[2] % 3 == 0);
    int64_t b = p->qkv.dim[0], l = p->qkv.dim[1], d = p->qkv.dim[2] / 3;
    int64_t mem = p->mem.data == NULL ? 0 : p->mem.dim[1];
    assert(p->heads > 0 && d % p->heads == 0);
    if (mem > 0)
        check_count(be, &p->mem, b * mem * 3 * d);
    check_count(be, &p->r_w, d);
    check_count(be, &p->r_r, d);
    check_count(be, &p->out, b * l * d);
    check_optional(be, &p->lse, b * p->heads * l);
    int64_t reach = p->span > 0 && p->span < mem + l ? p->span : mem + l;
    assert(p->rk.ndim == 2 && p->rk.dim[0] >= reach && p->rk.dim[1] == d);
    if (p->mask.data != NULL)
        assert(p->mask.dtype == DTYPE_U8 && tensor_count(&p->mask) == b * p->heads * l * (mem + l));
    /* keys that a query really sees, averaged: P + (L+1)/2 without a span */
    double seen = (double)mem + 0.5 * (double)(l + 1);
    return (double)b * (double)d * (double)l * (seen < (double)reach ? seen : (double)reach);
}

/* What either direction moves of it; of `mem` the q part is ignored. */
static double attention_bytes(const struct attention *p)
{
    return bytes_of(&p->qkv) + bytes_of(&p->mem) * 2 / 3 + bytes_of(&p->rk) + bytes_of(&p->mask) +
           bytes_of(&p->out);
}

void op_attention(struct backend *be, const struct attention *p)
{
    double work = check_attention(be, p);
    BOOK(OP_attention, 6 * work, attention_bytes(p), be->ops->attention(be, p));
}

void op_attention_vjp(struct backend *be, const struct attention_vjp *p)
{
    double work = check_attention(be, &p->fwd);
    check_real(be, &p->fwd.lse);
    check_count(be, &p->dout, tensor_count(&p->fwd.out));
    check_count(be, &p->dqkv, tensor_count(&p->fwd.qkv));
    check_optional(be, &p->dmem, tensor_count(&p->fwd.mem));
    check_optional(be, &p->drk, tensor_count(&p->fwd.rk));
    check_optional(be, &p->dr_w, tensor_count(&p->fwd.r_w));
    check_optional(be, &p->dr_r, tensor_count(&p->fwd.r_r));
    /* scores (2 products), dA, dV, dQ (2), dK; drk on top when wanted */
    double products = p->drk.data != NULL ? 8 : 7;
    double bytes = attention_bytes(&p->fwd) + bytes_of(&p->dout) + bytes_of(&p->dqkv) +
                   bytes_of(&p->dmem) + 2 * bytes_of(&p->drk);
    BOOK(OP_attention_vjp, 2 * products * work, bytes, be->ops->attention_vjp(be, p));
}

void op_attention_tangent(struct backend *be, const struct attention_tangent *p)
{
    double work = check_attention(be, &p->fwd), products = 7;
    int64_t out = tensor_count(&p->fwd.out), qkv = tensor_count(&p->fwd.qkv);
    check_real(be, &p->fwd.lse);
    check_count(be, &p->qkv_t, qkv);
    check_optional(be, &p->out_t, out);
    assert((p->dout.data == NULL) == (p->dout_t.data == NULL));
    if (p->dout.data != NULL) {
        check_count(be, &p->dout, out);
        check_count(be, &p->dout_t, out);
        check_count(be, &p->dqkv, qkv);
        check_count(be, &p->dqkv_t, qkv);
        check_optional(be, &p->dmem_t, tensor_count(&p->fwd.mem));
        check_optional(be, &p->drk_t, tensor_count(&p->fwd.rk));
        check_optional(be, &p->dr_w_t, tensor_count(&p->fwd.r_w));
        check_optional(be, &p->dr_r_t, tensor_count(&p->fwd.r_r));
        products = p->drk_t.data != NULL ? 23 : 21;
    }
    BOOK(OP_attention_tangent, 2 * products * work, 2 * attention_bytes(&p->fwd),
         be->ops->attention_tangent(be, p));
}

/* Sizes that both directions of the gate share; z, c0 and `out` of either. */
static void check_gate(const struct backend *be, const struct tensor *rows, const struct tensor *z,
                       const struct tensor *c0, const struct tensor *out)
{
    check_real(be, rows);
    assert(rows->ndim == 3 && z->ndim == 3);
    assert(rows->dim[0] == z->dim[0] && rows->dim[1] >= z->dim[1]);
    assert(z->dim[2] % 2 == 0 && rows->dim[2] == 2 * z->dim[2]);
    check_real(be, z);
    check_count(be, out, tensor_count(z));
    check_optional(be, c0, z->dim[0] * z->dim[2] / 2);
}

void op_lstm_gate(struct backend *be, const struct lstm_gate *p)
{
    check_gate(be, &p->pre, &p->z, &p->c0, &p->out);
    check_count(be, &p->u, tensor_count(&p->pre));
    check_count(be, &p->bias, p->pre.dim[2]);
    BOOK(OP_lstm_gate, 0, 3 * bytes_of(&p->pre) + 1.5 * bytes_of(&p->out),
         be->ops->lstm_gate(be, p));
}

void op_lstm_gate_vjp(struct backend *be, const struct lstm_gate_vjp *p)
{
    check_gate(be, &p->gates, &p->z, &p->c0, &p->out);
    check_count(be, &p->dpre, tensor_count(&p->gates));
    check_count(be, &p->dout, tensor_count(&p->z));
    check_count(be, &p->dz, tensor_count(&p->z));
    check_optional(be, &p->dc0, p->z.dim[0] * p->z.dim[2] / 2);
    BOOK(OP_lstm_gate_vjp, 0, 2 * bytes_of(&p->gates) + 2.5 * bytes_of(&p->out),
         be->ops->lstm_gate_vjp(be, p));
}

void op_gather_rows(struct backend *be, const struct tensor *out, const struct tensor *table,
                    const struct tensor *idx, double scale)
{
    assert(out->ndim == 2 && table->ndim == 2 && out->dim[1] == table->dim[1]);
    check_real(be, out);
    check_real(be, table);
    check_index(idx, out->dim[0]);
    BOOK(OP_gather_rows, 0, 2 * bytes_of(out), be->ops->gather_rows(be, out, table, idx, scale));
}

void op_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                         const struct tensor *idx, double scale)
{
    assert(x->ndim == 2 && table->ndim == 2 && x->dim[1] == table->dim[1]);
    check_real(be, x);
    check_real(be, table);
    check_index(idx, x->dim[0]);
    BOOK(OP_scatter_add_rows, 0, 3 * bytes_of(x),
         be->ops->scatter_add_rows(be, table, x, idx, scale));
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
    BOOK(OP_softmax_xent, 0, (p->gradient ? 2 : 1) * bytes_of(&p->logits),
         be->ops->softmax_xent(be, p));
}

void op_log_softmax(struct backend *be, const struct tensor *logits, const struct tensor *bias)
{
    assert(logits->ndim == 2);
    check_real(be, logits);
    bias = present(bias);
    if (bias != NULL)
        check_optional(be, bias, logits->dim[1]);
    BOOK(OP_log_softmax, 0, 2 * bytes_of(logits), be->ops->log_softmax(be, logits, bias));
}

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

void op_weight_norm(struct backend *be, const struct tensor *w, const struct tensor *inv,
                    const struct tensor *v, const struct tensor *g)
{
    assert(v->ndim == 2);
    check_real(be, v);
    check_count(be, w, tensor_count(v));
    check_count(be, inv, v->dim[0]);
    check_count(be, g, v->dim[0]);
    BOOK(OP_weight_norm, 0, 2 * bytes_of(v), be->ops->weight_norm(be, w, inv, v, g));
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
    BOOK(OP_weight_norm_vjp, 0, (dv->data != dw->data ? 4 : 3) * bytes_of(v),
         be->ops->weight_norm_vjp(be, dv, dg, dw, v, g, inv));
}

void op_solve_residual(struct backend *be, const struct tensor *g, const struct tensor *f,
                       const struct tensor *z, const struct tensor *norms,
                       const struct tensor *total)
{
    assert(f->ndim == 2 && total->dtype == DTYPE_F64 && tensor_count(total) == 2);
    check_real(be, f);
    check_count(be, g, tensor_count(f));
    check_count(be, z, tensor_count(f));
    check_count(be, norms, 2 * f->dim[0]);
    BOOK(OP_solve_residual, 0, 3 * bytes_of(f), be->ops->solve_residual(be, g, f, z, norms, total));
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
                 const struct tensor *hist, int64_t count)
{
    check_real(be, dots);
    check_real(be, x);
    check_history(be, dots, hist, x, count);
    double bytes = (double)(count + 1) * bytes_of(x);
    BOOK(OP_row_dots, 2.0 * (double)(count * tensor_count(x)), bytes,
         be->ops->row_dots(be, dots, x, hist, count));
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
    BOOK(OP_adam, 0, 7 * bytes_of(&p->w), be->ops->adam(be, p));
}
