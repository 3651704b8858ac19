/* The equilibrium layer with the output H = f(z*) where z* = f(z*; x), and its gradient.
 *
 * Forward, the solver finds z* from a given start or from 0. If a gradient is to follow, one more
 * application of f that saves its activations gives H. Otherwise H is f(z*) as the solver measured
 * it.
 *
 * The gradient follows `gradient.method`.
 *   implicit  solve y = y J + dH, then propagate y once through f at z* (Bai et al. 2019)
 *   one-step  the same with y = dH and no solve (Fung et al. 2022)
 *   phantom   `steps` damped applications from z*, differentiated plainly (Geng et al. 2021)
 *   reversible  `steps` reversible steps instead of a solve, differentiated plainly (reversible.h)
 *   truncated   plain applications instead of a solve, in drawn numbers (drawn_counts.h), of which
 *               the last `steps` are differentiated plainly
 *   unroll    `steps` plain applications from 0 instead of a solve, differentiated plainly
 * The last is also the pre-training phase ("shallow"). With model.layers > 0 there is no
 * equilibrium at all. Training and evaluation then apply so many layers (unrolled.h).
 *
 * A segment takes this way, once its cell has begun it.
 *   equilibrium_solve -> [equilibrium_solve_adjoint -> equilibrium_add_cotangent (any number) ->
 *   equilibrium_propagate] -> equilibrium_remember
 */
#ifndef DEQ_DEQ_EQUILIBRIUM_H
#define DEQ_DEQ_EQUILIBRIUM_H

#include "deq/drawn_counts.h"
#include "deq/reversible.h"
#include "deq/unrolled.h"
#include "solver/solver.h"

enum solve_direction { DIRECTION_FORWARD, DIRECTION_BACKWARD, DIRECTION_COUNT };

/* Sees the iterate z [B,L,W] that evaluation number `evaluation` of a forward solve, from 0, is
 * about to evaluate. The iterate changes afterwards, and a monitor that wants it copies it. */
typedef void (*equilibrium_monitor)(void *ctx, int64_t evaluation, const struct tensor *z);

struct equilibrium {
    struct backend *be;                     /* borrows */
    struct cell *cell;                      /* borrowed by equilibrium_attach */
    struct solver *solver[DIRECTION_COUNT]; /* owns; NULL where nothing is solved */
    int64_t layers;                         /* above 0 in an explicit network */
    struct config_gradient gradient;
    double start_noise;
    bool return_z;        /* evaluation returns z*, as published */
    struct workspace *ws; /* borrows */
    /* In the workspace, [B,L,W] at the planned B and L. */
    struct tensor z, f;  /* the iterate of the solve, and f of it */
    struct tensor y, dz; /* in training, the adjoint and what f makes of it */
    struct unrolled net; /* what is neither solved nor reversible */
    struct reversible rev;
    equilibrium_monitor monitor; /* or NULL */
    void *monitor_ctx;           /* borrows */
    /* of the current segment */
    struct tensor state, output; /* views [B,L,W] of z* and H */
    struct masks masks;          /* whose seed and draw serve all that is drawn */
    int64_t *before;             /* owns [batch], see drawn_counts */
    bool started;                /* from the start that was given */
    bool reversed;               /* by reversible steps */
    int64_t unrolled;            /* applications to differentiate plainly, or 0 */
    int64_t applied;             /* plain applications in place of a solve at most, or 0 */
    double applied_mean;         /* and of a sequence, on average */
    int64_t evaluations;         /* of f in the current solve */
    struct tensor dh;            /* borrows */
};

/* An evaluation that can be differentiated. */
struct equilibrium_point {
    int slot;
    struct tensor z, f; /* views [B,L,W] */
};

/* How many slots the cell must hold for this configuration. */
int equilibrium_slots(const struct config *config, bool train);
/* When the cell's slots behind the first are in use. */
struct lifetime equilibrium_later_slots(const struct config *config);
/* Whether f is evaluated while gradients are computed. */
bool equilibrium_recomputes(const struct config *config);
/* Whether most evaluations get a full vjp, so that it pays to keep for it whatever it wants. */
bool equilibrium_keeps_all(const struct config *config);

struct equilibrium_plan {
    struct workspace *ws;         /* borrows */
    int64_t batch, length, width; /* the largest B and L, and W */
    bool train;
};

/* Builds solvers for a resolved configuration and declares buffers. A cell is attached, and the
 * workspace committed, before the first segment. STATUS_CONFIG, STATUS_NOMEM. */
enum status equilibrium_create(struct equilibrium **out, const struct config *config,
                               const struct equilibrium_plan *plan, struct error *err);
/* Makes `cell`, which is borrowed, the function f. It was planned for the same configuration. */
void equilibrium_attach(struct equilibrium *eq, struct cell *cell, const struct config *config);
/* Accepts NULL. */
void equilibrium_free(struct equilibrium *eq);

/* Has `monitor` see the iterates of later solves. NULL ends that. */
void equilibrium_set_monitor(struct equilibrium *eq, equilibrium_monitor monitor, void *ctx);
/* Changes limits of later solves in one direction as solver_set_limits does, or nothing where
 * nothing is solved. STATUS_CONFIG if out of range. */
enum status equilibrium_set_limits(struct equilibrium *eq, enum solve_direction direction,
                                   int64_t max_iter, double tol, enum solve_stop stop,
                                   struct error *err);
/* Whether later forward solves leave out positions that have stopped (solver_select_rows). */
void equilibrium_select_rows(struct equilibrium *eq, bool can);
/* Whether there is a solver in that direction. */
bool equilibrium_solves(const struct equilibrium *eq, enum solve_direction direction);

/* Begins a segment whose masks are these, before equilibrium_solve. */
void equilibrium_begin(struct equilibrium *eq, const struct masks *masks);
/* Finds the output of the segment that the cell has begun with embedded tokens e [B,L,E]. A solve
 * starts from `start` [B,L,W], or from zero if its data is NULL. With `layers` > 0 that many plain
 * applications take the place of a solve. With `train` a gradient will follow. STATUS_DEVICE or
 * STATUS_NOMEM, as the backend reports. */
enum status equilibrium_solve(struct equilibrium *eq, const struct tensor *e,
                              const struct tensor *start, int64_t layers, bool train,
                              struct error *err);

/* Views [B,L,W] that are valid until the next equilibrium_solve. The state is z*, or the input of
 * the last layer. The output is H. */
struct tensor equilibrium_state(const struct equilibrium *eq);
struct tensor equilibrium_output(const struct equilibrium *eq);
/* The last evaluation of f that the output is made of. */
struct equilibrium_point equilibrium_last(const struct equilibrium *eq);
/* Evaluates f again at the state, into f [B,L,W] at least as large as planned, and returns that
 * evaluation. It takes the place of the last one in its slot. */
struct equilibrium_point equilibrium_evaluate(struct equilibrium *eq, const struct tensor *f);
/* Whether a solve found the state, rather than plain applications. */
bool equilibrium_is_solved(const struct equilibrium *eq);
/* Whether the state was found from the start that equilibrium_solve got. */
bool equilibrium_is_started(const struct equilibrium *eq);
/* How many applications the gradient differentiates plainly, or 0 if it is implicit or one-step. */
int64_t equilibrium_unrolled(const struct equilibrium *eq);

/* Finds the adjoint y [B,L,W] of dh [B,L,W], the gradient of the output. One vjp of f takes y to
 * the gradients of parameters and injection. Where applications are unrolled, y is dh itself. dh is
 * read no more afterwards. STATUS_DEVICE or STATUS_NOMEM, as the backend reports. */
enum status equilibrium_solve_adjoint(struct equilibrium *eq, const struct tensor *dh,
                                      struct error *err);
/* Between equilibrium_solve_adjoint and equilibrium_propagate, adds what r [B,L,W], a gradient at
 * f(z) of equilibrium_last with z constant, gives to parameters and injection. An implicit gradient
 * takes it along in its only full vjp. Where applications are unrolled it costs a vjp of its own,
 * which leaves in `unwanted` [B,L,W] the gradient of z. */
void equilibrium_add_cotangent(struct equilibrium *eq, const struct tensor *r,
                               const struct tensor *unwanted);
/* Propagates the adjoint through f. Adds to the gradients of the cell's parameters and injection,
 * and leaves the cell's end_backward to the caller. Without an injection, de [B,L,E] receives the
 * gradient of e. STATUS_DEVICE or STATUS_NOMEM, as the backend reports. */
enum status equilibrium_propagate(struct equilibrium *eq, const struct tensor *de,
                                  struct error *err);
/* The adjoint, a view [B,L,W] that is valid after equilibrium_propagate of an implicit gradient. */
struct tensor equilibrium_adjoint(const struct equilibrium *eq);

/* Ends the segment. Its states become memory of the next. */
void equilibrium_remember(struct equilibrium *eq);

/* What the last segment took in either direction. `backward` is NULL if it is not wanted.
 * Applications that are not solves count as evaluations, and their residuals are NaN. STATUS_NOMEM.
 */
enum status equilibrium_report(struct equilibrium *eq, struct solve_report *forward,
                               struct solve_report *backward, struct error *err);
/* Of each of the last segment's B*L positions, the evaluations and the residual of its forward
 * solve (solver_read_rows). Applications that are not solves count, and their residuals are NaN.
 * Synchronises. */
void equilibrium_read_positions(struct equilibrium *eq, int32_t *evals, double *residual);

#endif
