/* Fixed points z = f(z) of maps over [B,T,D], by Picard, Anderson or Broyden iteration.
 *
 * Every row (b, t) has its own mixing weights, residual, stop reason and best iterate. The scope
 * says over which rows the inner products behind them are summed: token     the row's own D numbers
 *   prefix    sums over positions <= t of the same sequence, decayed per position (positions >= t
 *             if planned `reverse`, for the adjoint equation, which runs against time)
 *   sequence  the whole sequence
 *   batch     weights per sequence, stopping by the norm of the whole batch: the published code
 * f is causal, so with `token` and `prefix` (and stop decided by each row, or a fixed number of
 * iterations) z_t depends on positions <= t only at every iteration. `sequence` and `batch` leak
 * the future into the past until they have converged.
 *
 * A row that has stopped stays where it is, and Picard and Anderson do not look at it again. It
 * adds nothing to the sums of others. So f need not be evaluated there (solver_select_rows), and
 * whether it is changes nothing.
 *
 * Sources are Anderson 1965 (type II, as Walker & Ni 2011) and Broyden 1965 ("good", limited memory
 * as in Bai et al. 2019).
 *
 * Set-up, solve and report are apart. A solve allocates nothing.
 */
#ifndef DEQ_SOLVER_SOLVER_H
#define DEQ_SOLVER_SOLVER_H

#include "backend/workspace.h"
#include "solver/solver_config.h"

/* What a solve did. Residuals belong to exactly the iterate that was returned. */
struct solve_report {
    int64_t evals;     /* calls of f */
    double paid_mean;  /* rows that they evaluated, over B*T */
    double evals_mean; /* evaluations until a row stopped, mean over rows */
    int64_t evals_max; /* and the largest */
    double rel_mean;   /* residual of the best iterates as measured, mean over rows; relative */
                       /* with STOP_REL and STOP_FIXED, absolute with STOP_ABS */
    double rel_max;    /* and the largest */
    int64_t restarts;  /* dropped histories and updates left out, summed over rows */
    int64_t rows;      /* B*T */
    int64_t reasons[SOLVE_REASON_COUNT]; /* rows by the way they ended */
    /* Residuals of the whole batch, iterate by iterate, borrowed from the solver until its next
     * run. abs[k] = ||g_k||, rel[k] = ||g_k|| / (||f_k|| + floor). */
    const double *trace_abs, *trace_rel;
    int64_t trace_len;
    int64_t best_iter; /* index in the trace of the lowest value of the stopping norm */
};

/* f <- f(z), both [B,T,D]. An error ends the solve and is passed up. `rows` is NULL or, after
 * solver_select_rows and a first call without it, I32 [2,n] with rising numbers b*T + t, then their
 * b. f is wanted in these rows only, and z has not changed in others since the last call. */
typedef enum status (*solve_fn)(void *ctx, const struct tensor *z, const struct tensor *f,
                                const struct tensor *rows, struct error *err);

struct solver;

/* What a solver is for, at most batch * length rows of width D at once. */
struct solver_plan {
    int64_t batch, length, width;
    bool reverse; /* prefix sums run against time, as a backward solve wants */
    /* Where its buffers are declared, for solves in `phase` of a step. They can be used once the
     * workspace is committed, and what solver_report reads lasts until PHASE_UPDATE. With NULL the
     * solver has a workspace of its own, and `phase` is not read. */
    struct workspace *ws;
    enum phase phase;
};

/* Checks the config and declares or, without plan->ws, allocates all buffers. The backend and the
 * workspace are borrowed and must outlive the solver. STATUS_CONFIG, STATUS_NOMEM. */
enum status solver_create(struct solver **out, struct backend *be,
                          const struct solver_config *config, const struct solver_plan *plan,
                          struct error *err);
void solver_free(struct solver *s);

/* Solves from *z, [B,T,D] with B and B*T at most those planned. *z ends as the best measured
 * iterate of every row. f0, if not NULL, is f at the start, known beforehand: it saves one
 * evaluation. f_best, if not NULL, receives f at the returned iterate as it was measured.
 * With STOP_FIXED there is no synchronisation inside, otherwise one per iteration. */
enum status solver_run(struct solver *s, solve_fn fn, void *ctx, const struct tensor *z,
                       const struct tensor *f0, const struct tensor *f_best, struct error *err);

/* Whether fn can be called for some rows. At first it is not. Rows are then left out as they stop
 * (not by STOP_FIXED, not by Broyden), SOLVER_ROWS_STEP or a multiple at a time. The others are
 * evaluated in products of so many rows, whose results may depend on their number where it is
 * smaller. */
enum { SOLVER_ROWS_STEP = 32 };
void solver_select_rows(struct solver *s, bool can);

/* Changes the number of evaluations and the tolerance of later runs (evaluation tables, random
 * limits). max_iter may exceed the planned one. STATUS_CONFIG if out of range, STATUS_NOMEM. */
enum status solver_set_limits(struct solver *s, int64_t max_iter, double tol, enum solve_stop stop,
                              struct error *err);

/* Reads the last run's figures back in a few small downloads. STATUS_NOMEM. */
enum status solver_report(struct solver *s, struct solve_report *report, struct error *err);
/* Of each of the last run's B*T rows, the evaluations until it stopped and the residual that
 * solve_report averages. Synchronises. */
void solver_read_rows(struct solver *s, int32_t *evals, double *residual);

#endif
