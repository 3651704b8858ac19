/* The penalty on the Jacobian of f at the equilibrium (Bai, Koltun, Kolter 2021). It is a loss that
 * keeps |J| small, so that solves stay short.
 *
 *   exact       |v^T J|^2 / n with v of n standard normal numbers. This is the published estimator
 *               of |J|^2 / n with its exact gradient (forward-over-reverse). It costs some six
 *               evaluations.
 *   difference  |f(z + h v) - f(z)|^2 / (h^2 n). For small h the expectation is the same, since
 *               E |J v|^2 = |J|^2. It needs first derivatives only and costs some three evaluations
 *               of f. Hidden units whose rectifier switches between z and z + h v enter the
 * gradient with a weight of 1 / h. The exact form leaves them out, as it takes J to be smooth.
 *               Their noise grows as 1 / sqrt(h).
 *
 * Both take z* for a constant, as published. The gradient reaches the parameters of f and, through
 * the injection, those of the embedding.
 *
 * The term has weight 0 until loss_terms_weigh sets one, since the schedule of the training and a
 * draw decide it for every segment. */
#ifndef DEQ_DEQ_JACOBIAN_PENALTY_H
#define DEQ_DEQ_JACOBIAN_PENALTY_H

#include "deq/loss_term.h"

/* The direction v, planned [B,L,W], of terms that hold a penalty. A caller may write there a
 * direction of its own and weigh the term without a key. The tensor is owned by the term. */
struct tensor jacobian_penalty_direction(const struct loss_terms *terms);

#endif
