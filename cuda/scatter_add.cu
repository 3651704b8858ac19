/* Rows added to those of a table, several to one: the gradient of an embedding.
 *
 * Rows of one index must be added in their order, without atomics. Where there are many, their
 * numbers are first sorted by index, a byte at a time, and stay in order where indices are equal.
 * Every step of that is made of whole numbers and of places that depend on the indices alone. Few
 * are searched as they are, since that is one launch. */
#include "cuda_impl.h"
#include "kernel.h"

enum {
    FEW = 1024,   /* rows that are searched without sorting */
    TILE = 256,   /* of rows, a thread each */
    DIGITS = 256, /* as many as threads */
    WARPS = TILE / 32,
    DIGIT_BITS = 8,
};

/* A warp stands at every index. The one at the first of its kind adds all rows of that kind, which
 * it finds 32 indices at a time. The others leave as soon as they see an equal index before their
 * own. */
__global__ void k_scatter_add_few(float *table, const float *x, const int32_t *idx, float scale,
                                  int64_t rows, int64_t width)
{
    int64_t mine = blockIdx.x, d = (int64_t)blockIdx.y * 32 + threadIdx.x;
    int32_t token = idx[mine];
    for (int64_t start = 0; start < mine; start += 32) {
        int64_t i = start + threadIdx.x;
        if (__ballot_sync(WARP_ALL, i < mine && idx[i] == token) != 0)
            return;
    }
    float sum = d < width ? table[token * width + d] : 0;
    for (int64_t start = mine / 32 * 32; start < rows; start += 32) {
        int64_t i = start + threadIdx.x;
        unsigned equal = __ballot_sync(WARP_ALL, i >= mine && i < rows && idx[i] == token);
        for (; equal != 0; equal &= equal - 1)
            if (d < width)
                sum += scale * x[(start + __ffs((int)equal) - 1) * width + d];
    }
    if (d < width)
        table[token * width + d] = sum;
}

/* Indices and the numbers of their rows. */
struct sorted {
    int32_t *index, *row;
};

__device__ __forceinline__ int ones_of(unsigned x)
{
    x -= x >> 1 & 0x55555555u;
    x = (x & 0x33333333u) + (x >> 2 & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    return (int)(x * 0x01010101u >> 24);
}

/* The place of this thread's row among those of its tile with the same digit. Afterwards
 * before[w][d] is how many rows with digit d the warps before w have, and w = WARPS counts all. */
__device__ __forceinline__ int rank_in_tile(int digit, bool valid, int before[WARPS + 1][DIGITS])
{
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    unsigned same = __ballot_sync(WARP_ALL, valid);
    for (int bit = 0; bit < DIGIT_BITS; bit++) {
        bool set = digit >> bit & 1;
        unsigned lanes = __ballot_sync(WARP_ALL, set);
        same &= set ? lanes : ~lanes;
    }
    for (int w = 0; w <= WARPS; w++)
        before[w][threadIdx.x] = 0;
    __syncthreads();
    if (valid && lane == __ffs((int)same) - 1)
        before[warp + 1][digit] = ones_of(same);
    __syncthreads();
    for (int w = 0; w < WARPS; w++)
        before[w + 1][threadIdx.x] += before[w][threadIdx.x];
    __syncthreads();
    return valid ? before[warp][digit] + ones_of(same & ((1u << lane) - 1)) : 0;
}

/* counts[digit,tile] = the rows of the tile with that digit. */
__global__ void k_count_digits(int32_t *counts, const int32_t *index, int64_t rows, int shift)
{
    SHARED(int, before, [WARPS + 1][DIGITS]);
    int64_t i = (int64_t)blockIdx.x * TILE + threadIdx.x;
    (void)rank_in_tile(i < rows ? index[i] >> shift & (DIGITS - 1) : 0, i < rows, before);
    counts[threadIdx.x * (int64_t)gridDim.x + blockIdx.x] = before[WARPS][threadIdx.x];
}

/* counts[digit,tile] becomes the number of rows before those, in one block. */
__global__ void k_sum_counts(int32_t *counts, int64_t tiles)
{
    SHARED(int, total, [DIGITS]);
    int32_t *mine = counts + threadIdx.x * tiles;
    int sum = 0;
    for (int64_t t = 0; t < tiles; t++) {
        int count = mine[t];
        mine[t] = sum;
        sum += count;
    }
    total[threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int d = 0; d < (int)threadIdx.x; d++)
        sum += total[d];
    for (int64_t t = 0; t < tiles; t++)
        mine[t] += sum;
}

/* Moves every row to its place by a digit. Without from.row the rows are numbered as they lie. */
__global__ void k_place_rows(sorted to, sorted from, const int32_t *counts, int64_t rows, int shift)
{
    SHARED(int, before, [WARPS + 1][DIGITS]);
    int64_t i = (int64_t)blockIdx.x * TILE + threadIdx.x;
    int32_t index = i < rows ? from.index[i] : 0;
    int digit = index >> shift & (DIGITS - 1);
    int rank = rank_in_tile(digit, i < rows, before);
    if (i >= rows)
        return;
    int32_t place = counts[digit * (int64_t)gridDim.x + blockIdx.x] + rank;
    to.index[place] = index;
    to.row[place] = from.row != NULL ? from.row[i] : (int32_t)i;
}

/* A warp at the first row of each index adds all of them. */
__global__ void k_scatter_add_sorted(float *table, const float *x, sorted s, float scale,
                                     int64_t rows, int64_t width)
{
    int64_t i = blockIdx.x, d = (int64_t)blockIdx.y * 32 + threadIdx.x;
    int32_t token = s.index[i];
    if ((i > 0 && s.index[i - 1] == token) || d >= width)
        return;
    float sum = table[token * width + d];
    for (; i < rows && s.index[i] == token; i++)
        sum += scale * x[s.row[i] * width + d];
    table[token * width + d] = sum;
}

/* Sorts the numbers of the rows by index. The result lies in scratch. False without memory. */
static bool sort_rows(struct backend *be, const struct tensor *idx, int64_t largest, sorted *out)
{
    cudaStream_t stream = cuda_of(be)->stream;
    int64_t rows = tensor_count(idx), tiles = div_up(rows, TILE), part = div_up(rows, 64) * 64;
    size_t numbers = (size_t)(4 * part + DIGITS * tiles);
    int32_t *work =
        static_cast<int32_t *>(cuda_work(be, numbers * sizeof(int32_t), OP_scatter_add_rows));
    if (work == NULL)
        return false;
    sorted from = {i32(idx), NULL}, to = {work, work + part},
           other = {to.row + part, to.row + 2 * part};
    int32_t *counts = work + 4 * part;
    for (int shift = 0; shift == 0 || largest >> shift > 0; shift += DIGIT_BITS) {
        LAUNCH(k_count_digits, (unsigned)tiles, TILE, 0, stream, counts,
               (const int32_t *)from.index, rows, shift);
        LAUNCH(k_sum_counts, 1, DIGITS, 0, stream, counts, tiles);
        LAUNCH(k_place_rows, (unsigned)tiles, TILE, 0, stream, to, from, (const int32_t *)counts,
               rows, shift);
        from = to;
        to = other;
        other = from;
    }
    *out = from;
    return true;
}

void cuda_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                           const struct tensor *idx, double scale)
{
    int64_t rows = x->dim[0], width = table->dim[1];
    cudaStream_t stream = cuda_of(be)->stream;
    dim3 grid((unsigned)rows, (unsigned)div_up(width, 32), 1);
    sorted s;
    if (rows * width == 0)
        return;
    if (rows <= FEW)
        LAUNCH(k_scatter_add_few, grid, 32, 0, stream, f32(table), f32(x), i32(idx), (float)scale,
               rows, width);
    else if (sort_rows(be, idx, table->dim[0] - 1, &s))
        LAUNCH(k_scatter_add_sorted, grid, 32, 0, stream, f32(table), f32(x), s, (float)scale, rows,
               width);
    cuda_launched(be, OP_scatter_add_rows);
}
