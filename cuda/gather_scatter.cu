/* Rows of tables, picked and written by index. */
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
