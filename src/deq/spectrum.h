/* How fast plain iteration contracts at a state, which is the spectral radius of J = df/dz. */
#ifndef DEQ_DEQ_SPECTRUM_H
#define DEQ_DEQ_SPECTRUM_H

#include "deq/equilibrium.h"

/* Two estimates by the power method v <- v J / |v J|, sequence by sequence. Planned memory is
 * allocated and freed here. The evaluation at `at` must stand in its slot.
 *   rayleigh[B]  |<v J, v> / <v, v>| of the last step, as published. It needs a real and well
 *                separated largest eigenvalue, or else swings with the start and the step.
 *   growth[B]    geometric mean of |v J| / |v| over the second half of the steps, which is the
 *                spectral radius in the limit also for complex pairs.
 * STATUS_NOMEM, STATUS_DEVICE. */
enum status spectral_radius(struct cell *cell, const struct equilibrium_point *at,
                            int64_t iterations, uint64_t seed, double *rayleigh, double *growth,
                            struct error *err);

enum { SPECTRUM_ITERATIONS = 150 }; /* as published */

#endif
