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

void causal_conv_eval(const struct causal_conv *c, struct backend *be, const struct tensor *x,
                      const struct tensor *y, int64_t length)
{
    for (int64_t j = 0; j < c->taps; j++) {
        struct gemm p = {.trans_b = true,
                         .alpha = 1,
                         .beta = j == 0 ? 0 : 1,
                         .a = rows_from(x, j * c->dilation, length),
                         .b = tap(c, &c->weight.w, j),
                         .c = rows_from(y, 0, length),
                         .b_stride = c->weight.w.dim[1]};
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
