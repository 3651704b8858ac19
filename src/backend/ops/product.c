/* What operations of products and of the feed-forward layer demand and cost, and their functions.
 */
#include "backend/ops/op_functions.h"

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

PRODUCT_OPS(DEFINE_OP)
