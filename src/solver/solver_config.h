/* The settings of a solver, as the configuration of a run holds them too. */
#ifndef DEQ_SOLVER_SOLVER_CONFIG_H
#define DEQ_SOLVER_SOLVER_CONFIG_H

#include "backend/ops.h"

/* Every method: X(NAME, name) for SOLVE_NAME, the object name_method that its file fills, and the
 * name that a configuration gives. A new method is a file and a line here. */
#define SOLVE_METHODS(X)  \
    X(PICARD, picard)     \
    X(ANDERSON, anderson) \
    X(BROYDEN, broyden)

enum solve_method {
#define SOLVE_METHOD_ID(NAME, name) SOLVE_##NAME,
    SOLVE_METHODS(SOLVE_METHOD_ID)
#undef SOLVE_METHOD_ID
};

/* What Anderson's ridge is multiplied with: the Gram's mean diagonal, or 1 as published. */
enum ridge_mode { RIDGE_REL, RIDGE_ABS };

struct solver_config {
    enum solve_method method;
    enum scope scope;
    double decay;     /* prefix: factor per position, 0..1 */
    int64_t max_iter; /* evaluations of f at most (given f0, line searches not counted) */
    int64_t min_iter; /* no stop before so many evaluations */
    double tol;
    enum solve_stop stop;
    int64_t history; /* m: Anderson window; Broyden updates (full: all dropped, a restart) */
    double damping;  /* Picard and Anderson beta: 1 undamped */
    double ridge;    /* Anderson: added to the Gram's diagonal */
    enum ridge_mode ridge_mode;
    bool line_search; /* Broyden: Armijo on ||g||^2, whole batch, as published */
    int64_t stall;    /* give a row up after so many iterations without a better residual */
};

#endif
