/* Matrix products, and the wide layer of a feed-forward network, which is a product with its bias,
 * rectifier and dropout mask. */
#ifndef DEQ_BACKEND_OPS_PRODUCT_H
#define DEQ_BACKEND_OPS_PRODUCT_H

#include "backend/tensor.h"
#include <stdbool.h>

#define PRODUCT_OPS(OP)                         \
    OP(gemm, (be, p), const struct gemm *p)     \
    OP(ffn_up, (be, p), const struct ffn_up *p) \
    OP(ffn_up_vjp, (be, p), const struct ffn_up_vjp *p)

/* c = alpha * op(a) * op(b) + beta * c. All are 2-D, and op transposes where the flag is set.
 * a and b may be low-precision. With beta = 0, c is overwritten even where it holds a NaN. An empty
 * inner dimension leaves beta * c. A stride other than 0 is the distance between rows of a, b or c
 * in memory. The tensor is then a block of columns of a wider matrix, and not contiguous. With
 * `add`, beta multiplies `add` in place of c. With `b_padded`, a BF16 b has finite numbers behind
 * each row, and rows of them behind its last, up to multiples of LOW_PRECISION_ALIGN. A device may
 * read them against zeros. */
struct gemm {
    bool trans_a, trans_b, b_padded;
    double alpha, beta;
    struct tensor a, b, c;
    int64_t a_stride, b_stride, c_stride;
    struct tensor add; /* of c's count and not c itself, or NULL for c */
};

/* h = relu(x w^T + bias) * mask.
 * Row n uses mask row n / rows_per_mask. Every number of the mask is 0 or mask_scale. relu passes a
 * NaN on, except where h is BF16. There a NaN may become 0, because the device's library makes it
 * so, and the residual connection around the network still keeps the NaN of x. A BF16 h is rounded
 * once, at the end.
 * Where h is BF16, each row of w has padding behind its D numbers, so that w_stride is at least
 * D + op_ffn_up_padding. The backend uses the padding and leaves any finite values there. */
struct ffn_up {
    struct tensor x;         /* [N,D] */
    struct tensor w;         /* low-precision [I,D], rows w_stride apart (0 means contiguous) */
    struct tensor bias;      /* [I] */
    struct tensor mask;      /* [N / rows_per_mask, I], or NULL for a factor of 1 */
    struct tensor h;         /* low-precision [N,I] out */
    struct tensor relu_mask; /* U8 [N, op_relu_mask_width] out for ffn_up_vjp, or NULL */
    int64_t w_stride, rows_per_mask;
    double mask_scale;
};

/* The vector-Jacobian product of ffn_up, or with `forward` its Jacobian-vector product.
 *   dh = h > 0 ? (dy w) * mask : 0
 *   dh = h > 0 ? (dy w^T) * mask : 0    with `forward`
 * `relu_mask` is what ffn_up left there for the same h, sizes and mask, or NULL. A backend whose
 * table sets ffn_rows reads it in place of h, and h may then be NULL. */
struct ffn_up_vjp {
    struct tensor dy; /* [N,D] */
    /* Low-precision [D,I], or [I,D] with `forward`, with rows as in struct ffn_up. If it is BF16 it
     * is padded as b_padded says in struct gemm. */
    struct tensor w;
    struct tensor mask;      /* as in struct ffn_up */
    struct tensor h;         /* low-precision [N,I] or NULL */
    struct tensor relu_mask; /* U8 [N, op_relu_mask_width] or NULL */
    struct tensor dh;        /* low-precision [N,I] out */
    int64_t w_stride, rows_per_mask;
    double mask_scale;
    bool forward;
};

#endif
