/* Shared by the block's evaluations of all positions and of some. */
#ifndef DEQ_NN_TRANSFORMER_BLOCK_IMPL_H
#define DEQ_NN_TRANSFORMER_BLOCK_IMPL_H

#include "nn/transformer_block.h"

/* What comes before attention, row by row: qkv [n,3D] <- W_qkv (z or norm(z)) + u, for z [n,D]; u
 * [n,3D] or NULL may be qkv itself. */
void block_project(struct backend *be, const struct block_shape *shape,
                   const struct block_weights *w, const struct block_tape *t,
                   const struct tensor *u, const struct tensor *zm, const struct tensor *qkv);
/* What comes after it, row by row: f [n,D] from attn and z [n,D]; row n uses row n / l of the masks
 * in `in`. */
void block_finish(struct backend *be, const struct block_shape *shape,
                  const struct block_weights *w, const struct block_input *in, int64_t l,
                  const struct block_tape *t, const struct block_scratch *s,
                  const struct tensor *attn, const struct tensor *z, const struct tensor *f);

#endif
