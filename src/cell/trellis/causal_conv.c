#include "cell/trellis/causal_conv.h"

/* Columns of tap j, all rows, out of [out, taps * in]. */
static struct tensor tap(const struct causal_conv *c, const struct tensor *weight, int64_t j)
{
    int64_t in = weight->dim[1] / c->taps;
    char *data = (char *)weight->data + (size_t)(j * in) * dtype_size(weight->dtype);
    return tensor_make(data, weight->dtype, 2, weight->dim[0], in, 1, 1);
}

/* The rows from `first` up to the last position, which a product over all sequences covers. */
static struct tensor rows_from(const struct tensor *t, int64_t first, int64_t length)
{
    struct tensor rows = tensor_matrix(t);
    return tensor_slice(&rows, first, (t->dim[0] - 1) * t->dim[1] + length);
}

/* Position `at` of every sequence of t [B,T,W], as rows [B,W] that lie T * W numbers apart. */
static struct tensor position_of(const struct tensor *t, int64_t at)
{
    char *data = (char *)t->data + (size_t)(at * t->dim[2]) * dtype_size(t->dtype);
    return tensor_make(data, t->dtype, 2, t->dim[0], t->dim[2], 1, 1);
}

/* For a single position the rows between those of two sequences are left out. Their number would
 * otherwise decide how the product is computed, and a text would depend on how many are made with
 * it (generate/generation.h). */
static void choose_rows(struct gemm *p, const struct tensor *x, const struct tensor *y,
                        int64_t first, int64_t length)
{
    bool single = length == 1;
    p->a = single ? position_of(x, first) : rows_from(x, first, length);
    p->c = single ? position_of(y, 0) : rows_from(y, 0, length);
    p->a_stride = single ? x->dim[1] * x->dim[2] : 0;
    p->c_stride = single ? y->dim[1] * y->dim[2] : 0;
}

void causal_conv_eval(const struct causal_conv *c, struct backend *be, const struct tensor *x,
                      const struct tensor *y, int64_t length)
{
    for (int64_t j = 0; j < c->taps; j++) {
        struct gemm p = {.trans_b = true,
                         .alpha = 1,
                         .beta = j == 0 ? 0 : 1,
                         .b = tap(c, &c->weight.w, j),
                         .b_stride = c->weight.w.dim[1]};
        choose_rows(&p, x, y, j * c->dilation, length);
        op_gemm(be, &p);
    }
}

void causal_conv_vjp(const struct causal_conv *c, struct backend *be, const struct tensor *dy,
                     const struct tensor *dx, int64_t length)
{
    for (int64_t j = 0; j < c->taps; j++) {
        struct gemm p = {.alpha = 1,
                         .beta = j == 0 ? 0 : 1,
                         .a = rows_from(dy, (c->taps - 1 - j) * c->dilation, length),
                         .b = tap(c, &c->weight.w, j),
                         .c = rows_from(dx, 0, length),
                         .b_stride = c->weight.w.dim[1]};
        op_gemm(be, &p);
    }
}

void causal_conv_gradient(const struct causal_conv *c, struct backend *be, const struct tensor *dy,
                          const struct tensor *x, int64_t length)
{
    for (int64_t j = 0; j < c->taps; j++) {
        struct gemm p = {.trans_a = true,
                         .alpha = 1,
                         .beta = 1,
                         .a = rows_from(dy, 0, length),
                         .b = rows_from(x, j * c->dilation, length),
                         .c = tap(c, &c->weight.dw, j),
                         .c_stride = c->weight.w.dim[1]};
        op_gemm(be, &p);
    }
}
