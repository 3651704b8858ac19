/* The learning rate of every update. */
#ifndef DEQ_TRAIN_SCHEDULE_H
#define DEQ_TRAIN_SCHEDULE_H

#include "config/config.h"

/* The rate of update number n, counted from 1.
 *
 * Warm-up is linear over warmup_steps; then cosine falls to lr_min at `steps`, inv_sqrt goes as
 * sqrt(warmup / n), constant stays. `published` (model.compat): the first update runs at the full
 * rate, update n at the rate of step n - 1, and cosine counts from step 0, not from the warm-up's
 * end. */
double schedule_rate(const struct config_train *train, int64_t n, bool published);

/* How far a solve of a training step goes. */
struct solve_limits {
    int64_t max_iter;
    double tol;
};

/* The limits of step n, counted from 1, whose part `micro` draws from the seed: between
 * pretrain_steps and `steps`, tol goes geometrically from tol_start to tol and max_iter evenly from
 * iter_start to max_iter; then a random number up to rand_delta is taken off (`which`: 0 forward,
 * 1 backward, told apart in the draw). */
struct solve_limits schedule_limits(const struct solver_config *solver,
                                    const struct config_limits *change,
                                    const struct config_train *train, int64_t n, int64_t micro,
                                    int which);
/* Whether anything but the configuration's own max_iter and tol can come out of that. */
bool schedule_limits_vary(const struct config_limits *change);

/* Weight of the Jacobian's penalty in step n, counted from 1: it rises by ramp_add whenever n is a
 * multiple of ramp_every, after pre-training, in which it is 0. */
double schedule_penalty(const struct config_jacobian *jacobian, const struct config_train *train,
                        int64_t n);

#endif
