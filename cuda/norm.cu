/* Residual sums with a norm, and their gradient, with one block a row and one pass over device
 * memory. A row is kept in shared memory between the pass that sums and the pass that writes. A row
 * too long for it is computed anew. */
#include "cuda_impl.h"
#include "kernel.h"

enum { CACHE_BYTES = 48 << 10 };

struct norm_args {
    const float *a, *bias, *mask, *res, *gain;
    float *sum, *y, *xhat, *rstd;
    int64_t width, rows_per_mask;
    float eps;
    enum norm_kind kind;
    bool cached;
};

/* s = (a + bias) * mask + res */
template <int V>
__device__ __forceinline__ pack<V> residual_at(const norm_args &p, int64_t row, int64_t d)
{
    pack<V> s = load_pack<V>(p.a + row * p.width + d), v;
    if (p.bias != NULL) {
        v = load_pack<V>(p.bias + d);
#pragma unroll
        for (int k = 0; k < V; k++)
            s.x[k] += v.x[k];
    }
    if (p.mask != NULL) {
        v = load_pack<V>(p.mask + row / p.rows_per_mask * p.width + d);
#pragma unroll
        for (int k = 0; k < V; k++)
            s.x[k] *= v.x[k];
    }
    if (p.res != NULL) {
        v = load_pack<V>(p.res + row * p.width + d);
#pragma unroll
        for (int k = 0; k < V; k++)
            s.x[k] += v.x[k];
    }
    return s;
}

template <int V> __global__ void k_residual_norm(norm_args p)
{
    DYNAMIC_SHARED(float, cache); /* [width], where a thread reads what it wrote itself */
    int64_t row = blockIdx.x, first = threadIdx.x * V, step = blockDim.x * V;
    float total = 0, square = 0, mean = 0, rstd = 1;
    for (int64_t d = first; d < p.width; d += step) {
        pack<V> s = residual_at<V>(p, row, d);
        if (p.cached)
            store_pack<V>(cache + d, s);
#pragma unroll
        for (int k = 0; k < V; k++)
            total += s.x[k];
    }
    if (p.kind == NORM_LAYER)
        mean = block_sum(total) / (float)p.width;
    if (p.kind != NORM_NONE) {
        for (int64_t d = first; d < p.width; d += step) {
            pack<V> s = p.cached ? load_pack<V>(cache + d) : residual_at<V>(p, row, d);
#pragma unroll
            for (int k = 0; k < V; k++)
                square += (s.x[k] - mean) * (s.x[k] - mean);
        }
        rstd = 1.0f / sqrtf(block_sum(square) / (float)p.width + p.eps);
    }
    for (int64_t d = first; d < p.width; d += step) {
        int64_t at = row * p.width + d;
        pack<V> s = p.cached ? load_pack<V>(cache + d) : residual_at<V>(p, row, d);
        if (p.sum != NULL)
            store_pack<V>(p.sum + at, s);
#pragma unroll
        for (int k = 0; k < V; k++)
            s.x[k] = (s.x[k] - mean) * rstd;
        if (p.xhat != NULL)
            store_pack<V>(p.xhat + at, s);
        if (p.y == NULL)
            continue;
        if (p.gain != NULL) {
            pack<V> gain = load_pack<V>(p.gain + d);
#pragma unroll
            for (int k = 0; k < V; k++)
                s.x[k] *= gain.x[k];
        }
        store_pack<V>(p.y + at, s);
    }
    if (p.rstd != NULL && threadIdx.x == 0)
        p.rstd[row] = rstd;
}

void cuda_residual_norm(struct backend *be, const struct residual_norm *p)
{
    int64_t rows = p->a.dim[0], width = p->a.dim[1];
    if (rows * width == 0)
        return;
    norm_args a = {f32(&p->a),       f32(&p->bias), f32(&p->mask), f32(&p->res),  f32(&p->gain),
                   f32(&p->sum),     f32(&p->y),    f32(&p->xhat), f32(&p->rstd), width,
                   p->rows_per_mask, (float)p->eps, p->kind,       false};
    int vec = VEC_OF(width, a.a, a.bias, a.mask, a.res, a.gain, a.sum, a.y, a.xhat);
    size_t bytes = (size_t)width * sizeof(float);
    a.cached = bytes <= CACHE_BYTES - 1024; /* a little is for block_sum */
    if (!a.cached)
        bytes = 0;
    LAUNCH_ROWS(be, PACKS(k_residual_norm), vec, rows, width, bytes, a);
    cuda_launched(be, OP_residual_norm);
}

struct norm_vjp_args {
    const float *dy, *dsum, *xhat, *rstd, *gain, *mask;
    float *ds, *da;
    int64_t width, rows_per_mask;
    enum norm_kind kind;
    bool cached;
};

/* g = dy * gain */
template <int V>
__device__ __forceinline__ pack<V> upstream_at(const norm_vjp_args &p, int64_t row, int64_t d)
{
    pack<V> g = load_pack<V>(p.dy + row * p.width + d);
    if (p.gain != NULL) {
        pack<V> gain = load_pack<V>(p.gain + d);
#pragma unroll
        for (int k = 0; k < V; k++)
            g.x[k] *= gain.x[k];
    }
    return g;
}

/* ds = rstd (g - mean(g) - xhat mean(g xhat)) + dsum */
template <int V> __global__ void k_residual_norm_vjp(norm_vjp_args p)
{
    DYNAMIC_SHARED(float, cache); /* g, then xhat */
    int64_t row = blockIdx.x, first = threadIdx.x * V, step = blockDim.x * V;
    float mean = 0, along = 0, rstd = 0;
    if (p.kind != NORM_NONE) {
        for (int64_t d = first; d < p.width; d += step) {
            pack<V> g = upstream_at<V>(p, row, d), xhat = load_pack<V>(p.xhat + row * p.width + d);
            if (p.cached) {
                store_pack<V>(cache + d, g);
                store_pack<V>(cache + p.width + d, xhat);
            }
#pragma unroll
            for (int k = 0; k < V; k++) {
                mean += g.x[k];
                along += g.x[k] * xhat.x[k];
            }
        }
        mean = p.kind == NORM_LAYER ? block_sum(mean) / (float)p.width : 0;
        along = block_sum(along) / (float)p.width;
        rstd = p.rstd[row];
    }
    for (int64_t d = first; d < p.width; d += step) {
        int64_t at = row * p.width + d;
        pack<V> ds, v;
#pragma unroll
        for (int k = 0; k < V; k++)
            ds.x[k] = 0;
        if (p.kind != NORM_NONE) {
            pack<V> g = p.cached ? load_pack<V>(cache + d) : upstream_at<V>(p, row, d);
            v = load_pack<V>(p.cached ? cache + p.width + d : p.xhat + at);
#pragma unroll
            for (int k = 0; k < V; k++)
                ds.x[k] = rstd * (g.x[k] - mean - v.x[k] * along);
        }
        if (p.dsum != NULL) {
            v = load_pack<V>(p.dsum + at);
#pragma unroll
            for (int k = 0; k < V; k++)
                ds.x[k] += v.x[k];
        }
        store_pack<V>(p.ds + at, ds);
        if (p.da == NULL)
            continue;
        if (p.mask != NULL) {
            v = load_pack<V>(p.mask + row / p.rows_per_mask * p.width + d);
#pragma unroll
            for (int k = 0; k < V; k++)
                ds.x[k] *= v.x[k];
        }
        store_pack<V>(p.da + at, ds);
    }
}

void cuda_residual_norm_vjp(struct backend *be, const struct residual_norm_vjp *p)
{
    int64_t rows = p->ds.dim[0], width = p->ds.dim[1];
    if (rows * width == 0)
        return;
    if (p->dgain.data != NULL &&
        p->kind != NORM_NONE) /* before ds, which may share memory with dy */
        cuda_columns(be, OP_residual_norm_vjp, f32(&p->dgain), f32(&p->dy), f32(&p->xhat), rows,
                     width);
    norm_vjp_args a = {f32(&p->dy),   f32(&p->dsum),    f32(&p->xhat), f32(&p->rstd),
                       f32(&p->gain), f32(&p->mask),    f32(&p->ds),   f32(&p->da),
                       width,         p->rows_per_mask, p->kind,       false};
    int vec = VEC_OF(width, a.dy, a.dsum, a.xhat, a.gain, a.mask, a.ds, a.da);
    size_t bytes = 2 * (size_t)width * sizeof(float);
    a.cached = p->kind != NORM_NONE && bytes <= CACHE_BYTES - 1024;
    if (!a.cached)
        bytes = 0;
    LAUNCH_ROWS(be, PACKS(k_residual_norm_vjp), vec, rows, width, bytes, a);
    cuda_launched(be, OP_residual_norm_vjp);
}
