/* The mean of the weights of several checkpoints, as of the last ones of a training (Polyak
 * averaging; Izmailov et al. 2018, stochastic weight averaging). */
#ifndef DEQ_STORE_WEIGHT_AVERAGE_H
#define DEQ_STORE_WEIGHT_AVERAGE_H

#include "store/snapshot.h"

/* Writes the checkpoint `out` of a training at step 0, with configuration and vocabulary of the
 * first of `count` checkpoints, moments of zero and the mean of their weights. steps[count]
 * receives theirs, and *parameters the number of distinct numbers. Returns STATUS_CONFIG if two of
 * them are not of the same model, STATUS_DATA if they are not of the same vocabulary, and what
 * snapshot_open, snapshot_read_weights and snapshot_write return. */
enum status weight_average(const char *const *paths, int count, const char *out, int64_t *steps,
                           int64_t *parameters, struct error *err);

#endif
