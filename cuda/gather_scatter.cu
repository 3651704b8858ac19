/* Rows of tables, picked, written and added by index. */
#include "cuda_impl.h"
#include "kernel.h"

template <int V>
__global__ void k_gather_rows(float *out, const float *table, const int32_t *idx, float scale,
                              int64_t width)
{
    int64_t row = blockIdx.x, d = tile_column<V>();
    if (d >= width)
        return;
    pack<V> v = load_pack<V>(table + idx[row] * width + d);
#pragma unroll
    for (int k = 0; k < V; k++)
        v.x[k] *= scale;
    store_pack<V>(out + row * width + d, v);
}

void cuda_gather_rows(struct backend *be, const struct tensor *out, const struct tensor *table,
                      const struct tensor *idx, double scale)
{
    int64_t rows = out->dim[0], width = table->dim[1];
    if (rows * width == 0)
        return;
    int vec = VEC_OF(width, out->data, table->data);
    LAUNCH_TILES(be, PACKS(k_gather_rows), vec, rows, width, f32(out), f32(table), i32(idx),
                 (float)scale, width);
    cuda_launched(be, OP_gather_rows);
}

template <int V>
__global__ void k_scatter_rows(float *table, const float *x, const int32_t *idx, int64_t width)
{
    int64_t row = blockIdx.x, d = tile_column<V>();
    if (d < width)
        store_pack<V>(table + idx[row] * width + d, load_pack<V>(x + row * width + d));
}

void cuda_scatter_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                       const struct tensor *idx)
{
    int64_t rows = x->dim[0], width = table->dim[1];
    if (rows * width == 0)
        return;
    int vec = VEC_OF(width, x->data, table->data);
    LAUNCH_TILES(be, PACKS(k_scatter_rows), vec, rows, width, f32(table), f32(x), i32(idx), width);
    cuda_launched(be, OP_scatter_rows);
}

/* Equal indices must be added in their order, without sorting and without atomics. A warp stands at
 * every index. The one at the first of its kind adds all rows of that kind, which it finds 32
 * indices at a time. The others leave as soon as they see an equal index before their own. */
__global__ void k_scatter_add_rows(float *table, const float *x, const int32_t *idx, float scale,
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

void cuda_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                           const struct tensor *idx, double scale)
{
    int64_t rows = x->dim[0], width = table->dim[1];
    if (rows * width == 0)
        return;
    dim3 grid((unsigned)rows, (unsigned)div_up(width, 32), 1);
    LAUNCH(k_scatter_add_rows, grid, 32, 0, cuda_of(be)->stream, f32(table), f32(x), i32(idx),
           (float)scale, rows, width);
    cuda_launched(be, OP_scatter_add_rows);
}
