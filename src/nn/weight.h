/* A weight matrix as a layer sees it, with its value and where its gradient is gathered. */
#ifndef DEQ_NN_WEIGHT_H
#define DEQ_NN_WEIGHT_H

#include "backend/workspace.h"

struct weight {
    struct tensor w;  /* borrows the effective value (after weight normalisation) */
    struct tensor dw; /* borrows the gradient with respect to w, accumulated */
    /* w as products take it where low precision is not real (ops.h), else data NULL. It lies in a
     * workspace, and is padded as b_padded says in struct gemm. weight_round makes it from w and
     * must be called again whenever w has changed. */
    struct tensor low;
    int64_t stride; /* between rows of `low` */
};

/* Declares the low-precision value of w, whose shape is known, if the backend has such values.
 * `padding` numbers lie behind every row. */
static inline void weight_declare_low_precision(struct weight *w, struct workspace *ws,
                                                int64_t padding)
{
    enum dtype low = op_low_precision(ws->be);
    if (low == ws->be->ops->real)
        return;
    w->stride = low_precision_up(w->w.dim[1] + padding);
    workspace_declare(ws, &w->low,
                      &(struct buffer){.name = "low-precision weight",
                                       .dtype = low,
                                       .ndim = 2,
                                       .dim = {low_precision_up(w->w.dim[0]), w->stride},
                                       .life = lives_always(),
                                       .part = PART_PARAMETERS});
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

/* The value for a product, without the padding behind its rows. They are w->stride numbers apart,
 * or lie without gaps if that is 0. */
static inline struct tensor weight_factor(const struct weight *w)
{
    struct tensor t = w->w;
    if (w->low.data != NULL) {
        t.data = w->low.data;
        t.dtype = w->low.dtype;
    }
    return t;
}

/* y[N,out] = x[N,in] w^T + u with w [out,in]. u has y's count, or no data and stands for 0. */
static inline void weight_apply_to(struct backend *be, const struct weight *w,
                                   const struct tensor *x, const struct tensor *u,
                                   const struct tensor *y)
{
    struct gemm p = {.trans_b = true,
                     .b_padded = true,
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
                     .b_padded = true,
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
    struct gemm p = {.b_padded = true,
                     .alpha = 1,
                     .beta = beta,
                     .a = *dy,
                     .b = weight_factor(w),
                     .c = *dx,
                     .b_stride = w->stride};
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
