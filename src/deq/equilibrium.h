/* The equilibrium layer: its output H = f(z*) with z* = f(z*; x), and its gradient.
 *
 * Forward: the solver finds z* from 0. With a gradient to follow, one more application of f with
 * its tape gives H; without, H is f(z*) as the solver measured it.
 *
 * Gradient, by `gradient.method`:
 *   implicit  solve y = y J + dH, then propagate y once through f at z* (Bai et al. 2019)
 *   one-step  the same with y = dH: no solve (Fung et al. 2022)
 *   phantom   `steps` damped applications from z*, differentiated plainly (Geng et al. 2021)
 *   unroll    `steps` plain applications from 0 instead of a solve, differentiated plainly
 * The last is also the pre-training phase ("shallow"). With model.layers > 0 there is
 * no equilibrium at all: training and evaluation apply so many layers (explicit.h).
 */
#ifndef DEQ_DEQ_EQUILIBRIUM_H
#define DEQ_DEQ_EQUILIBRIUM_H

#include "deq/unrolled.h"
#include "solver/solver.h"

struct equilibrium {
    struct backend *be;                /* borrows */
    struct cell *cell;                 /* borrows: of equilibrium_attach */
    struct solver *forward, *backward; /* owns; NULL in an explicit network */
    int64_t layers;                    /* > 0: an explicit network */
    int64_t method;                    /* enum config_gradient */
    int64_t steps;                     /* phantom and unroll */
    double damping;                    /* phantom */
    bool return_z;                     /* evaluation returns z*, as published */
    struct unrolled net;               /* states, and all that is not solved */
    size_t solver_bytes;               /* memory of both solvers */
    struct idle idle;                  /* of it, idle while no solve runs, and not taken yet */
    /* of the current segment */
    struct tensor z, h; /* views [B,L,W]: what was solved for; the output */
    int64_t unrolled;   /* applications to differentiate plainly; 0: implicit */
    int64_t applied;    /* plain applications in place of a solve; 0: solved */
    struct tensor dh;   /* borrows */
    /* iterates of the solve to be kept, by the evaluations that led to them (see correction.h) */
    const struct config_list *keep_at; /* borrows, or NULL */
    struct tensor *kept;               /* borrows: [keep_at->count] of [B,L,W] */
    int64_t kept_count;                /* iterates kept of the last solve */
    int64_t calls;                     /* of f in the current solve */
};

/* An evaluation that can be differentiated. */
struct equilibrium_point {
    int tape;
    struct tensor z, f;
};

/* How many tapes the cell must hold for this configuration. */
int equilibrium_tapes(const struct config *config, bool train);
/* Whether a segment's gradient takes one full vjp of the cell. */
bool equilibrium_one_vjp(const struct config *config, bool train);
/* Whether the cell is evaluated no more in a segment once its gradient begins. */
bool equilibrium_evals_end(const struct config *config);
/* Whether most evaluations get a full vjp, so that it pays to keep for it whatever it wants. */
bool equilibrium_keeps_all(const struct config *config);

struct equilibrium_plan {
    int64_t batch, length, width; /* the largest B and L; W */
    bool train;
};

/* In this order: the solvers, whose memory (eq->idle) may be lent to what comes later; states and
 * their gradients; once it is there, the cell. */
enum status equilibrium_create(struct equilibrium **out, struct backend *be,
                               const struct config *config, const struct equilibrium_plan *plan,
                               struct error *err);
enum status equilibrium_plan_states(struct equilibrium *eq, const struct config *config,
                                    const struct equilibrium_plan *plan, struct error *err);
void equilibrium_attach(struct equilibrium *eq, struct cell *cell, const struct config *config);
void equilibrium_free(struct equilibrium *eq);

/* Finds the output of the segment the cell has begun with embedded tokens e: eq->h, valid until the
 * next call. A solve starts from `start` [B,L,W], data NULL: zero. `layers` > 0: that many plain
 * applications instead of a solve. `train`: a gradient will follow. */
enum status equilibrium_solve(struct equilibrium *eq, const struct tensor *e,
                              const struct tensor *start, int64_t layers, bool train,
                              struct error *err);

/* The last evaluation of f that the output is made of. */
struct equilibrium_point equilibrium_last(const struct equilibrium *eq);

/* Given dh [B,L,W], the gradient at eq->h, gathers the gradients of the cell's parameters and
 * injection; the cell's end_backward is left to the caller. Without an injection, de receives the
 * gradient of e. `also`, NULL or [B,L,W] and only if the segment was not unrolled, is a gradient at
 * f(z*) that passes through f once, z* being constant. */
enum status equilibrium_gradient(struct equilibrium *eq, const struct tensor *dh,
                                 const struct tensor *de, const struct tensor *also,
                                 struct error *err);

/* Ends the segment: its states become memory of the next. */
void equilibrium_remember(struct equilibrium *eq);

/* What the last segment took in either direction (backward NULL: not wanted). Applications that are
 * not solves count as evaluations; their residuals are NaN. */
enum status equilibrium_report(struct equilibrium *eq, struct solve_report *forward,
                               struct solve_report *backward, struct error *err);
/* solver_set_limits of the forward solve; an explicit network has none to set. */
enum status equilibrium_set_limits(struct equilibrium *eq, int64_t max_iter, double tol,
                                   enum solve_stop stop, struct error *err);

#endif
