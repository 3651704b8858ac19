/* Shared by the block's evaluations of all positions and of some, its vjp and its tangents. */
#ifndef DEQ_CELL_TRANSFORMER_TRANSFORMER_BLOCK_IMPL_H
#define DEQ_CELL_TRANSFORMER_TRANSFORMER_BLOCK_IMPL_H

#include "cell/transformer/transformer_block.h"

/* The planned buffer cut to `rows` rows; NULL stays NULL. */
static inline struct tensor block_rows(const struct tensor *t, int64_t rows)
{
    if (t->data == NULL)
        return *t;
    return t->ndim == 1 ? tensor_prefix(t, 1, rows, 1, 1, 1)
                        : tensor_prefix(t, 2, rows, t->dim[t->ndim - 1], 1, 1);
}

/* What comes before attention, row by row: qkv [n,3D] <- W_qkv (z or norm(z)) + u, for z [n,D]; u
 * [n,3D] or NULL may be qkv itself. */
void block_project(const struct block_call *c, const struct tensor *u, const struct tensor *zm,
                   const struct tensor *qkv);
/* What comes after it, row by row: f [n,D] from attn and z [n,D]; row n uses row n / l of the
 * masks. */
void block_finish(const struct block_call *c, int64_t l, const struct tensor *attn,
                  const struct tensor *z, const struct tensor *f);

#endif
