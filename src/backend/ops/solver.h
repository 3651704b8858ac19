/* What fixed-point solvers compute between two evaluations. Every row n = b*T + t carries its own
 * iteration: its residual, its history, and the reason why it ended. */
#ifndef DEQ_BACKEND_OPS_SOLVER_H
#define DEQ_BACKEND_OPS_SOLVER_H

#include "backend/tensor.h"
#include <stdbool.h>

/* scope_sum  Sums val [B,T,C] in place over the scope of each row. SCOPE_TOKEN leaves it as it is.
 *            SCOPE_PREFIX gives val_t += decay * val_{t-1} along t, or with `reverse` from the end
 *            with val_{t+1}. SCOPE_SEQUENCE gives every t the sum over t. SCOPE_BATCH gives every
 *            row the sum over b and t. */
#define SOLVER_OPS(OP)                                                                          \
    OP(solve_residual, (be, p), const struct solve_residual *p)                                 \
    OP(row_dots, (be, p), const struct row_dots *p)                                             \
    OP(scope_sum, (be, val, scope, decay, reverse), const struct tensor *val, enum scope scope, \
       double decay, bool reverse)                                                              \
    OP(convergence_check, (be, p), const struct convergence_check *p)                           \
    OP(anderson_weights, (be, p), const struct anderson_weights *p)                             \
    OP(broyden_weights, (be, p), const struct broyden_weights *p)                               \
    OP(row_combine, (be, p), const struct row_combine *p)

/* Over which numbers a row's inner products are summed (solver/solver.h). */
enum scope { SCOPE_TOKEN, SCOPE_PREFIX, SCOPE_SEQUENCE, SCOPE_BATCH };

/* Which residual ends a row: relative, absolute, or none within a fixed number of iterations. */
enum solve_stop { STOP_REL, STOP_ABS, STOP_FIXED };

/* How an iteration ended, 0 while it runs. Running out of iterations is normal in training. */
enum solve_reason {
    SOLVE_ACTIVE,        /* still iterating */
    SOLVE_CONVERGED_ABS, /* absolute residual below the tolerance */
    SOLVE_CONVERGED_REL, /* relative residual below the tolerance */
    SOLVE_FIXED,         /* fixed number of iterations done */
    SOLVE_MAX_ITER,      /* out of iterations */
    SOLVE_NONFINITE,     /* residual not finite */
    SOLVE_DIVERGED,      /* residual grew too far */
    SOLVE_STALLED,       /* no better residual for too many iterations */
    SOLVE_REASON_COUNT
};

/* g = f - z, with the squared norms of every row's g and f, and their sums over all rows. Rows with
 * a reason other than 0 are not read. Their norms are 0 and their g stays as it is. */
struct solve_residual {
    struct tensor g, f, z; /* [N,D] */
    struct tensor norms;   /* [N,2] out, sum g^2 and sum f^2 */
    struct tensor total;   /* F64 [2] out, the sums of norms over all rows */
    struct tensor reason;  /* I32 [N], or NULL for all rows */
};

/* Checks iterate number k of every row that is still active (reason 0). The row's residual r is
 * sqrt(norms[n,0]) for STOP_ABS, and that / (sqrt(norms[n,1]) + rel_floor) otherwise. In this
 * order:
 *   1. evals = k + 1.
 *   2. If r or one of the two norms is not finite, the row ends as NONFINITE. An overflow of ||f||
 *      must not make r small.
 *   3. If r < best, then best, best_at and the rows best_z and best_f take this iterate.
 *   4. With STOP_FIXED nothing more is checked.
 *   5. If k + 1 >= min_iter and r <= tol, the row ends as CONVERGED.
 *   6. If r > first * diverge, it ends as DIVERGED. `first` is r of k = 0.
 *   7. If k - best_at >= stall, it ends as STALLED.
 * A row that ends without having converged gets its best iterate back into z, if it has one, so
 * that a bad iterate cannot reach other rows. *active counts the rows still active. */
struct convergence_check {
    struct tensor norms;       /* [N,2] squared norms of g and f, summed over the stopping scope */
    struct tensor z;           /* [N,D] in place */
    struct tensor f;           /* [N,D] */
    struct tensor best_z;      /* [N,D] */
    struct tensor best_f;      /* [N,D] or NULL */
    struct tensor best, first; /* [N], of which best starts as +inf */
    struct tensor best_at, reason, evals; /* I32 [N] */
    struct tensor active;                 /* I32 [1] out */
    int64_t k, min_iter, stall;
    enum solve_stop stop;
    double tol, rel_floor, diverge;
};

/* Most slots of a history. */
enum { HISTORY_MOST = 64 };

/* Inner products of every row with a history, for j < count.
 *   dots[n,0,j] = x[n] . hist[j,n]
 *   dots[n,1,j] = y[n] . hist[j,n]    with y
 * The history is read once for both. Rows with a reason other than 0 are not read and get 0. Other
 * numbers of dots are unchanged. */
struct row_dots {
    struct tensor dots;   /* [N,m] out, or [N,2,m] with y */
    struct tensor x, y;   /* [N,D], y or NULL */
    struct tensor hist;   /* [m,N,D] */
    struct tensor reason; /* I32 [N], or NULL for all rows */
    int64_t count;
};

/* Anderson mixing weights of every row. dots [N,m] holds the inner products of the newest residual
 * (slot `slot`) with the residuals in slots 0..count-1, summed over the mixing scope. They become
 * row and column `slot` of the row's Gram matrix. Slots form a ring in which slot - 1 comes before
 * `slot`, and count - 1 before 0. A ring that is not full yet is filled up to `slot`.
 *   (G + ridge I) a = 1 over the newest `len` slots
 *   alpha = a / sum(a), and zero elsewhere
 * `relative` multiplies ridge by trace(G) / len. len is first counted up, to `count` at most. If
 * the system has no finite solution (a zero pivot, a NaN, a zero sum), alpha picks the newest slot,
 * len becomes 1 and restarts is counted up. The system is solved in double precision. Rows with a
 * reason other than 0 are left as they are. */
struct anderson_weights {
    struct tensor alpha;         /* [N,m] out */
    struct tensor gram;          /* [N,m,m] in place */
    struct tensor dots;          /* [N,m] */
    struct tensor len, restarts; /* I32 [N] in place */
    int64_t slot, count;
    double ridge;
    bool relative;
    struct tensor reason; /* I32 [N], or NULL for all rows */
};

/* Most that Broyden's newest update may enlarge a residual. Inner products in float32 do not tell
 * how far 1 - rho_k below is from 0 when the difference is as small as their rounding. */
enum { BROYDEN_GAIN = 100000 };

/* Broyden's next step of every row, as a combination of its residual g and of the steps kept. The
 * newest step is d_k with k = count - 1. dots holds the inner products of g, and then of d_k, with
 * d_0 .. d_k, summed over the mixing scope. Those of d_k become row k of the Gram matrix G.
 * lengths[j] is the part of d_j that was taken. With rho_{-1} = 0, in double precision,
 *   rho_j = rho_{j-1} + (g . d_j + sum_{i < j} c_i G_ji) / G_jj
 *   c_j   = rho_{j-1} - (1 - lengths[j]) rho_j
 *   next step = (g + sum_j c_j d_j) / (1 - rho_k)
 * (solver/broyden.c has the derivation). coef gets what multiplies d_0 .. d_k, then g.
 * A rho_j that is not finite is taken as 0, which leaves that update out. So is rho_k if it makes
 * |1 / (1 - rho_k)| larger than BROYDEN_GAIN or a coefficient not finite. restarts counts the times
 * the newest update was left out, except where d_k is 0.
 * Groups of N / G rows have the same sums and share a Gram matrix. The result of a group is
 * computed once, from the sums of its first row. */
struct broyden_weights {
    struct tensor coef;     /* [N,count+1] out */
    struct tensor gram;     /* [G,m(m+1)/2] in place, lower triangles row after row, count <= m */
    struct tensor dots;     /* [N,2,count] */
    struct tensor restarts; /* I32 [N] in place */
    int64_t count;          /* 1 .. HISTORY_MOST */
    double lengths[HISTORY_MOST];
};

/* On rows with reason 0,
 *   out = a x + b y + sum_{j < count} coef[n,j] (c hist[j] + c2 hist2[j])
 *   sum += out
 * Other rows of out are unchanged, or 0 with `clear`. out may be x, y or a slot of the histories.
 */
struct row_combine {
    struct tensor out;         /* [N,D] */
    struct tensor x, y;        /* [N,D] or NULL */
    struct tensor coef;        /* [N,m] */
    struct tensor hist, hist2; /* [m,N,D], hist2 or NULL */
    struct tensor sum;         /* [N,D] in place, or NULL */
    struct tensor reason;      /* I32 [N], or NULL for all rows */
    int64_t count;
    double a, b, c, c2;
    bool clear;
};

#endif
