/* The optimizer: the norm of a gradient, Adam's update, and the elementwise parts of Muon's. */
#ifndef DEQ_BACKEND_OPS_OPTIMIZER_H
#define DEQ_BACKEND_OPS_OPTIMIZER_H

#include "backend/tensor.h"
#include <stdbool.h>

/* sum_squares  acc += sum x^2, accumulated in double precision. acc is F64 [1].
 * unit_norm    y = x / max(sqrt(norm2), least). norm2 is F64 [1], the squared norm of x. */
#define OPTIMIZER_OPS(OP)                                                                   \
    OP(sum_squares, (be, acc, x), const struct tensor *acc, const struct tensor *x)         \
    OP(adam, (be, p), const struct adam *p)                                                 \
    OP(momentum, (be, p), const struct momentum *p)                                         \
    OP(unit_norm, (be, y, x, norm2, least), const struct tensor *y, const struct tensor *x, \
       const struct tensor *norm2, double least)                                            \
    OP(descend, (be, p), const struct descend *p)

/* Each block of this many consecutive parameters belongs to one group. */
enum { ADAM_BLOCK = 16, ADAM_GROUPS = 4 };

/* What a group's parameters are updated with. */
struct adam_group {
    double lr, beta2, decay;
};

/* One Adam or AdamW update (Kingma & Ba 2015, Loshchilov & Hutter 2019) over flat arrays.
 * The gradient is first scaled by min(1, clip / (sqrt(norm2) + 1e-6)), or not at all if clip is 0.
 * If norm2 is not finite, nothing changes. g itself is left as it is. `step` counts from 1. `decay`
 * is decoupled, w -= lr * decay * w with the old w. If `coupled`, decay * w is added to the scaled
 * gradient in its place. If `cautious`, which excludes `coupled`, a number decays only where its
 * new m and its old w have a product that is not negative, so that both pull the same way (Chen et
 * al. 2025, arXiv 2510.12402). */
struct adam {
    struct tensor w, g, m, v; /* [n] */
    struct tensor norm2;      /* F64 [1], the squared global norm of the gradient */
    double beta1, eps, clip;
    int64_t step;
    struct adam_group group[ADAM_GROUPS];
    struct tensor groups; /* U8 [n / ADAM_BLOCK rounded up], or NULL if all are of group 0 */
    bool coupled, cautious;
};

/* m = beta m + (1 - beta) s g, and then g = beta m + (1 - beta) s g, a mean that looks one step
 * ahead (Nesterov), with the scale s, clip and norm2 as in struct adam. */
struct momentum {
    struct tensor g, m;  /* [n] */
    struct tensor norm2; /* F64 [1] */
    double beta, clip;
};

/* w = (1 - shrink) w - rate u with the old w. If `cautious`, w shrinks only where u w is not
 * negative. If norm2 is not finite, nothing changes. */
struct descend {
    struct tensor w, u;  /* of equal counts */
    struct tensor norm2; /* F64 [1] */
    double rate, shrink;
    bool cautious;
};

#endif
