/* Inside dist, where there is MPI. */
#ifndef DEQ_DIST_DIST_MPI_H
#define DEQ_DIST_DIST_MPI_H

#include "dist/dist_impl.h"

/* Makes d->sums. */
enum status mpi_sums_open(struct dist *d, struct error *err);
void mpi_sums_close(struct dist *d);
/* With them, in the order of ranks. */
extern const struct transport mpi_sums_transport;

#endif
