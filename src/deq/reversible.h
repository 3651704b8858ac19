/* Reversible steps (RevDEQ, arXiv 2509.12917): two states that are relaxed towards f of each other,
 *   y_{n+1} = (1 - b) y_n + b f(z_n),  z_{n+1} = (1 - b) z_n + b f(y_{n+1}),  y_0 = z_0
 * and tend to the equilibrium of f together. A step can be undone from its result,
 *   z_n = (z_{n+1} - b f(y_{n+1})) / (1 - b),  y_n = (y_{n+1} - b f(z_n)) / (1 - b)
 * so that plain back-propagation through all steps is exact although only the last states are kept.
 * N steps take 2 N evaluations of f, and their gradient takes 2 N - 1 more and 2 N products with
 * J^T. Undoing a step divides rounding errors by 1 - b. */
#ifndef DEQ_DEQ_REVERSIBLE_H
#define DEQ_DEQ_REVERSIBLE_H

#include "cell/cell.h"

struct reversible_plan {
    struct workspace *ws;         /* borrows */
    int64_t batch, length, width; /* the largest B and L, and W */
    double relaxation;            /* b, above 0 and below 1 */
    /* Borrowed [B,L,W]: z, which the caller fills with the start, and two gradients, of which the
     * first holds the one of the output. */
    const struct tensor *z, *gradient[2];
};

struct reversible {
    struct cell *cell; /* borrowed, set before the first run */
    struct reversible_plan plan;
    /* In the workspace, [B,L,W] at the planned B and L. */
    struct tensor pair, evaluated; /* y, and f as it was computed last */
    struct tensor undone, dy;      /* z on the way back, and the gradient of y */
    /* of the last run, views [B,L,W] */
    int64_t steps;
    struct tensor z, y, f; /* f is that of y up to reversible_gradient */
};

void reversible_declare(struct reversible *r, const struct reversible_plan *plan);

/* Goes `steps` steps on the segment [batch, length] that the cell has begun. plan.z is then the
 * output, and slot 0 holds the evaluation of f at y. */
void reversible_run(struct reversible *r, int64_t batch, int64_t length, int64_t steps);
/* With the gradient of the output in plan.gradient[0], accumulates those of parameters and
 * injection. The output stays, and slot 0 does not. */
void reversible_gradient(struct reversible *r);

#endif
