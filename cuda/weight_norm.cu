/* Weight normalisation, with one block a row. */
#include "cuda_impl.h"
#include "kernel.h"

template <int V>
__global__ void k_weight_norm(float *w, float *inv, const float *v, const float *g, int64_t width)
{
    int64_t row = blockIdx.x, step = blockDim.x * V;
    const float *from = v + row * width;
    float sum = 0;
    for (int64_t c = threadIdx.x * V; c < width; c += step) {
        pack<V> x = load_pack<V>(from + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            sum += x.x[k] * x.x[k];
    }
    float inverse = 1.0f / sqrtf(block_sum(sum)), factor = g[row] * inverse;
    if (threadIdx.x == 0)
        inv[row] = inverse;
    for (int64_t c = threadIdx.x * V; c < width; c += step) {
        pack<V> x = load_pack<V>(from + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            x.x[k] *= factor;
        store_pack<V>(w + row * width + c, x);
    }
}

void cuda_weight_norm(struct backend *be, const struct tensor *w, const struct tensor *inv,
                      const struct tensor *v, const struct tensor *g)
{
    int64_t rows = v->dim[0], width = v->dim[1];
    if (rows * width == 0)
        return;
    int vec = VEC_OF(width, w->data, v->data);
    LAUNCH_ROWS(be, PACKS(k_weight_norm), vec, rows, width, 0, f32(w), f32(inv), f32(v), f32(g),
                width);
    cuda_launched(be, OP_weight_norm);
}

struct weight_norm_vjp_args {
    float *dv, *dg;
    const float *dw, *v, *g, *inv;
    int64_t width;
};

template <int V> __global__ void k_weight_norm_vjp(weight_norm_vjp_args p)
{
    int64_t row = blockIdx.x, step = blockDim.x * V, start = row * p.width;
    float dot = 0, inverse = p.inv[row];
    for (int64_t c = threadIdx.x * V; c < p.width; c += step) {
        pack<V> grad = load_pack<V>(p.dw + start + c), v = load_pack<V>(p.v + start + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            dot += grad.x[k] * v.x[k];
    }
    dot = block_sum(dot);
    if (threadIdx.x == 0)
        p.dg[row] += dot * inverse;
    float factor = p.g[row] * inverse, along = dot * inverse * inverse;
    for (int64_t c = threadIdx.x * V; c < p.width; c += step) {
        pack<V> grad = load_pack<V>(p.dw + start + c), v = load_pack<V>(p.v + start + c);
        pack<V> to = load_pack<V>(p.dv + start + c);
#pragma unroll
        for (int k = 0; k < V; k++)
            to.x[k] = (p.dv == p.dw ? 0 : to.x[k]) + factor * (grad.x[k] - along * v.x[k]);
        store_pack<V>(p.dv + start + c, to);
    }
}

void cuda_weight_norm_vjp(struct backend *be, const struct weight_norm_vjp *p)
{
    int64_t rows = p->v.dim[0], width = p->v.dim[1];
    if (rows * width == 0)
        return;
    weight_norm_vjp_args a = {f32(&p->dv), f32(&p->dg),  f32(&p->dw), f32(&p->v),
                              f32(&p->g),  f32(&p->inv), width};
    int vec = VEC_OF(width, a.dv, a.dw, a.v);
    LAUNCH_ROWS(be, PACKS(k_weight_norm_vjp), vec, rows, width, 0, a);
    cuda_launched(be, OP_weight_norm_vjp);
}
