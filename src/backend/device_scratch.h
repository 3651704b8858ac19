/* The scratch memory that operations of a GPU take beside rounded operands, in numbers of float32.
 * cuda/ asks for no more, which tests/bench/test_plan_emu.c compares. */
#ifndef DEQ_BACKEND_DEVICE_SCRATCH_H
#define DEQ_BACKEND_DEVICE_SCRATCH_H

#include "backend/ops.h"

/* Sums of columns are made in chunks of rows side by side, unless the matrix is short or so wide
 * that its strips of 32 columns fill a device. */
enum {
    SUM_COLUMNS = 32,
    SUM_CHUNK_ROWS = 64,
    SUM_MOST_CHUNKS = 64,
    SUM_MANY_STRIPS = 512,
};

/* The number of those chunks. */
static inline int64_t column_chunks(int64_t rows, int64_t width)
{
    int64_t chunks = (rows + SUM_CHUNK_ROWS - 1) / SUM_CHUNK_ROWS;
    if ((width + SUM_COLUMNS - 1) / SUM_COLUMNS >= SUM_MANY_STRIPS || chunks <= 1)
        return 1;
    if (chunks > SUM_MOST_CHUNKS)
        chunks = SUM_MOST_CHUNKS;
    int64_t each = (rows + chunks - 1) / chunks;
    return (rows + each - 1) / each;
}

static inline int64_t columns_scratch(int64_t rows, int64_t width)
{
    int64_t chunks = column_chunks(rows, width);
    return chunks == 1 ? 0 : chunks * width;
}

/* The gradient of attention keeps a number a query and head, parts of the two biases for each tile
 * of 32 queries, parts of drk for up to eight shares of the batch, and what adding up takes. */
static inline int64_t attention_vjp_scratch(const struct attention_vjp *v)
{
    const int64_t QUERY_TILE = 32, SHARES = 8, ROUND = 64;
    const struct attention *f = &v->fwd;
    int64_t batch = f->qkv.dim[0], length = f->qkv.dim[1], width = f->qkv.dim[2] / 3;
    int64_t keys = length + (f->mem.data == NULL ? 0 : f->mem.dim[1]);
    int64_t reach = f->span > 0 && f->span < keys ? f->span : keys;
    int64_t tiles = batch * ((length + QUERY_TILE - 1) / QUERY_TILE);
    int64_t drk = v->drk.data == NULL ? 0 : (batch < SHARES ? batch : SHARES) * reach * width;
    return batch * f->heads * length + 2 * tiles * width + drk + columns_scratch(tiles, width) +
           4 * ROUND;
}

/* Its derivative keeps three sums a query and head, and two matrices like the queries. */
static inline int64_t attention_tangent_scratch(const struct attention_tangent *t)
{
    int64_t rows = t->fwd.qkv.dim[0] * t->fwd.qkv.dim[1], width = t->fwd.qkv.dim[2] / 3;
    if (t->dout.data == NULL)
        return 0;
    return 3 * rows * t->fwd.heads + 2 * rows * width + columns_scratch(rows, width);
}

/* Rows that are added by index are sorted first, in tiles of 256, where there are more than 1024.
 */
static inline int64_t scatter_add_scratch(int64_t rows)
{
    const int64_t FEWEST = 1024, TILE_ROWS = 256, TILE_DIGITS = 256, ROUND_ROWS = 64;
    int64_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    return rows <= FEWEST ? 0 : 4 * (rows + ROUND_ROWS) + TILE_DIGITS * tiles;
}

/* That of norms, with a gain, keeps a matrix like the gradient. */
static inline int64_t norm_tangent_scratch(const struct norm_vjp_tangent *t)
{
    int64_t rows = t->vjp.ds.dim[0], width = t->vjp.ds.dim[1];
    if (t->vjp.dgain.data == NULL || t->vjp.kind == NORM_NONE)
        return 0;
    return rows * width + columns_scratch(rows, width);
}

#endif
