/* Activations between the two products of a feed-forward network, and the logistic function. */
#ifndef DEQ_BACKEND_OPS_ACTIVATION_H
#define DEQ_BACKEND_OPS_ACTIVATION_H

#include "backend/tensor.h"

/* sigmoid      y = 1 / (1 + exp(-x))
 * sigmoid_vjp  dx += dy y (1 - y), with y as sigmoid left it */
#define ACTIVATION_OPS(OP)                                                            \
    OP(activate, (be, p), const struct activate *p)                                   \
    OP(activate_vjp, (be, p), const struct activate_vjp *p)                           \
    OP(activate_tangent, (be, p), const struct activate_tangent *p)                   \
    OP(sigmoid, (be, y, x), const struct tensor *y, const struct tensor *x)           \
    OP(sigmoid_vjp, (be, dx, y, dy), const struct tensor *dx, const struct tensor *y, \
       const struct tensor *dy)

enum activation {
    ACTIVATION_RELU,  /* max(x, 0) */
    ACTIVATION_RELU2, /* max(x, 0)^2 (So et al. 2021) */
    ACTIVATION_SWIGLU /* silu(a) b for x = [a, b], with silu(a) = a / (1 + exp(-a)) (Shazeer 2020)
                       */
};

/* How many numbers of x make one of h. */
static inline int64_t activation_inputs(enum activation kind)
{
    return kind == ACTIVATION_SWIGLU ? 2 : 1;
}

/* h = activation(x). A NaN of x passes on. */
struct activate {
    struct tensor x; /* [N,I], or [N,2I] with SWIGLU: the gates, then what they let through */
    struct tensor h; /* low-precision [N,I] out */
    enum activation kind;
};

/* dx = J^T dh. The slope of a rectifier at 0 is 0. */
struct activate_vjp {
    struct tensor x;  /* as given to activate */
    struct tensor dh; /* [N,I] */
    struct tensor dx; /* low-precision, of x's shape, out */
    enum activation kind;
};

/* Derivatives while x moves along x_t. h_t is that of h. With dh, dx is the vjp, and dx_t its
 * derivative while dh moves along dh_t. */
struct activate_tangent {
    struct tensor x, x_t;   /* as given to activate */
    struct tensor h_t;      /* low-precision [N,I] out, or NULL */
    struct tensor dh, dh_t; /* [N,I], or both NULL */
    struct tensor dx, dx_t; /* low-precision, of x's shape, out, with dh */
    enum activation kind;
};

#endif
