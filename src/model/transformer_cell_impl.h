/* Shared by the two halves of the transformer cell: building and running. */
#ifndef DEQ_MODEL_TRANSFORMER_CELL_IMPL_H
#define DEQ_MODEL_TRANSFORMER_CELL_IMPL_H

#include "model/transformer_cell.h"

extern const struct cell_ops transformer_cell_ops;

void transformer_cell_free(struct cell *base);

#endif
