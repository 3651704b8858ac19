/* A weight matrix as a layer sees it: its value, and where its gradient is gathered. */
#ifndef DEQ_NN_WEIGHT_H
#define DEQ_NN_WEIGHT_H

#include "ops/backend.h"

struct weight {
    struct tensor w;  /* borrows: the effective value (after weight normalisation) */
    struct tensor dw; /* borrows: gradient with respect to w, accumulated */
};

/* y[N,out] = x[N,in] w^T + beta * y, w [out,in]. */
static inline void weight_apply(struct backend *be, const struct weight *w, const struct tensor *x,
                                double beta, const struct tensor *y)
{
    op_gemm(be, false, true, 1.0, x, &w->w, beta, y);
}

/* dx[N,in] = dy[N,out] w + beta * dx. */
static inline void weight_vjp(struct backend *be, const struct weight *w, const struct tensor *dy,
                              double beta, const struct tensor *dx)
{
    op_gemm(be, false, false, 1.0, dy, &w->w, beta, dx);
}

/* dw += dy^T x. */
static inline void weight_gradient(struct backend *be, const struct weight *w,
                                   const struct tensor *dy, const struct tensor *x)
{
    op_gemm(be, true, false, 1.0, dy, x, 1.0, &w->dw);
}

#endif
