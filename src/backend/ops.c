/* The functions op_*. Here is what every operation demands of its arguments, what it costs, and the
 * call of the table between two readings of the clock. */
#include "backend/backend.h"
#include "base/clock.h"

/* What a call costs, for the statistics (struct op_stat). */
struct op_cost {
    double flops, bytes;
};

static struct op_cost bytes_only(double bytes)
{
    return (struct op_cost){0, bytes};
}

static double bytes_of(const struct tensor *t)
{
    return t->data == NULL ? 0 : (double)tensor_bytes(t);
}

/* ---- Demands on one tensor --------------------------------------------------------------------
 */

static void check_real(const struct backend *be, const struct tensor *t)
{
    assert(t->data != NULL || tensor_count(t) == 0);
    assert(t->dtype == be->ops->real);
}

static void check_low_precision(const struct backend *be, const struct tensor *t)
{
    assert(t->data != NULL || tensor_count(t) == 0);
    assert(t->dtype == be->ops->real || t->dtype == op_low_precision(be));
}

/* Absent, or of real type with exactly `count` numbers. */
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

static void check_optional_index(const struct tensor *t, int64_t count)
{
    if (t->data != NULL)
        check_index(t, count);
}

/* A mask [rows / rows_per_mask, cols], or absent. */
static void check_row_mask(const struct backend *be, const struct tensor *mask, int64_t rows,
                           int64_t cols, int64_t rows_per_mask)
{
    if (mask->data == NULL)
        return;
    assert(rows_per_mask > 0 && rows % rows_per_mask == 0);
    check_count(be, mask, rows / rows_per_mask * cols);
}

/* ---- Transfers --------------------------------------------------------------------------------
 */

static struct op_cost check_upload(const struct backend *be, const struct tensor *dst,
                                   const void *src, enum dtype src_type)
{
    assert(src != NULL || tensor_count(dst) == 0);
    assert(src_type == dst->dtype ||
           (dst->dtype == be->ops->real && (src_type == DTYPE_F32 || src_type == DTYPE_F64)));
    return bytes_only(bytes_of(dst));
}

static struct op_cost check_download(const struct backend *be, void *dst, enum dtype dst_type,
                                     const struct tensor *src)
{
    (void)be;
    assert(dst != NULL || tensor_count(src) == 0);
    assert(dst_type == src->dtype || ((src->dtype == DTYPE_F32 || src->dtype == DTYPE_F64) &&
                                      (dst_type == DTYPE_F32 || dst_type == DTYPE_F64)));
    return bytes_only(bytes_of(src));
}

static struct op_cost check_copy(const struct backend *be, const struct tensor *dst,
                                 const struct tensor *src)
{
    (void)be;
    assert(dst->dtype == src->dtype && tensor_count(dst) == tensor_count(src));
    return bytes_only(2 * bytes_of(src));
}

static struct op_cost check_fill(const struct backend *be, const struct tensor *t, double value)
{
    (void)be, (void)value;
    return bytes_only(bytes_of(t));
}

/* Rows and sequences of a block in the wider array must not overlap. */
static void check_strides(const struct tensor *t, int64_t batch, int64_t row)
{
    int64_t row_at_least = t->dim[2], used = row != 0 ? row : t->dim[2];
    assert(row == 0 || row >= row_at_least);
    assert(batch == 0 || t->dim[1] == 0 || batch >= (t->dim[1] - 1) * used + t->dim[2]);
    /* sequences of strided rows cannot be contiguous */
    assert(batch != 0 || row == 0 || t->dim[0] <= 1);
}

static struct op_cost check_copy_block(const struct backend *be, const struct copy_block *p)
{
    check_low_precision(be, &p->to);
    check_real(be, &p->from);
    assert(p->to.dtype == be->ops->real || p->mask.data == NULL);
    assert(p->to.ndim == 3 && p->from.ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(p->to.dim[i] == p->from.dim[i]);
    check_strides(&p->to, p->to_batch, p->to_row);
    check_strides(&p->from, p->from_batch, p->from_row);
    check_optional(be, &p->mask, p->to.dim[0] * p->to.dim[2]);
    return bytes_only(bytes_of(&p->from) + bytes_of(&p->to));
}

/* ---- Products ---------------------------------------------------------------------------------
 */

static struct op_cost check_gemm(const struct backend *be, const struct gemm *p)
{
    check_low_precision(be, &p->a);
    check_low_precision(be, &p->b);
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
    check_optional(be, &p->add, tensor_count(&p->c));
    assert(p->add.data == NULL || p->add.data != p->c.data);
    const struct tensor *add = p->add.data != NULL ? &p->add : &p->c;
    return (struct op_cost){
        .flops = 2.0 * (double)m * (double)n * (double)k,
        .bytes = bytes_of(&p->a) + bytes_of(&p->b) + bytes_of(&p->c) +
                 (p->beta != 0 ? bytes_of(add) : 0),
    };
}

/* The two tensors of ffn_up that its vjp has too, h or dh and relu_mask, for n rows. */
static void check_wide_layer(const struct backend *be, const struct tensor *h,
                             const struct tensor *relu_mask, int64_t n)
{
    check_low_precision(be, h);
    assert(h->dtype == op_low_precision(be) && h->ndim == 2 && h->dim[0] == n);
    assert(relu_mask->data == NULL ||
           (relu_mask->dtype == DTYPE_U8 &&
            tensor_count(relu_mask) == n * op_relu_mask_width(be, h->dim[1])));
}

static struct op_cost check_ffn_up(const struct backend *be, const struct ffn_up *p)
{
    int64_t n = p->x.dim[0], d = p->x.dim[1], width = p->h.dim[1];
    check_real(be, &p->x);
    check_wide_layer(be, &p->h, &p->relu_mask, n);
    check_low_precision(be, &p->w);
    check_count(be, &p->bias, width);
    check_row_mask(be, &p->mask, n, width, p->rows_per_mask);
    assert(p->x.ndim == 2 && p->w.ndim == 2 && p->w.dtype == p->h.dtype);
    assert(p->w.dim[0] == width && p->w.dim[1] == d && (p->w_stride == 0 || p->w_stride >= d));
    assert(p->mask.data == NULL || p->mask_scale > 0);
    if (op_low_precision(be) == DTYPE_BF16) {
        int64_t rows = p->mask.data != NULL ? n / p->rows_per_mask : 0;
        assert(p->w_stride >= d + op_ffn_up_padding(be, rows));
    }
    return (struct op_cost){
        .flops = 2.0 * (double)n * (double)d * (double)width,
        .bytes = bytes_of(&p->x) + bytes_of(&p->w) + bytes_of(&p->h) + bytes_of(&p->relu_mask),
    };
}

static struct op_cost check_ffn_up_vjp(const struct backend *be, const struct ffn_up_vjp *p)
{
    int64_t n = p->dy.dim[0], d = p->dy.dim[1], width = p->dh.dim[1];
    check_real(be, &p->dy);
    check_wide_layer(be, &p->dh, &p->relu_mask, n);
    check_low_precision(be, &p->w);
    check_row_mask(be, &p->mask, n, width, p->rows_per_mask);
    assert(p->dy.ndim == 2 && p->w.dtype == p->dh.dtype);
    if (p->h.data != NULL)
        assert(p->h.dtype == p->dh.dtype && tensor_count(&p->h) == n * width);
    else
        assert(n == 0 || (p->relu_mask.data != NULL && be->ops->ffn_rows > 0));
    assert(p->w.ndim == 2 && p->w.dim[p->forward ? 0 : 1] == width);
    assert(p->w.dim[p->forward ? 1 : 0] == d && (p->w_stride == 0 || p->w_stride >= p->w.dim[1]));
    assert(p->mask.data == NULL || p->mask_scale > 0);
    const struct tensor *sign = p->relu_mask.data != NULL ? &p->relu_mask : &p->h;
    return (struct op_cost){
        .flops = 2.0 * (double)n * (double)d * (double)width,
        .bytes = bytes_of(&p->dy) + bytes_of(&p->w) + bytes_of(&p->dh) + bytes_of(sign),
    };
}

/* ---- Elementwise operations and tables --------------------------------------------------------
 */

static struct op_cost check_axpby(const struct backend *be, const struct tensor *y, double a,
                                  const struct tensor *x, double b)
{
    (void)a;
    check_real(be, y);
    check_count(be, x, tensor_count(y));
    return bytes_only((b != 0 ? 3 : 2) * bytes_of(y));
}

static struct op_cost check_mul_bcast(const struct backend *be, const struct tensor *out,
                                      const struct tensor *x, const struct tensor *mask)
{
    check_count(be, out, tensor_count(x));
    check_real(be, mask);
    assert(x->ndim == 3 && mask->ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(mask->dim[i] == 1 || mask->dim[i] == x->dim[i]);
    return bytes_only(bytes_of(x) + bytes_of(out) + bytes_of(mask));
}

static struct op_cost check_col_sum(const struct backend *be, const struct tensor *acc,
                                    const struct tensor *x)
{
    assert(x->ndim == 2);
    check_low_precision(be, x);
    check_count(be, acc, x->dim[1]);
    return bytes_only(bytes_of(x) + bytes_of(acc));
}

/* Rows of a table that idx picks, and the same rows one behind the other. */
static void check_table(const struct backend *be, const struct tensor *table,
                        const struct tensor *rows, const struct tensor *idx)
{
    assert(rows->ndim == 2 && table->ndim == 2 && rows->dim[1] == table->dim[1]);
    check_real(be, rows);
    check_real(be, table);
    check_index(idx, rows->dim[0]);
}

static struct op_cost check_gather_rows(const struct backend *be, const struct tensor *out,
                                        const struct tensor *table, const struct tensor *idx,
                                        double scale)
{
    (void)scale;
    check_table(be, table, out, idx);
    return bytes_only(2 * bytes_of(out));
}

static struct op_cost check_scatter_add_rows(const struct backend *be, const struct tensor *table,
                                             const struct tensor *x, const struct tensor *idx,
                                             double scale)
{
    (void)scale;
    check_table(be, table, x, idx);
    return bytes_only(3 * bytes_of(x));
}

static struct op_cost check_scatter_rows(const struct backend *be, const struct tensor *table,
                                         const struct tensor *x, const struct tensor *idx)
{
    check_table(be, table, x, idx);
    return bytes_only(2 * bytes_of(x));
}

/* ---- Normalisation ----------------------------------------------------------------------------
 */

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

/* ---- Attention --------------------------------------------------------------------------------
 */

/* Checks an attention call. Returns D times the number of scores. */
static double check_scores(const struct backend *be, const struct attention *p)
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
    /* The average number of keys that a query sees is P + (L+1)/2, and at most the span. */
    double seen = (double)mem + 0.5 * (double)(l + 1);
    double queries = (double)b * (double)l;
    if (p->rows.data != NULL) {
        check_index(&p->rows, p->rows.dim[0]);
        queries = (double)p->rows.dim[0];
    }
    return queries * (double)d * (seen < (double)reach ? seen : (double)reach);
}

/* The bytes that either direction moves. The q part of `mem` is ignored. */
static double attention_bytes(const struct attention *p)
{
    return bytes_of(&p->qkv) + bytes_of(&p->mem) * 2 / 3 + bytes_of(&p->rk) + bytes_of(&p->mask) +
           bytes_of(&p->out);
}

static struct op_cost check_attention(const struct backend *be, const struct attention *p)
{
    return (struct op_cost){.flops = 6 * check_scores(be, p), .bytes = attention_bytes(p)};
}

static struct op_cost check_attention_vjp(const struct backend *be, const struct attention_vjp *p)
{
    assert(p->fwd.rows.data == NULL);
    double work = check_scores(be, &p->fwd);
    check_real(be, &p->fwd.lse);
    check_count(be, &p->dout, tensor_count(&p->fwd.out));
    check_count(be, &p->dqkv, tensor_count(&p->fwd.qkv));
    check_optional(be, &p->dmem, tensor_count(&p->fwd.mem));
    check_optional(be, &p->drk, tensor_count(&p->fwd.rk));
    check_optional(be, &p->dr_w, tensor_count(&p->fwd.r_w));
    check_optional(be, &p->dr_r, tensor_count(&p->fwd.r_r));
    /* Two products for the scores, one each for dA, dV and dK, two for dQ, and one for drk. */
    double products = p->drk.data != NULL ? 8 : 7;
    return (struct op_cost){
        .flops = 2 * products * work,
        .bytes = attention_bytes(&p->fwd) + bytes_of(&p->dout) + bytes_of(&p->dqkv) +
                 bytes_of(&p->dmem) + 2 * bytes_of(&p->drk),
    };
}

static struct op_cost check_attention_tangent(const struct backend *be,
                                              const struct attention_tangent *p)
{
    assert(p->fwd.rows.data == NULL);
    double work = check_scores(be, &p->fwd), products = 7;
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
    return (struct op_cost){.flops = 2 * products * work, .bytes = 2 * attention_bytes(&p->fwd)};
}

/* ---- LSTM cell --------------------------------------------------------------------------------
 */

/* Sizes that both directions share. `gates` has 4H columns, z and out have 2H. */
static void check_cell(const struct backend *be, const struct tensor *gates, const struct tensor *z,
                       const struct tensor *c0, const struct tensor *out)
{
    check_real(be, gates);
    assert(gates->ndim == 3 && z->ndim == 3);
    assert(gates->dim[0] == z->dim[0] && gates->dim[1] >= z->dim[1]);
    assert(z->dim[2] % 2 == 0 && gates->dim[2] == 2 * z->dim[2]);
    check_real(be, z);
    check_count(be, out, tensor_count(z));
    check_optional(be, c0, z->dim[0] * z->dim[2] / 2);
}

static struct op_cost check_lstm_cell(const struct backend *be, const struct lstm_cell *p)
{
    check_cell(be, &p->pre, &p->z, &p->c0, &p->out);
    check_count(be, &p->u, tensor_count(&p->pre));
    check_count(be, &p->bias, p->pre.dim[2]);
    return bytes_only(3 * bytes_of(&p->pre) + 1.5 * bytes_of(&p->out));
}

static struct op_cost check_lstm_cell_vjp(const struct backend *be, const struct lstm_cell_vjp *p)
{
    check_cell(be, &p->gates, &p->z, &p->c0, &p->out);
    check_count(be, &p->dpre, tensor_count(&p->gates));
    check_count(be, &p->dout, tensor_count(&p->z));
    check_count(be, &p->dz, tensor_count(&p->z));
    check_optional(be, &p->dc0, p->z.dim[0] * p->z.dim[2] / 2);
    return bytes_only(2 * bytes_of(&p->gates) + 2.5 * bytes_of(&p->out));
}

/* ---- Softmax ----------------------------------------------------------------------------------
 */

static struct op_cost check_softmax_xent(const struct backend *be, const struct softmax_xent *p)
{
    assert(p->logits.ndim == 2);
    check_real(be, &p->logits);
    check_optional(be, &p->bias, p->logits.dim[1]);
    check_index(&p->target, p->logits.dim[0]);
    check_optional_index(&p->pos, p->logits.dim[0]);
    check_real(be, &p->nll);
    return bytes_only((p->gradient ? 2 : 1) * bytes_of(&p->logits));
}

static struct op_cost check_log_softmax(const struct backend *be, const struct tensor *logits,
                                        const struct tensor *bias)
{
    assert(logits->ndim == 2);
    check_real(be, logits);
    if (bias != NULL)
        check_optional(be, bias, logits->dim[1]);
    return bytes_only(2 * bytes_of(logits));
}

/* ---- Random numbers ---------------------------------------------------------------------------
 */

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

/* ---- Solvers ----------------------------------------------------------------------------------
 */

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

/* ---- Optimizer --------------------------------------------------------------------------------
 */

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

/* ---- The functions ----------------------------------------------------------------------------
 */

static void count_call(struct backend *be, enum op_id id, double start, struct op_cost cost)
{
    struct op_stat *stat = &be->stat[id];
    stat->seconds += be->seconds_of != NULL ? be->seconds_of(be, id, cost.flops, cost.bytes)
                                            : clock_seconds() - start;
    stat->calls++;
    stat->flops += cost.flops;
    stat->bytes += cost.bytes;
    if (id == OP_download)
        be->syncs++;
}

#define OP(name, args, ...)                         \
    void op_##name(struct backend *be, __VA_ARGS__) \
    {                                               \
        struct op_cost cost = check_##name args;    \
        double start = clock_seconds();             \
        be->ops->name args;                         \
        count_call(be, OP_##name, start, cost);     \
    }
OP_LIST(OP)
#undef OP
