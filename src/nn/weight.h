/* A weight matrix as a layer sees it: its value, and where its gradient is gathered. */
#ifndef DEQ_NN_WEIGHT_H
#define DEQ_NN_WEIGHT_H

#include "backend/backend.h"

struct weight {
    struct tensor w;  /* borrows: the effective value (after weight normalisation) */
    struct tensor dw; /* borrows: gradient with respect to w, accumulated */
    /* owns: w as products take it where low-precision is not real (ops.h), else data NULL.
     * weight_round makes it from w, which must be repeated whenever w changes: once a step. */
    struct tensor low;
    int64_t stride; /* between rows of low-precision */
};

/* Room for the low-precision value, if there is one, with `room` numbers behind every row. */
static inline enum status weight_create_low_precision(struct weight *w, struct backend *be,
                                                      int64_t room, struct error *err)
{
    if (op_low_precision(be) == be->ops->real)
        return STATUS_OK;
    w->stride = low_precision_up(w->w.dim[1] + room);
    return op_alloc(be, &w->low, op_low_precision(be), 2, w->w.dim[0], w->stride, 1, 1, err);
}

static inline void weight_round(struct backend *be, const struct weight *w)
{
    if (w->low.data == NULL)
        return;
    struct copy_block p = {.to = tensor_shape(&w->w, 3, 1, w->w.dim[0], w->w.dim[1], 1),
                           .from = tensor_shape(&w->w, 3, 1, w->w.dim[0], w->w.dim[1], 1),
                           .to_row = w->stride};
    p.to.data = w->low.data;
    p.to.dtype = w->low.dtype;
    op_copy_block(be, &p);
}

/* The value for a product, without the room behind its rows; they are w->stride apart (0: not). */
static inline struct tensor weight_factor(const struct weight *w)
{
    struct tensor t = w->w;
    if (w->low.data != NULL) {
        t.data = w->low.data;
        t.dtype = w->low.dtype;
    }
    return t;
}

/* y[N,out] = x[N,in] w^T + u, w [out,in]; u, of y's count, may have no data: 0. */
static inline void weight_apply_to(struct backend *be, const struct weight *w,
                                   const struct tensor *x, const struct tensor *u,
                                   const struct tensor *y)
{
    struct gemm p = {.trans_b = true,
                     .alpha = 1,
                     .beta = u->data != NULL ? 1 : 0,
                     .a = *x,
                     .b = weight_factor(w),
                     .c = *y,
                     .b_stride = w->stride,
                     .add = *u};
    op_gemm(be, &p);
}

/* y[N,out] = x[N,in] w^T + beta * y. */
static inline void weight_apply(struct backend *be, const struct weight *w, const struct tensor *x,
                                double beta, const struct tensor *y)
{
    struct gemm p = {.trans_b = true,
                     .alpha = 1,
                     .beta = beta,
                     .a = *x,
                     .b = weight_factor(w),
                     .c = *y,
                     .b_stride = w->stride};
    op_gemm(be, &p);
}

/* dx[N,in] = dy[N,out] w + beta * dx. */
static inline void weight_vjp(struct backend *be, const struct weight *w, const struct tensor *dy,
                              double beta, const struct tensor *dx)
{
    struct gemm p = {
        .alpha = 1, .beta = beta, .a = *dy, .b = weight_factor(w), .c = *dx, .b_stride = w->stride};
    op_gemm(be, &p);
}

/* dw += dy^T x. */
static inline void weight_gradient(struct backend *be, const struct weight *w,
                                   const struct tensor *dy, const struct tensor *x)
{
    op_gemm(be,
            &(struct gemm){.trans_a = true, .alpha = 1, .beta = 1, .a = *dy, .b = *x, .c = w->dw});
}

#endif
