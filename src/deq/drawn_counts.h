/* How often f is applied in front of the applications that are differentiated (gradient.method
 * truncated). The number of all applications is Poisson's, with the mean that the configuration
 * gives, or Poisson's with a log-normal mean about it (Geiping et al. 2025, "Huginn"). It is drawn
 * for a whole step or for each sequence (Parcae, arXiv 2604.12946). */
#ifndef DEQ_DEQ_DRAWN_COUNTS_H
#define DEQ_DEQ_DRAWN_COUNTS_H

#include "cell/cell.h"

/* before[b] <- applications in front of the last `gradient.steps` for each of `batch` sequences.
 * They are functions of the masks' seed and draw and, drawn for sequences, of the number of the
 * sequence in the whole batch. Without drawn masks all have the mean. Returns the largest. */
int64_t drawn_counts(const struct config_gradient *config, const struct masks *masks, int64_t batch,
                     int64_t *before);

#endif
