/* Shared by the two halves of the transformer cell: building and running. */
#ifndef DEQ_MODEL_TRANSFORMER_CELL_IMPL_H
#define DEQ_MODEL_TRANSFORMER_CELL_IMPL_H

#include "model/transformer_cell.h"

extern const struct cell_ops transformer_cell_ops;

/* Input of block j in tape `tape`, given the cell's own input; output, given its own output. */
struct tensor transformer_cell_block_in(const struct transformer_cell *c, int64_t j, int tape,
                                        const struct tensor *z);
struct tensor transformer_cell_block_out(const struct transformer_cell *c, int64_t j, int tape,
                                         const struct tensor *f);
/* Where a full vjp of block j for rows of shape z [B,L,D] leaves the gradients of its inputs. */
struct block_grads transformer_cell_grads(const struct transformer_cell *c, int64_t j,
                                          const struct tensor *z);
/* The gain of a norm over memory states is a parameter too: its gradient, given dmem. */
void transformer_cell_memory_gain(struct transformer_cell *c, struct transformer_cell_block *b,
                                  const struct tensor *dmem);

/* transformer_cell_tangent.c: entries of the table. */
void transformer_cell_jvp(struct cell *base, int tape, const struct tensor *z,
                          const struct tensor *f, const struct tensor *z_t,
                          const struct tensor *f_t);
void transformer_cell_vjp_tangent(struct cell *base, int tape, const struct tensor *z,
                                  const struct tensor *f, const struct tensor *z_t,
                                  const struct tensor *df, const struct tensor *dz_t);

void transformer_cell_free(struct cell *base);

#endif
