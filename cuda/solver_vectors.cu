/* Vector operations of the fixed-point solvers, where every row carries its own numbers. The
 * history is read once a step by each of row_dots and row_combine, whatever its length. */
#include "cuda_impl.h"
#include "kernel.h"

template <int V>
__global__ void k_solve_residual(float *g, const float *f, const float *z, float *norms,
                                 const int32_t *reason, int64_t width)
{
    int64_t row = blockIdx.x;
    if (reason != NULL && reason[row] != SOLVE_ACTIVE) {
        if (threadIdx.x == 0)
            norms[2 * row] = norms[2 * row + 1] = 0;
        return;
    }
    float g2 = 0, f2 = 0;
    for (int64_t d = threadIdx.x * V; d < width; d += blockDim.x * V) {
        int64_t at = row * width + d;
        pack<V> fv = load_pack<V>(f + at), r = load_pack<V>(z + at);
#pragma unroll
        for (int k = 0; k < V; k++) {
            r.x[k] = fv.x[k] - r.x[k];
            g2 += r.x[k] * r.x[k];
            f2 += fv.x[k] * fv.x[k];
        }
        store_pack<V>(g + at, r);
    }
    g2 = block_sum(g2);
    f2 = block_sum(f2);
    if (threadIdx.x == 0) {
        norms[2 * row] = g2;
        norms[2 * row + 1] = f2;
    }
}

/* Sums the two columns of norms [N,2] in one block. */
__global__ void k_total(double *total, const float *norms, int64_t rows)
{
    double g2 = 0, f2 = 0;
    for (int64_t n = threadIdx.x; n < rows; n += blockDim.x) {
        g2 += (double)norms[2 * n];
        f2 += (double)norms[2 * n + 1];
    }
    g2 = block_sum(g2);
    f2 = block_sum(f2);
    if (threadIdx.x == 0) {
        total[0] = g2;
        total[1] = f2;
    }
}

void cuda_solve_residual(struct backend *be, const struct solve_residual *p)
{
    int64_t rows = p->f.dim[0], width = p->f.dim[1];
    int vec = VEC_OF(width, p->g.data, p->f.data, p->z.data);
    if (rows > 0)
        LAUNCH_ROWS(be, PACKS(k_solve_residual), vec, rows, width, 0, f32(&p->g), f32(&p->f),
                    f32(&p->z), f32(&p->norms), i32(&p->reason), width);
    LAUNCH(k_total, 1, MAX_THREADS, 0, cuda_of(be)->stream, static_cast<double *>(p->total.data),
           f32(&p->norms), rows);
    cuda_launched(be, OP_solve_residual);
}

enum { SLOTS_AT_ONCE = 8 };

struct dots_args {
    float *dots;
    const float *x, *y, *hist;
    const int32_t *reason;
    int64_t rows, width, count, slots;
};

/* Sums eight numbers over a warp at once. Halves of the numbers are exchanged for halves of the
 * lanes, which takes 9 exchanges in place of 40. A lane is left with number lane / 4 (of eight). */
__device__ __forceinline__ float warp_sum_eight(const float x[SLOTS_AT_ONCE])
{
    int lane = (int)threadIdx.x % 32;
    bool upper = (lane & 16) != 0;
    float four[4], two[2];
#pragma unroll
    for (int i = 0; i < 4; i++)
        four[i] =
            (upper ? x[i + 4] : x[i]) + __shfl_xor_sync(WARP_ALL, upper ? x[i] : x[i + 4], 16);
    upper = (lane & 8) != 0;
#pragma unroll
    for (int i = 0; i < 2; i++)
        two[i] = (upper ? four[i + 2] : four[i]) +
                 __shfl_xor_sync(WARP_ALL, upper ? four[i] : four[i + 2], 8);
    upper = (lane & 4) != 0;
    float one = (upper ? two[1] : two[0]) + __shfl_xor_sync(WARP_ALL, upper ? two[0] : two[1], 4);
    one += __shfl_xor_sync(WARP_ALL, one, 2);
    return one + __shfl_xor_sync(WARP_ALL, one, 1);
}

/* All inner products of a row, with x or (Q 2) with x and y. Partial sums of every warp are left in
 * shared memory, and one barrier serves all slots. */
template <int V, int Q> __global__ void k_row_dots(dots_args p)
{
    SHARED(float, part, [MAX_THREADS / 32][Q * HISTORY_MOST]);
    int64_t row = blockIdx.x, slot_step = p.rows * p.width;
    const float *with[2] = {p.x + row * p.width, Q == 2 ? p.y + row * p.width : NULL};
    const float *hist = p.hist + row * p.width;
    float *dots = p.dots + row * Q * p.slots;
    int warp = (int)threadIdx.x / 32, warps = (int)blockDim.x / 32;
    int64_t all = Q * p.count; /* number i is that of vector i / count and slot i % count */
    if (p.reason != NULL && p.reason[row] != SOLVE_ACTIVE) {
        for (int64_t i = threadIdx.x; i < all; i += blockDim.x)
            dots[i / p.count * p.slots + i % p.count] = 0;
        return;
    }
    for (int64_t j = 0; j < p.count; j += SLOTS_AT_ONCE) {
        float sum[Q][SLOTS_AT_ONCE] = {};
        for (int64_t d = threadIdx.x * V; d < p.width; d += blockDim.x * V) {
            pack<V> x[Q];
#pragma unroll
            for (int q = 0; q < Q; q++)
                x[q] = load_pack<V>(with[q] + d);
#pragma unroll
            for (int s = 0; s < SLOTS_AT_ONCE; s++) {
                if (j + s >= p.count)
                    continue;
                pack<V> h = load_pack<V>(hist + (j + s) * slot_step + d);
#pragma unroll
                for (int q = 0; q < Q; q++)
#pragma unroll
                    for (int k = 0; k < V; k++)
                        sum[q][s] += x[q].x[k] * h.x[k];
            }
        }
#pragma unroll
        for (int q = 0; q < Q; q++) {
            if (j + 1 == p.count) { /* one is left, for which five exchanges do */
                float one = warp_sum(sum[q][0]);
                if (threadIdx.x % 32 == 0)
                    part[warp][q * p.count + j] = one;
                continue;
            }
            float eighth = warp_sum_eight(sum[q]);
            int64_t slot = j + threadIdx.x % 32 / 4;
            if (threadIdx.x % 4 == 0 && slot < p.count)
                part[warp][q * p.count + slot] = eighth;
        }
    }
    __syncthreads();
    for (int64_t i = threadIdx.x; i < all; i += blockDim.x) {
        float sum = 0;
        for (int k = 0; k < warps; k++)
            sum += part[k][i];
        dots[i / p.count * p.slots + i % p.count] = sum;
    }
}

void cuda_row_dots(struct backend *be, const struct row_dots *p)
{
    int64_t rows = p->x.dim[0], width = p->x.dim[1];
    if (rows * p->count == 0)
        return;
    assert(p->count <= HISTORY_MOST);
    dots_args a = {f32(&p->dots), f32(&p->x), f32(&p->y), f32(&p->hist), i32(&p->reason),
                   rows,          width,      p->count,   p->hist.dim[0]};
    int vec = VEC_OF(width, a.x, a.y, a.hist);
    if (a.y != NULL)
        LAUNCH_ROWS(be, PACKS_OF(k_row_dots, 2), vec, rows, width, 0, a);
    else
        LAUNCH_ROWS(be, PACKS_OF(k_row_dots, 1), vec, rows, width, 0, a);
    cuda_launched(be, OP_row_dots);
}

struct combine_args {
    float *out, *sum;
    const float *x, *y, *coef, *hist, *hist2;
    const int32_t *reason;
    int64_t rows, width, count, slots;
    float a, b, c, c2;
    bool clear;
};

template <int V> __global__ void k_row_combine(combine_args p)
{
    int64_t row = blockIdx.x, d = tile_column<V>(), at = row * p.width + d;
    if (d >= p.width)
        return;
    pack<V> sum = {}, v;
    if (p.reason != NULL && p.reason[row] != SOLVE_ACTIVE) {
        if (p.clear)
            store_pack<V>(p.out + at, sum);
        return;
    }
    if (p.x != NULL) {
        v = load_pack<V>(p.x + at);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum.x[k] = p.a * v.x[k];
    }
    if (p.y != NULL) {
        v = load_pack<V>(p.y + at);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum.x[k] += p.b * v.x[k];
    }
    for (int64_t j = 0; j < p.count; j++) {
        int64_t slot_at = j * p.rows * p.width + at;
        float coef = p.coef[row * p.slots + j];
        v = load_pack<V>(p.hist + slot_at);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum.x[k] += coef * p.c * v.x[k];
        if (p.hist2 == NULL)
            continue;
        v = load_pack<V>(p.hist2 + slot_at);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum.x[k] += coef * p.c2 * v.x[k];
    }
    store_pack<V>(p.out + at, sum);
    if (p.sum == NULL)
        return;
    v = load_pack<V>(p.sum + at);
#pragma unroll
    for (int k = 0; k < V; k++)
        v.x[k] += sum.x[k];
    store_pack<V>(p.sum + at, v);
}

void cuda_row_combine(struct backend *be, const struct row_combine *p)
{
    int64_t rows = p->out.dim[0], width = p->out.dim[1];
    if (rows * width == 0)
        return;
    combine_args a = {};
    a.out = f32(&p->out);
    a.sum = f32(&p->sum);
    a.x = f32(&p->x);
    a.y = f32(&p->y);
    a.coef = f32(&p->coef);
    a.hist = f32(&p->hist);
    a.hist2 = f32(&p->hist2);
    a.reason = i32(&p->reason);
    a.rows = rows;
    a.width = width;
    a.count = p->count;
    a.slots = p->hist.dim[0];
    a.a = (float)p->a;
    a.b = (float)p->b;
    a.c = (float)p->c;
    a.c2 = (float)p->c2;
    a.clear = p->clear;
    int vec = VEC_OF(width, a.out, a.sum, a.x, a.y, a.hist, a.hist2);
    LAUNCH_TILES(be, PACKS(k_row_combine), vec, rows, width, a);
    cuda_launched(be, OP_row_combine);
}
