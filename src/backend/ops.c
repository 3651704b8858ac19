/* The doors to the table: memory, products, elementwise operations. */
#include "backend/op_checks.h"

enum status op_alloc(struct backend *be, struct tensor *t, enum dtype dtype, int ndim, int64_t d0,
                     int64_t d1, int64_t d2, int64_t d3, struct error *err)
{
    struct tensor made = tensor_make(NULL, dtype, ndim, d0, d1, d2, d3);
    assert(d0 >= 0 && d1 >= 0 && d2 >= 0 && d3 >= 0);
    *t = made;
    size_t bytes = tensor_bytes(&made);
    TRY(be->ops->alloc(be, &made.data, bytes, err));
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
    be->ops->release(be, t->data);
    t->data = NULL;
}

void op_upload(struct backend *be, const struct tensor *dst, const void *src, enum dtype src_type)
{
    assert(src_type == dst->dtype ||
           (dst->dtype == be->ops->real && (src_type == DTYPE_F32 || src_type == DTYPE_F64)));
    PROFILE(OP_upload, 0, bytes_of(dst), be->ops->upload(be, dst, src, src_type));
}

void op_download(struct backend *be, void *dst, enum dtype dst_type, const struct tensor *src)
{
    assert(dst_type == src->dtype || ((src->dtype == DTYPE_F32 || src->dtype == DTYPE_F64) &&
                                      (dst_type == DTYPE_F32 || dst_type == DTYPE_F64)));
    be->syncs++;
    PROFILE(OP_download, 0, bytes_of(src), be->ops->download(be, dst, dst_type, src));
}

void op_copy(struct backend *be, const struct tensor *dst, const struct tensor *src)
{
    assert(dst->dtype == src->dtype && tensor_count(dst) == tensor_count(src));
    PROFILE(OP_copy, 0, 2 * bytes_of(src), be->ops->copy(be, dst, src));
}

void op_fill(struct backend *be, const struct tensor *t, double value)
{
    PROFILE(OP_fill, 0, bytes_of(t), be->ops->fill(be, t, value));
}

void op_gemm_block(struct backend *be, const struct gemm *p)
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
    double bytes =
        bytes_of(&p->a) + bytes_of(&p->b) + bytes_of(&p->c) + (p->beta != 0 ? bytes_of(add) : 0);
    PROFILE(OP_gemm, 2.0 * (double)m * (double)n * (double)k, bytes, be->ops->gemm(be, p));
}

void op_gemm(struct backend *be, bool trans_a, bool trans_b, double alpha, const struct tensor *a,
             const struct tensor *b, double beta, const struct tensor *c)
{
    struct gemm p = {.trans_a = trans_a,
                     .trans_b = trans_b,
                     .alpha = alpha,
                     .beta = beta,
                     .a = *a,
                     .b = *b,
                     .c = *c};
    op_gemm_block(be, &p);
}

/* Sizes that both directions share; x is the narrower end, h the layer or its gradient. */
static void check_hidden(const struct backend *be, const struct tensor *x, const struct tensor *h,
                         const struct tensor *mask, const struct tensor *gate,
                         int64_t rows_per_mask)
{
    int64_t n = x->dim[0], width = h->dim[1];
    check_real(be, x);
    check_low_precision(be, h);
    assert(h->dtype == op_low_precision(be) && x->ndim == 2 && h->ndim == 2 && h->dim[0] == n);
    check_mask(be, mask, n, width, rows_per_mask);
    assert(gate->data == NULL ||
           (gate->dtype == DTYPE_U8 && tensor_count(gate) == n * op_relu_mask_width(be, width)));
}

void op_ffn_up(struct backend *be, const struct ffn_up *p)
{
    int64_t n = p->x.dim[0], d = p->x.dim[1], width = p->h.dim[1];
    check_hidden(be, &p->x, &p->h, &p->mask, &p->relu_mask, p->rows_per_mask);
    check_low_precision(be, &p->w);
    check_count(be, &p->bias, width);
    assert(p->w.dtype == p->h.dtype && p->w.ndim == 2);
    assert(p->w.dim[0] == width && p->w.dim[1] == d && (p->w_stride == 0 || p->w_stride >= d));
    assert(p->mask.data == NULL || p->mask_scale > 0);
    if (op_low_precision(be) == DTYPE_BF16) {
        int64_t rows = p->mask.data != NULL ? n / p->rows_per_mask : 0;
        assert(p->w_stride >= d + op_ffn_up_padding(be, rows));
    }
    double bytes = bytes_of(&p->x) + bytes_of(&p->w) + bytes_of(&p->h) + bytes_of(&p->relu_mask);
    PROFILE(OP_ffn_up, 2.0 * (double)n * (double)d * (double)width, bytes, be->ops->ffn_up(be, p));
}

void op_ffn_up_vjp(struct backend *be, const struct ffn_up_vjp *p)
{
    int64_t n = p->dy.dim[0], d = p->dy.dim[1], width = p->dh.dim[1];
    check_hidden(be, &p->dy, &p->dh, &p->mask, &p->relu_mask, p->rows_per_mask);
    check_low_precision(be, &p->w);
    assert(p->w.dtype == p->dh.dtype);
    if (p->h.data != NULL)
        assert(p->h.dtype == p->dh.dtype && tensor_count(&p->h) == n * width);
    else
        assert(n == 0 || (p->relu_mask.data != NULL && be->ops->ffn_rows > 0));
    assert(p->w.ndim == 2 && p->w.dim[p->forward ? 0 : 1] == width);
    assert(p->w.dim[p->forward ? 1 : 0] == d && (p->w_stride == 0 || p->w_stride >= p->w.dim[1]));
    assert(p->mask.data == NULL || p->mask_scale > 0);
    const struct tensor *gate = p->relu_mask.data != NULL ? &p->relu_mask : &p->h;
    double bytes = bytes_of(&p->dy) + bytes_of(&p->w) + bytes_of(&p->dh) + bytes_of(gate);
    PROFILE(OP_ffn_up_vjp, 2.0 * (double)n * (double)d * (double)width, bytes,
            be->ops->ffn_up_vjp(be, p));
}

void op_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
              double b)
{
    check_real(be, y);
    check_count(be, x, tensor_count(y));
    PROFILE(OP_axpby, 0, (b != 0 ? 3 : 2) * bytes_of(y), be->ops->axpby(be, y, a, x, b));
}

void op_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                  const struct tensor *mask)
{
    check_count(be, out, tensor_count(x));
    check_real(be, mask);
    assert(x->ndim == 3 && mask->ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(mask->dim[i] == 1 || mask->dim[i] == x->dim[i]);
    PROFILE(OP_mul_bcast, 0, bytes_of(x) + bytes_of(out) + bytes_of(mask),
            be->ops->mul_bcast(be, out, x, mask));
}

void op_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    assert(x->ndim == 2);
    check_low_precision(be, x);
    check_count(be, acc, x->dim[1]);
    PROFILE(OP_col_sum, 0, bytes_of(x) + bytes_of(acc), be->ops->col_sum(be, acc, x));
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
    check_low_precision(be, &p->to);
    check_real(be, &p->from);
    assert(p->to.dtype == be->ops->real || p->mask.data == NULL);
    assert(p->to.ndim == 3 && p->from.ndim == 3);
    for (int i = 0; i < 3; i++)
        assert(p->to.dim[i] == p->from.dim[i]);
    check_strides(&p->to, p->to_batch, p->to_row);
    check_strides(&p->from, p->from_batch, p->from_row);
    check_optional(be, &p->mask, p->to.dim[0] * p->to.dim[2]);
    PROFILE(OP_copy_block, 0, bytes_of(&p->from) + bytes_of(&p->to), be->ops->copy_block(be, p));
}
