/* The penalty on the Jacobian of f at the equilibrium (Bai, Koltun, Kolter 2021): a loss that
 * keeps |J| small, so that solves stay short.
 *
 *   exact       |v^T J|^2 / n, v of n standard normal numbers: the published estimator of
 *               |J|^2 / n, with its exact gradient (forward-over-reverse); some six evaluations
 *   difference  |f(z + h v) - f(z)|^2 / (h^2 n): the same expectation for small h, since
 *               E |J v|^2 = |J|^2; first derivatives only, some three evaluations of f. Hidden
 *               units whose rectifier switches between z and z + h v come into the gradient with
 *               a weight of 1 / h: they are what the exact form leaves out (it takes J to be
 *               smooth), and their noise grows as 1 / sqrt(h)
 *
 * Both take z* for a constant, as published: the gradient reaches the parameters of f and, through
 * the injection, those of the embedding. */
#ifndef DEQ_DEQ_JACOBIAN_PENALTY_H
#define DEQ_DEQ_JACOBIAN_PENALTY_H

#include "deq/equilibrium.h"

struct penalty {
    bool wanted;
    int64_t form;          /* enum config_penalty */
    double step;           /* h */
    int tape;              /* of the cell, for the difference's second evaluation */
    struct tensor v, w, r; /* owns: [B,L,W] direction; v^T J or z + h v; J w or f's difference */
    struct tensor dz;      /* owns: [B,L,W] form difference: what nobody wants */
    struct tensor sum;     /* owns: F64 [1], the squared norm of the last call */
    bool pending;    /* r is the gradient at f(z) that the last vjp of the segment still owes */
    int64_t numbers; /* n of the last call; 0: there was none since penalty_skip */
};

/* Whether the configuration has such a penalty in any step. */
bool penalty_wanted(const struct config *config);
/* Plans nothing if the configuration has no penalty. `spare_tape`: one the equilibrium leaves. */
enum status penalty_create(struct penalty *p, struct cell *cell, const struct config *config,
                           int64_t batch, int64_t length, int spare_tape, struct error *err);
void penalty_free(struct penalty *p, struct backend *be);

/* Forgets the last call. */
void penalty_skip(struct penalty *p);
/* Adds the gradient of weight * penalty at the last evaluation of `eq` to the cell's gradients. v
 * is drawn from `key`, or stays as it is (NULL). With form difference and an equilibrium that is
 * not unrolled, a part is left in p->r (p->pending), to be given to equilibrium_gradient, which has
 * to come next. */
void penalty_apply(struct penalty *p, const struct equilibrium *eq, double weight,
                   const struct rng_key *key);
/* The penalty of the last call, NAN if there was none. Synchronises. */
double penalty_read(struct penalty *p, struct backend *be);

#endif
