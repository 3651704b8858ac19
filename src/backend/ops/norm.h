/* Normalisation: residual connection and norm of rows, and the weight norm of parameters. */
#ifndef DEQ_BACKEND_OPS_NORM_H
#define DEQ_BACKEND_OPS_NORM_H

#include "backend/tensor.h"

/* weight_norm  Normalises the rows of [R,C] (Salimans & Kingma 2016).
 *              inv[r] = 1 / ||v[r,:]||, an output [R], and w[r,:] = g[r] * v[r,:] * inv[r]. */
#define NORM_OPS(OP)                                                                      \
    OP(residual_norm, (be, p), const struct residual_norm *p)                             \
    OP(residual_norm_vjp, (be, p), const struct residual_norm_vjp *p)                     \
    OP(norm_vjp_tangent, (be, p), const struct norm_vjp_tangent *p)                       \
    OP(weight_norm, (be, w, inv, v, g), const struct tensor *w, const struct tensor *inv, \
       const struct tensor *v, const struct tensor *g)                                    \
    OP(weight_norm_vjp, (be, p), const struct weight_norm_vjp *p)

/* How a row is normalised. */
enum norm_kind {
    NORM_NONE,
    NORM_LAYER, /* (s - mean) * rstd with the biased variance, no gain and no bias */
    NORM_RMS    /* s * rstd * gain with rstd = 1 / sqrt(mean(s^2) + eps) */
};

/* One pass over N rows of D numbers.
 *   s = (a + bias) * mask + res
 *   y = norm(s)
 * Row n uses mask row n / rows_per_mask. These tensors may have data NULL, and are then left out:
 * bias, mask, res, gain (a factor of 1), sum, xhat, rstd, and y with NORM_NONE only. */
struct residual_norm {
    struct tensor a;    /* [N,D] */
    struct tensor bias; /* [D] */
    struct tensor mask; /* [N / rows_per_mask, D] */
    struct tensor res;  /* [N,D], may be the same tensor as `sum` or `y` */
    struct tensor gain; /* [D], NORM_RMS only */
    struct tensor sum;  /* [N,D] out, s. May be the same as `a` */
    struct tensor y;    /* [N,D] out, may be the same as `a` */
    struct tensor xhat; /* [N,D] out, the normalised s before the gain */
    struct tensor rstd; /* [N] out */
    int64_t rows_per_mask;
    enum norm_kind kind;
    double eps;
};

/* The vector-Jacobian product of residual_norm.
 *   ds = norm'(s)^T dy + dsum
 *   da = ds * mask
 *   dgain += sum over rows of dy * xhat
 * The gradient of `res` is ds. The gradient of bias is the column sum of da (col_sum). */
struct residual_norm_vjp {
    struct tensor dy;    /* [N,D], NULL with NORM_NONE */
    struct tensor dsum;  /* [N,D] or NULL, the gradient that reaches s directly */
    struct tensor xhat;  /* [N,D] as saved, unused with NORM_NONE */
    struct tensor rstd;  /* [N] as saved, unused with NORM_NONE */
    struct tensor gain;  /* [D] or NULL */
    struct tensor mask;  /* [N / rows_per_mask, D] or NULL */
    struct tensor ds;    /* [N,D] out, may be the same as dy or dsum */
    struct tensor da;    /* [N,D] out, or NULL without a mask, where it equals ds */
    struct tensor dgain; /* [D] accumulated, or NULL */
    int64_t rows_per_mask;
    enum norm_kind kind;
};

/* The derivative of residual_norm_vjp along a direction, and the vjp itself. s moves along s_t, and
 * the cotangents dy and dsum move along dy_t and dsum_t. vjp.ds and vjp.da are written as
 * residual_norm_vjp writes them. ds_t and da_t receive their derivatives, and vjp.dgain accumulates
 * the derivative of the gain's gradient alone. With
 *   rho    = -rstd mean(xhat s_t)
 *   xhat_t = rstd (s_t - mean(s_t) - xhat mean(xhat s_t)), for NORM_RMS without mean(s_t)
 *   g      = dy gain
 *   g_t    = dy_t gain
 * the derivative is
 *   ds_t = rho norm'(s)^T dy + rstd (g_t - mean(g_t) - xhat_t mean(g xhat)
 *          - xhat (mean(g_t xhat) + mean(g xhat_t))) + dsum_t
 * Outputs may be inputs as in residual_norm_vjp, derivatives in place of derivatives. s_t is only
 * read. */
struct norm_vjp_tangent {
    struct residual_norm_vjp vjp;
    struct tensor s_t;    /* [N,D], NULL with NORM_NONE */
    struct tensor dy_t;   /* [N,D], or NULL for 0 */
    struct tensor dsum_t; /* [N,D], or NULL for 0 */
    struct tensor ds_t;   /* [N,D] out, may be the same as dy_t or dsum_t */
    struct tensor da_t;   /* [N,D] out, NULL exactly if vjp.da is */
};

/* The vector-Jacobian product of weight_norm.
 *   dg[r] += dw . v inv
 *   dv    += g inv (dw - (dw . v inv^2) v)
 * dv may be dw. It is then overwritten and not added to. */
struct weight_norm_vjp {
    struct tensor dv;  /* [R,C] accumulated */
    struct tensor dg;  /* [R] accumulated */
    struct tensor dw;  /* [R,C] */
    struct tensor v;   /* [R,C] as given to weight_norm */
    struct tensor g;   /* [R] as given to weight_norm */
    struct tensor inv; /* [R] as weight_norm left it */
};

#endif
