/* Shared by the two halves of the trellis cell: building and running. */
#ifndef DEQ_CELL_TRELLIS_TRELLIS_CELL_IMPL_H
#define DEQ_CELL_TRELLIS_TRELLIS_CELL_IMPL_H

#include "cell/trellis/trellis_cell.h"

extern const struct cell_ops trellis_cell_ops;

void trellis_cell_free(struct cell *base);

#endif
