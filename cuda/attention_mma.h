/* What the attention kernels on tensor cores share (attention_bf16*.cu): operands in bf16, sums and
 * softmax in float32, as in FlashAttention-2 (Dao 2023).
 *
 * A block has 4 warps and takes 64 queries, 16 a warp, against tiles of KEYS keys. A head of h
 * columns is padded with zeros to HEAD, the next of 32, 64, 80, 96 and 128. Wider heads are left to
 * the kernels in float32. First a pass (attention_pack) rounds what the kernels read to bf16 and
 * puts the rows of a head one behind another, so that copies of 16 bytes bring them into shared
 * memory while the warps compute. Rows lie HEAD + 8 numbers apart there. This is an odd number of
 * 16 bytes, and the 8 rows of a matrix are in 32 different banks.
 *
 * The positional scores q_i . rk_{P+i-j} run along diagonals. A warp multiplies its 16 queries by
 * the KEYS + 15 rows of rk that they meet, in the order of j - i. Row i of this product, moved by
 * 15 - i columns, is what is to be added to the scores of query i. A row lies in four lanes, so the
 * move takes one shuffle a score and no shared memory (see diagonal). From one tile to the next the
 * window of rk moves by KEYS rows. The rows that stay are kept, in a ring.
 *
 * Rounding, relative to the sum of absolute values behind each result, with u = 2^-9: a score errs
 * by 2 u, since both factors are rounded, the biases being added before. A weight is rounded once
 * more for the product with the values, which are rounded too. Sums of float32 lose far less. */
#ifndef DEQ_CUDA_ATTENTION_MMA_H
#define DEQ_CUDA_ATTENTION_MMA_H

#include "attention_tile.h"
#include "mma.h"

extern "C" {
#include "backend/attention_operands.h"
}

typedef __nv_bfloat16 bf16;

enum {
    MMA_WARPS = 4,
    MMA_THREADS = 32 * MMA_WARPS,
    MMA_ROWS = 16, /* queries of a warp */
    MMA_QUERIES = MMA_ROWS * MMA_WARPS,
    MMA_MOST_KEYS = 1 << 30, /* queries, keys and distances are numbered by int */
};

/* Rounded operands in scratch memory, HEAD numbers a row. Without positions `qr` and `rk` are NULL,
 * and `qw` is q. The forward kernel reads its queries where they are. */
struct att_packed {
    bf16 *qw, *qr, *dout; /* [B,H,L,HEAD] q + r_w, q + r_r */
    bf16 *k, *v;          /* [B,H,K,HEAD] memory and segment */
    bf16 *rk;             /* [H,span,HEAD] */
};

/* Does what follows with HEAD as a constant, the width that the heads of `p` are padded to. */
#define MMA_CASE(width, ...)        \
    case width: {                   \
        constexpr int HEAD = width; \
        __VA_ARGS__;                \
    } break
#define MMA_BY_HEAD(p, ...)                        \
    do {                                           \
        switch (attention_padded_head((p).head)) { \
            MMA_CASE(32, __VA_ARGS__);             \
            MMA_CASE(64, __VA_ARGS__);             \
            MMA_CASE(80, __VA_ARGS__);             \
            MMA_CASE(96, __VA_ARGS__);             \
            MMA_CASE(128, __VA_ARGS__);            \
        }                                          \
    } while (0)

/* Lets every instance use more shared memory than the 48 KiB that need no asking. */
#define MMA_ALLOW_ONE(kernel, limit) \
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(limit))
#define MMA_ALLOW_HEAD(kernel, head, limit)          \
    do {                                             \
        MMA_ALLOW_ONE((kernel<head, false>), limit); \
        MMA_ALLOW_ONE((kernel<head, true>), limit);  \
    } while (0)
#define MMA_ALLOW(kernel, limit)            \
    do {                                    \
        MMA_ALLOW_HEAD(kernel, 32, limit);  \
        MMA_ALLOW_HEAD(kernel, 64, limit);  \
        MMA_ALLOW_HEAD(kernel, 80, limit);  \
        MMA_ALLOW_HEAD(kernel, 96, limit);  \
        MMA_ALLOW_HEAD(kernel, 128, limit); \
    } while (0)

/* Attention of a call whose heads are not too wide. */
void attention_bf16(struct backend *be, const struct attention *f, const att &p);
static inline bool attention_is_bf16(const struct backend *be, const att &p)
{
    return be->precision == PRECISION_BF16 && attention_padded_head(p.head) > 0 &&
           p.keys < MMA_MOST_KEYS;
}

/* Divides `scratch`, attention_operands numbers, among the operands, and starts the pass that fills
 * them. `dout` is NULL in the forward direction. */
att_packed attention_pack(struct cuda *cuda, const att &p, const float *dout, bf16 *scratch);

/* --- fragments -------------------------------------------------------------------------------- */

__device__ __forceinline__ int lane_of()
{
    return (int)threadIdx.x % 32;
}

/* Rows [row, row + 16) and columns [column, column + 16) of a tile in shared memory, as an operand.
 * As b for two tiles of 8 columns: rows_as_columns for a product with the transposed tile, and
 * rows_as_rows with the tile itself. As a: rows_as_a, and columns_as_a of the transposed tile. */
template <int STRIDE>
__device__ __forceinline__ void rows_as_columns(uint32_t to[4], const bf16 *tile, int row,
                                                int column)
{
    int lane = lane_of();
    load_matrices(to, tile + (row + lane % 8 + lane / 16 * 8) * STRIDE + column + lane / 8 % 2 * 8);
}

template <int STRIDE>
__device__ __forceinline__ void rows_as_rows(uint32_t to[4], const bf16 *tile, int row, int column)
{
    int lane = lane_of();
    load_transposed(to, tile + (row + lane % 16) * STRIDE + column + lane / 16 * 8);
}

template <int STRIDE>
__device__ __forceinline__ void rows_as_a(uint32_t to[4], const bf16 *tile, int row, int column)
{
    int lane = lane_of();
    load_matrices(to, tile + (row + lane % 16) * STRIDE + column + lane / 16 * 8);
}

template <int STRIDE>
__device__ __forceinline__ void columns_as_a(uint32_t to[4], const bf16 *tile, int row, int column)
{
    int lane = lane_of();
    load_transposed(to,
                    tile + (row + lane % 8 + lane / 16 * 8) * STRIDE + column + lane / 8 % 2 * 8);
}

/* Two tiles of sums side by side, rounded, as an operand a. */
__device__ __forceinline__ void sums_as_a(uint32_t to[4], const float left[4], const float right[4])
{
    to[0] = pack_bf16(left[0], left[1]);
    to[1] = pack_bf16(left[2], left[3]);
    to[2] = pack_bf16(right[0], right[1]);
    to[3] = pack_bf16(right[2], right[3]);
}

/* sum[t] and sum[t + 1] += a b for b of two tiles */
__device__ __forceinline__ void add_pair(float sum[][4], int t, const uint32_t a[4],
                                         const uint32_t b[4])
{
    mma_bf16(sum[t], a, b);
    mma_bf16(sum[t + 1], a, b + 2);
}

/* The 16 rows of a warp as operands a, straight from 16 rows of `stride` numbers at `from`. Rows
 * from `rows` on and columns from `columns` on are zeros. `add`, if not NULL, is added first. */
template <int HEAD>
__device__ __forceinline__ void rows_from_global(uint32_t to[HEAD / 16][4], const float *from,
                                                 int64_t stride, int64_t rows, int64_t columns,
                                                 const float *add)
{
    int row = lane_of() / 4, first = lane_of() % 4 * 2;
    auto number = [&](int r, int e) {
        return r < rows && e < columns ? from[r * stride + e] + (add != NULL ? add[e] : 0) : 0;
    };
#pragma unroll
    for (int k = 0; k < HEAD / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int r = row + i % 2 * 8, e = 16 * k + first + i / 2 * 8;
            to[k][i] = pack_bf16(number(r, e), number(r, e + 1));
        }
}

/* A warp's 16 rows of a tile of queries as operands a, and such operands into the tile. */
template <int HEAD>
__device__ __forceinline__ void rows_from_tile(uint32_t to[HEAD / 16][4], const bf16 *tile)
{
#pragma unroll
    for (int k = 0; k < HEAD / 16; k++)
        rows_as_a<HEAD + 8>(to[k], tile, MMA_ROWS * ((int)threadIdx.x / 32), 16 * k);
}

template <int HEAD>
__device__ __forceinline__ void rows_into_tile(bf16 *tile, const uint32_t from[HEAD / 16][4])
{
    int row = MMA_ROWS * ((int)threadIdx.x / 32) + lane_of() / 4, column = lane_of() % 4 * 2;
#pragma unroll
    for (int k = 0; k < HEAD / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            store_vec(tile + (row + i % 2 * 8) * (HEAD + 8) + 16 * k + column + i / 2 * 8,
                      from[k][i]);
}

/* --- tiles in shared memory ------------------------------------------------------------------- */

/* Sizes of a kernel's tiles. The ring has room for AHEAD tiles of keys. */
template <int HEAD, int KEYS_, int AHEAD = 1> struct mma_shape {
    static constexpr int KEYS = KEYS_;
    static constexpr int STRIDE = HEAD + 8;
    static constexpr int WINDOW = KEYS + MMA_ROWS; /* rows of rk that a warp meets, and one */
    /* rows of rk that a block meets in this tile and those fetched ahead, and one */
    static constexpr int RING = AHEAD * KEYS + MMA_QUERIES;
    static constexpr int KEY_NUMBERS = KEYS * STRIDE;  /* of a tile in shared memory */
    static constexpr int RING_NUMBERS = RING * STRIDE; /* of the ring */
    static constexpr int QUERY_NUMBERS = MMA_QUERIES * STRIDE;
};

/* Starts to copy `rows` rows into shared memory: row r from row first + step * r of `count` rows at
 * `from`, or zeros where there is no such row. Two threads share a row and take turns at its 16
 * bytes, so that a warp reads whole sectors of 32 bytes, from addresses a constant apart. */
template <int HEAD>
__device__ __forceinline__ void fetch_rows(bf16 *to, const bf16 *from, int rows, int first,
                                           int step, int count)
{
    int side = (int)threadIdx.x % 2 * 8;
#pragma unroll 1
    for (int r = (int)threadIdx.x / 2; r < rows; r += MMA_THREADS / 2) {
        int row = first + step * r;
        bool valid = row >= 0 && row < count;
        const bf16 *source = from + (int64_t)(valid ? row : 0) * HEAD + side;
#pragma unroll
        for (int e = 0; e < HEAD; e += 16)
            copy_async(to + r * (HEAD + 8) + side + e, source + e, valid);
    }
}

/* A block's rows of rk, in the order of j - i, to the ring's rows from `begin` on. Row r of the
 * tile that begins with key j0 holds the distance P + first + 63 - j0 - r. */
template <int HEAD>
__device__ __forceinline__ void fetch_window(const att &p, bf16 *ring, const bf16 *rk, int begin,
                                             int rows, int distance)
{
    if (p.rk != NULL)
        fetch_rows<HEAD>(ring + begin * (HEAD + 8), rk, rows, distance, -1, (int)p.span);
}

/* Whether any of a warp's queries from `row` on sees any of KEYS keys from j0 on. */
template <int KEYS> __device__ __forceinline__ bool meets(const att &p, int row, int j0)
{
    int back = (int)p.mem_len + row - j0;
    return row < p.length && back + MMA_ROWS > 0 && back - (KEYS - 1) < p.span;
}

/* Which of a lane's weights dropout keeps, bit 4t + i for number i of tile t: all without a mask.
 * `row` is the warp's first query and j0 the tile's first key. */
template <int KEYS>
__device__ __forceinline__ uint32_t kept_bits(const att &p, const att_place &at, int row, int j0)
{
    static_assert(KEYS <= 64, "four bits for 8 keys");
    if (p.mask == NULL)
        return UINT32_MAX;
    uint32_t bits = 0;
    int j = j0 + lane_of() % 4 * 2, first = row + lane_of() / 4;
    const uint8_t *mask = p.mask + ((at.b * p.heads + at.n) * p.length + first) * p.keys + j;
#pragma unroll 4
    for (int t = 0; t < KEYS / 8; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            bool there = first + i / 2 * 8 < p.length && j + 8 * t + i % 2 < p.keys;
            if (there && mask[i / 2 * 8 * p.keys + 8 * t + i % 2] != 0)
                bits |= 1u << (4 * t + i);
        }
    return bits;
}

/* --- scores ----------------------------------------------------------------------------------- */

/* The move between a warp's product with its window of rk and its scores. Column x of the scores of
 * row i is column x + 15 - i of the product. With g = lane / 4 the second row of a lane, g + 8, is
 * moved by u = 7 - g columns, and its first by a whole tile more. Moving by u columns changes the
 * lane of the four by u / 2, rounded up or down, and lower and upper number if u is odd. */
struct diagonal {
    bool odd;
    int step[2]; /* lanes, of a lane's lower and upper number among the scores */
    int quad, member;
};

__device__ __forceinline__ diagonal diagonal_of()
{
    int lane = lane_of(), u = 7 - lane / 4;
    return {u % 2 != 0, {u / 2, (u + 1) / 2}, lane / 4 * 4, lane % 4};
}

/* score[t] = product moved. A lane knows which tile its reader wants: the next one if the reader is
 * reached beyond the fourth lane. */
template <int TILES>
__device__ __forceinline__ void along_diagonals(float score[TILES][4],
                                                const float product[TILES + 2][4])
{
    diagonal m = diagonal_of();
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int low = i / 2 * 2, here = t + (i < 2 ? 1 : 0), b = i % 2;
            bool upper = m.odd != (b == 1), beyond = m.member < m.step[b];
            float next = upper ? product[here + 1][low + 1] : product[here + 1][low];
            float same = upper ? product[here][low + 1] : product[here][low];
            score[t][i] =
                __shfl_sync(WARP_ALL, beyond ? next : same, m.quad + (m.member + m.step[b]) % 4);
        }
}

/* sum [16,ROWS] += a tile^T, for ROWS rows of a tile */
template <int HEAD, int ROWS>
__device__ __forceinline__ void add_by_rows(float sum[ROWS / 8][4], const uint32_t a[HEAD / 16][4],
                                            const bf16 *tile)
{
#pragma unroll
    for (int t = 0; t < ROWS / 8; t += 2)
#pragma unroll
        for (int k = 0; k < HEAD / 16; k++) {
            uint32_t b[4];
            rows_as_columns<HEAD + 8>(b, tile, 8 * t, 16 * k);
            add_pair(sum, t, a[k], b);
        }
}

/* Row of the block's window of rk that the warp's begins with. */
__device__ __forceinline__ int window_row()
{
    return MMA_QUERIES - MMA_ROWS * (1 + (int)threadIdx.x / 32);
}

/* The raw scores of a warp's 16 queries and a tile of KEYS keys. `qr` is the block's tile of
 * queries for the positional term, and `ring` holds rk, whose row 0 for this tile is at `turn`. */
template <class shape, bool PLACE, int STEPS>
__device__ __forceinline__ void add_scores(float s[shape::KEYS / 8][4], const uint32_t qw[STEPS][4],
                                           const bf16 *qr, const bf16 *key, const bf16 *ring,
                                           int turn)
{
    if constexpr (PLACE) {
        float product[shape::WINDOW / 8][4] = {};
        uint32_t a[STEPS][4];
        rows_from_tile<16 * STEPS>(a, qr);
        int begin = turn + window_row();
#pragma unroll
        for (int t = 0; t < shape::WINDOW / 8; t += 2) {
            int row = (begin + 8 * t) % shape::RING;
#pragma unroll
            for (int k = 0; k < STEPS; k++) {
                uint32_t b[4];
                rows_as_columns<shape::STRIDE>(b, ring, row, 16 * k);
                add_pair(product, t, a[k], b);
            }
        }
        along_diagonals<shape::KEYS / 8>(s, product);
    }
    add_by_rows<16 * STEPS, shape::KEYS>(s, qw, key);
}

/* sum [16,HEAD] += s rows, for sums s of a product and rows [KEYS,HEAD] in shared memory */
template <int HEAD, int KEYS>
__device__ __forceinline__ void add_rows(float sum[HEAD / 8][4], const float s[KEYS / 8][4],
                                         const bf16 *rows)
{
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
        uint32_t a[4];
        sums_as_a(a, s[2 * k], s[2 * k + 1]);
#pragma unroll
        for (int c = 0; c < HEAD / 8; c += 2) {
            uint32_t b[4];
            rows_as_rows<HEAD + 8>(b, rows, 16 * k, 8 * c);
            add_pair(sum, c, a, b);
        }
    }
}

#endif
