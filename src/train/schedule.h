/* What a training changes from step to step: learning rate, limits of solves, penalty. */
#ifndef DEQ_TRAIN_SCHEDULE_H
#define DEQ_TRAIN_SCHEDULE_H

#include "config/config.h"

/* The learning rate of update n, counted from 1.
 *
 * It rises linearly over warmup_steps. Then "cosine" falls to lr_min at `steps`, "inv_sqrt" is
 * proportional to sqrt(warmup / n), and "constant" stays. "wsd" stays too, and falls linearly to
 * lr_min over the last steps (warm-up, stable, decay; Hu et al. 2024, MiniCPM; Hagele et al. 2024
 * for the linear cool-down over a fifth of the steps). With `published` (model.compat) the first
 * update runs at the full rate, update n at the rate of step n - 1, and the cosine begins at step 0
 * in place of the end of the warm-up. */
double schedule_rate(const struct config_train *c, int64_t n, bool published);

/* The first update of the cool-down of "wsd", counted from 1. It comes after the warm-up, whatever
 * cooldown_share says, and is beyond `steps` with a share of 0. */
int64_t schedule_cooldown(const struct config_train *c);

/* The settings of a schedule that begins anew after `start` steps of a training. Its steps are
 * those left, and it warms up over at most a fifth of them. */
struct config_train schedule_from(const struct config_train *c, int64_t start);

enum { SCHEDULE_TEXT = 160 };
/* Writes what the learning rate does after `start` steps, as in "rises over 120 steps to 0.001 and
 * falls by a cosine to 0 at step 4200". */
void schedule_text(const struct config_train *c, int64_t start, char out[SCHEDULE_TEXT]);

/* How far a solve of a training step goes. */
struct solve_limits {
    int64_t max_iter;
    double tol;
};

/* The limits of a solve in step n, counted from 1.
 *
 * From the end of pre-training to the last step tol moves geometrically from tol_start to tol, and
 * max_iter linearly from iter_start to max_iter. Then a random number up to rand_delta is
 * subtracted. It is a function of the seed, of `micro`, which numbers the parts of batches, and of
 * `which`, 0 for the forward solve and 1 for the backward solve. */
struct solve_limits schedule_limits(const struct solver_config *solver,
                                    const struct config_limits *change,
                                    const struct config_train *train, int64_t n, int64_t micro,
                                    int which);
/* Whether schedule_limits can give anything but the configuration's own max_iter and tol. */
bool schedule_limits_vary(const struct config_limits *change);

/* The weight of the Jacobian's penalty in step n, counted from 1. It is 0 in pre-training. After
 * it, the weight rises by ramp_add whenever n is a multiple of ramp_every. */
double schedule_penalty(const struct config_jacobian *jacobian, const struct config_train *train,
                        int64_t n);

#endif
