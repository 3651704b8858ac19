/* The orthogonal factor of a matrix X = U S V^T, about U V^T, by the iteration of Newton and Schulz
 * with the coefficients of Jordan et al. (2024, "Muon"). Five steps of the quintic
 *   X <- a X + (b A + c A A) X,  A = X X^T
 * take singular values from 0.002 to 1 to values from 0.68 to 1.21, which is all that the optimizer
 * asks for. Smaller ones grow by a factor of up to 485. Everything is done by products, in the
 * precision that the backend has for them, at a cost of 4 s^2 l + 2 s^3 floating-point operations a
 * step for sides s <= l. */
#ifndef DEQ_OPTIMIZER_NEWTON_SCHULZ_H
#define DEQ_OPTIMIZER_NEWTON_SCHULZ_H

#include "backend/workspace.h"

enum { NEWTON_SCHULZ_STEPS = 5 };

/* Scratch for matrices of up to a size, in a workspace. */
struct newton_schulz {
    struct tensor other;            /* a second matrix */
    struct tensor gram, polynomial; /* A and b A + c A A, square of the smaller side */
    struct tensor norm2;            /* F64 [1] */
};

/* Declares buffers for matrices of at most `largest` numbers whose smaller sides are at most
 * `side`. */
void newton_schulz_declare(struct newton_schulz *s, struct workspace *ws, int64_t largest,
                           int64_t side);

/* Makes x [rows, cols] the factor. A matrix whose norm is below 1e-7 stays small. */
void newton_schulz(const struct newton_schulz *s, struct backend *be, const struct tensor *x);

#endif
