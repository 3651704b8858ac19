/* What the attention kernels share. Tiles of scores are kept in registers and the rows they come
 * from in shared memory.
 *
 * A tile is QUERIES queries by KEYS columns, which are keys or, for the gradient of rk, distances.
 * The 128 threads lie as 8 (ty) by 16 (tx). Thread (ty, tx) holds the scores of queries ty + 8a and
 * columns tx + 16b, for a, b < 4. Neighbouring lanes therefore read neighbouring rows, whose stride
 * (an odd number of float4) sends them to different banks.
 *
 * The first term of a score, q_i . k_j, pairs rows directly. The second, q_i . rk_{P+i-j}, runs
 * along diagonals. The rows of rk that a tile needs are QUERIES + KEYS - 1 neighbours. They lie in
 * shared memory in the order of i - j, and a thread's 16 scores meet 10 of them. So the T x K
 * matrix of positional scores never exists, nor does the shifted copy that others make of it. Over
 * distances the two terms change places, and k runs along diagonals.
 *
 * A head wider than MAX_CHUNK columns is taken in chunks. Scores add up over all chunks, and a
 * block (blockIdx.y) writes one chunk of the output. */
#ifndef DEQ_CUDA_ATTENTION_TILE_H
#define DEQ_CUDA_ATTENTION_TILE_H

#include "kernel.h"

enum {
    QUERIES = 32,
    KEYS = 64,
    DIAGONALS = QUERIES + KEYS - 1,
    ATT_THREADS = 128,
    ATT_BLOCKS = 2, /* The least on a multiprocessor. Shared memory lets few more in, so that
                       registers need not be saved by spilling. */
    LANES_X = 16,
    LANES_Y = 8,
    EACH = 4,           /* scores of a thread in each direction */
    WEIGHTS = KEYS + 4, /* stride of a tile of weights in shared memory */
    MAX_COLS = 5,       /* columns of a thread in an output row, for chunks of at most 80 */
    MAX_CHUNK = MAX_COLS * LANES_X,
};

struct att {
    const float *qkv, *mem, *rk, *r_w, *r_r;
    const uint8_t *mask;
    float *out, *lse;
    int64_t batch, length, mem_len, keys, width, heads, head; /* B, L, P, K, D, H, h */
    int64_t span; /* keys a query may see, K if it may see all */
    float scale, mask_scale;
    int chunk, chunks, stride; /* columns of a chunk, and floats between rows in shared memory */
};

/* The place of a block. `b` is its sequence, `n` its head, `first` its tile's first query, key or
 * distance. */
struct att_place {
    int64_t b, n, first;
    int tx, ty;
};

__device__ __forceinline__ att_place place_of(const att &p, int64_t tiles, int64_t tile_size)
{
    att_place at;
    int64_t x = blockIdx.x;
    at.first = x % tiles * tile_size;
    at.n = x / tiles % p.heads;
    at.b = x / tiles / p.heads;
    at.tx = (int)threadIdx.x % LANES_X;
    at.ty = (int)threadIdx.x / LANES_X;
    return at;
}

/* Columns [start, start + count) of a head. columns_of gives chunk c, block_columns the chunk that
 * this block writes. */
struct att_columns {
    int64_t start;
    int count;
};

__device__ __forceinline__ att_columns columns_of(const att &p, int64_t c)
{
    int64_t start = c * p.chunk;
    return {start, (int)at_most(p.head - start, p.chunk)};
}

__device__ __forceinline__ att_columns block_columns(const att &p)
{
    return columns_of(p, blockIdx.y);
}

/* Keys [begin, end) that `rows` queries from at.first on may see. */
struct att_keys {
    int64_t begin, end;
};

__device__ __forceinline__ att_keys keys_seen(const att &p, const att_place &at, int64_t rows)
{
    int64_t begin = p.mem_len + at.first - p.span + 1;
    return {begin > 0 ? begin : 0, p.mem_len + at.first + rows};
}

enum att_part { PART_Q, PART_K, PART_V };

/* Head n's numbers of a part of key row j, where the memory comes first. NULL if there is no such
 * key. */
__device__ __forceinline__ const float *key_row(const att &p, const att_place &at, att_part part,
                                                int64_t j)
{
    if (j < 0 || j >= p.keys)
        return NULL;
    const float *row = j < p.mem_len ? p.mem + (at.b * p.mem_len + j) * 3 * p.width
                                     : p.qkv + (at.b * p.length + j - p.mem_len) * 3 * p.width;
    return row + part * p.width + at.n * p.head;
}

__device__ __forceinline__ const float *query_row(const att &p, const att_place &at, int64_t i)
{
    return i < p.length ? key_row(p, at, PART_Q, p.mem_len + i) : NULL;
}

/* Row i of a [B,L,D] tensor. */
__device__ __forceinline__ const float *plain_row(const att &p, const att_place &at,
                                                  const float *data, int64_t i)
{
    return i < p.length ? data + (at.b * p.length + i) * p.width + at.n * p.head : NULL;
}

/* Row of rk for a distance. NULL where no query may look that far, and without positions. */
__device__ __forceinline__ const float *rk_row(const att &p, const att_place &at, int64_t d)
{
    return p.rk != NULL && d >= 0 && d < p.span ? p.rk + d * p.width + at.n * p.head : NULL;
}

/* Brings chunk c of `rows` rows into shared memory. row_of(r) points at a head's numbers, or is
 * NULL for a row of zeros. `add`, if not NULL, is added to each row. All COLS * 16 columns are
 * written, so that the products need no bounds. */
template <int COLS, class F>
__device__ __forceinline__ void load_rows(const att &p, const att_place &at, float *to, int rows,
                                          int c, F row_of, const float *add)
{
    att_columns cols = columns_of(p, c);
    for (int r = at.ty; r < rows; r += LANES_Y) {
        const float *from = row_of(r);
#pragma unroll
        for (int k = 0; k < COLS; k++) {
            int e = at.tx + LANES_X * k;
            float x = 0;
            if (from != NULL && e < cols.count)
                x = from[cols.start + e] + (add != NULL ? add[at.n * p.head + cols.start + e] : 0);
            to[r * p.stride + e] = x;
        }
    }
}

/* The rows that tiles are made of, from number `first` on. load_keys brings `rows` keys or values,
 * load_rk rows of rk, load_queries QUERIES queries with a bias, and load_plain rows of a [B,L,D]
 * tensor. */
template <int COLS>
__device__ __forceinline__ void load_keys(const att &p, const att_place &at, float *to, int rows,
                                          int c, att_part part, int64_t first)
{
    load_rows<COLS>(
        p, at, to, rows, c, [&](int r) { return key_row(p, at, part, first + r); }, NULL);
}

template <int COLS>
__device__ __forceinline__ void load_rk(const att &p, const att_place &at, float *to, int rows,
                                        int c, int64_t first)
{
    load_rows<COLS>(
        p, at, to, rows, c, [&](int r) { return rk_row(p, at, first + r); }, NULL);
}

template <int COLS>
__device__ __forceinline__ void load_queries(const att &p, const att_place &at, float *to, int c,
                                             int64_t first, const float *bias)
{
    load_rows<COLS>(
        p, at, to, QUERIES, c, [&](int r) { return query_row(p, at, first + r); }, bias);
}

template <int COLS>
__device__ __forceinline__ void load_plain(const att &p, const att_place &at, float *to, int c,
                                           int64_t first, const float *data)
{
    load_rows<COLS>(
        p, at, to, QUERIES, c, [&](int r) { return plain_row(p, at, data, first + r); }, NULL);
}

__device__ __forceinline__ float dot4(float sum, float4 a, float4 b)
{
    return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

/* acc[a][b] += x[ty + 8a] . y[tx + 16b] */
template <int COLS>
__device__ __forceinline__ void add_products(const att &p, const att_place &at,
                                             float acc[EACH][EACH], const float *x, const float *y)
{
    for (int e = 0; e < p.chunk; e += 4) {
        float4 xv[EACH];
#pragma unroll
        for (int a = 0; a < EACH; a++)
            xv[a] = load_vec<float4>(x + (at.ty + LANES_Y * a) * p.stride + e);
#pragma unroll
        for (int b = 0; b < EACH; b++) {
            float4 yv = load_vec<float4>(y + (at.tx + LANES_X * b) * p.stride + e);
#pragma unroll
            for (int a = 0; a < EACH; a++)
                acc[a][b] = dot4(acc[a][b], xv[a], yv);
        }
    }
}

/* acc[a][b] += x[i] . y[i - j + KEYS - 1] with i = ty + 8a, j = tx + 16b. The row depends on a - 2b
 * alone. */
template <int COLS>
__device__ __forceinline__ void add_diagonals(const att &p, const att_place &at,
                                              float acc[EACH][EACH], const float *x, const float *y)
{
    const float *base = y + (at.ty - at.tx + KEYS - 1) * p.stride;
    for (int e = 0; e < p.chunk; e += 4) {
        float4 xv[EACH];
#pragma unroll
        for (int a = 0; a < EACH; a++)
            xv[a] = load_vec<float4>(x + (at.ty + LANES_Y * a) * p.stride + e);
#pragma unroll
        for (int s = -2 * (EACH - 1); s < EACH; s++) {
            float4 yv = load_vec<float4>(base + LANES_Y * s * p.stride + e);
#pragma unroll
            for (int b = 0; b < EACH; b++)
#pragma unroll
                for (int a = 0; a < EACH; a++)
                    if (a - 2 * b == s)
                        acc[a][b] = dot4(acc[a][b], xv[a], yv);
        }
    }
}

/* Whether query i may look back by `d`. */
__device__ __forceinline__ bool sees(const att &p, int64_t i, int64_t d)
{
    return i < p.length && d >= 0 && d < p.span && d <= p.mem_len + i;
}

/* Dropout factor of query i and key j. */
__device__ __forceinline__ float kept(const att &p, const att_place &at, int64_t i, int64_t j)
{
    if (p.mask == NULL)
        return 1;
    int64_t row = (at.b * p.heads + at.n) * p.length + i;
    return p.mask[row * p.keys + j] != 0 ? p.mask_scale : 0;
}

/* The queries that are wanted, as rising numbers b*L + i. NULL stands for all. */
struct att_list {
    const int32_t *rows;
    int64_t count;
};

/* Whether one of `rows` queries from at.first on is in the list. */
__device__ __forceinline__ bool is_wanted(const att &p, const att_place &at, const att_list &list,
                                          int64_t rows)
{
    int64_t from = at.b * p.length + at.first, low = 0, high = list.count;
    if (list.rows == NULL)
        return true;
    while (low < high) { /* the first number that is not below `from` */
        int64_t middle = (low + high) / 2;
        if (list.rows[middle] < from)
            low = middle + 1;
        else
            high = middle;
    }
    return low < list.count && list.rows[low] < from + at_most(p.length - at.first, rows);
}

/* --- on the host ------------------------------------------------------------------------------ */

/* The common part of a call. Chunks of a head are as equal as multiples of 4 allow. */
static inline att att_of(const struct attention *f)
{
    att p = {};
    p.qkv = f32(&f->qkv);
    p.mem = f32(&f->mem);
    p.rk = f32(&f->rk);
    p.r_w = f32(&f->r_w);
    p.r_r = f32(&f->r_r);
    p.mask = static_cast<const uint8_t *>(f->mask.data);
    p.out = f32(&f->out);
    p.lse = f32(&f->lse);
    p.batch = f->qkv.dim[0];
    p.length = f->qkv.dim[1];
    p.mem_len = f->mem.data == NULL ? 0 : f->mem.dim[1];
    p.keys = p.mem_len + p.length;
    p.width = f->qkv.dim[2] / 3;
    p.heads = f->heads;
    p.head = p.width / p.heads;
    p.span = f->span > 0 && f->span < p.keys ? f->span : p.keys;
    p.scale = 1.0f / sqrtf((float)p.head);
    p.mask_scale = (float)f->mask_scale;
    p.chunks = (int)div_up(p.head, MAX_CHUNK);
    p.chunk = (int)(div_up(div_up(p.head, p.chunks), 4) * 4);
    p.stride = (int)div_up(p.chunk, LANES_X) * LANES_X + 4;
    return p;
}

/* Calls kernel<COLS> for the columns that a chunk needs. */
#define ATT_LAUNCH(kernel, p, blocks, bytes, stream, ...)                             \
    do {                                                                              \
        dim3 grid_((unsigned)(blocks), (unsigned)(p).chunks, 1);                      \
        switch (div_up((p).chunk, LANES_X)) {                                         \
        case 1:                                                                       \
            LAUNCH(kernel<1>, grid_, ATT_THREADS, bytes, stream, __VA_ARGS__);        \
            break;                                                                    \
        case 2:                                                                       \
            LAUNCH(kernel<2>, grid_, ATT_THREADS, bytes, stream, __VA_ARGS__);        \
            break;                                                                    \
        case 3:                                                                       \
            LAUNCH(kernel<3>, grid_, ATT_THREADS, bytes, stream, __VA_ARGS__);        \
            break;                                                                    \
        case 4:                                                                       \
            LAUNCH(kernel<4>, grid_, ATT_THREADS, bytes, stream, __VA_ARGS__);        \
            break;                                                                    \
        default:                                                                      \
            LAUNCH(kernel<MAX_COLS>, grid_, ATT_THREADS, bytes, stream, __VA_ARGS__); \
            break;                                                                    \
        }                                                                             \
    } while (0)

/* Lets a kernel use more shared memory than the 48 KiB that need no asking. */
#define ATT_ALLOW(kernel, limit)                                                     \
    do {                                                                             \
        const cudaFuncAttribute what_ = cudaFuncAttributeMaxDynamicSharedMemorySize; \
        cudaFuncSetAttribute(kernel<1>, what_, (int)(limit));                        \
        cudaFuncSetAttribute(kernel<2>, what_, (int)(limit));                        \
        cudaFuncSetAttribute(kernel<3>, what_, (int)(limit));                        \
        cudaFuncSetAttribute(kernel<4>, what_, (int)(limit));                        \
        cudaFuncSetAttribute(kernel<MAX_COLS>, what_, (int)(limit));                 \
    } while (0)

#endif
