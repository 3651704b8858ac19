/* The optimizer: the norm of a gradient, and Adam's update. */
#ifndef DEQ_BACKEND_OPS_OPTIMIZER_H
#define DEQ_BACKEND_OPS_OPTIMIZER_H

#include "backend/tensor.h"
#include <stdbool.h>

/* sum_squares  acc += sum x^2, accumulated in double precision. acc is F64 [1]. */
#define OPTIMIZER_OPS(OP)                                                           \
    OP(sum_squares, (be, acc, x), const struct tensor *acc, const struct tensor *x) \
    OP(adam, (be, p), const struct adam *p)

/* Weight decay is switched on or off for blocks of this many consecutive parameters. */
enum { ADAM_BLOCK = 16 };

/* One Adam or AdamW update (Kingma & Ba 2015, Loshchilov & Hutter 2019) over flat arrays.
 * The gradient is first scaled by min(1, clip / (sqrt(norm2) + 1e-6)), or not at all if clip is 0.
 * If norm2 is not finite, nothing changes. g itself is left as it is. `step` counts from 1. `decay`
 * is decoupled, w -= lr * decay * w with the old w. If `coupled`, decay * w is added to the scaled
 * gradient in its place. */
struct adam {
    struct tensor w, g, m, v; /* [n] */
    struct tensor norm2;      /* F64 [1], the squared global norm of the gradient */
    double lr, beta1, beta2, eps, decay, clip;
    int64_t step;
    struct tensor decays; /* U8 [n / ADAM_BLOCK rounded up], 0 for no decay, or NULL for all */
    bool coupled;
};

#endif
