/* The learning rate of every update. */
#ifndef DEQ_TRAIN_SCHEDULE_H
#define DEQ_TRAIN_SCHEDULE_H

#include "model/config.h"

/* The rate of update number n, counted from 1.
 *
 * Warm-up is linear over warmup_steps; then cosine falls to lr_min at `steps`, inv_sqrt goes as
 * sqrt(warmup / n), constant stays. `published` (model-spec 9): the first update runs at the full
 * rate, update n at the rate of step n - 1, and cosine counts from step 0, not from the warm-up's
 * end. */
double schedule_rate(const struct config_train *train, int64_t n, bool published);

#endif
