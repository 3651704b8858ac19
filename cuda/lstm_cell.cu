/* The LSTM cell of a trellis network and its gradient, elementwise in one pass. */
#include "cuda_impl.h"
#include "kernel.h"

__device__ __forceinline__ float logistic(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

struct lstm_args {
    float *pre, *out;
    const float *u, *bias, *z, *c0;
    int64_t length, rows, h; /* L, R, H */
};

/* c of the position before (b, t), 0 without one. */
__device__ __forceinline__ float previous_c(const float *z, const float *c0, int64_t b, int64_t t,
                                            int64_t length, int64_t h, int64_t d)
{
    if (t > 0)
        return z[(b * length + t - 1) * 2 * h + h + d];
    return c0 != NULL ? c0[b * h + d] : 0;
}

/* A block for a tile of one position. */
__global__ void k_lstm_cell(lstm_args p)
{
    int64_t b = blockIdx.x / p.length, t = blockIdx.x % p.length, d = tile_column<1>();
    if (d >= p.h)
        return;
    int64_t at = (b * p.rows + t) * 4 * p.h + d;
    float gate[4];
#pragma unroll
    for (int k = 0; k < 4; k++) {
        float x = p.pre[at + k * p.h] + p.u[at + k * p.h] + p.bias[k * p.h + d];
        gate[k] = k == 2 ? tanhf(x) : logistic(x);
        p.pre[at + k * p.h] = gate[k];
    }
    float c = gate[3] * previous_c(p.z, p.c0, b, t, p.length, p.h, d) + gate[0] * gate[2];
    float *out = p.out + (b * p.length + t) * 2 * p.h + d;
    out[0] = gate[1] * tanhf(c);
    out[p.h] = c;
}

void cuda_lstm_cell(struct backend *be, const struct lstm_cell *p)
{
    int64_t batch = p->z.dim[0], length = p->z.dim[1], h = p->z.dim[2] / 2;
    if (batch * length * h == 0)
        return;
    lstm_args a = {f32(&p->pre), f32(&p->out),  f32(&p->u), f32(&p->bias), f32(&p->z), f32(&p->c0),
                   length,       p->pre.dim[1], h};
    struct row_launch l = launch_tiles(batch * length, h, 1);
    LAUNCH(k_lstm_cell, l.grid, l.threads, 0, cuda_of(be)->stream, a);
    cuda_launched(be, OP_lstm_cell);
}

struct lstm_vjp_args {
    const float *gates, *z, *c0, *out, *dout;
    float *dpre, *dz, *dc0;
    int64_t length, rows, h;
};

/* A block for a tile of one of R rows. Rows beyond L become 0. */
__global__ void k_lstm_cell_vjp(lstm_vjp_args p)
{
    int64_t b = blockIdx.x / p.rows, t = blockIdx.x % p.rows, d = tile_column<1>(), h = p.h;
    if (d >= h)
        return;
    int64_t at = (b * p.rows + t) * 4 * h + d, row = (b * p.length + t) * 2 * h + d;
    float *dpre = p.dpre + at;
    if (t >= p.length) {
        for (int k = 0; k < 4; k++)
            dpre[k * h] = 0;
        return;
    }
    const float *gates = p.gates + at;
    float i = gates[0], o = gates[h], g = gates[2 * h], f = gates[3 * h];
    float dh = p.dout[row], tc = tanhf(p.out[row + h]);
    float dc = p.dout[row + h] + dh * o * (1.0f - tc * tc);
    dpre[0] = dc * g * i * (1.0f - i);
    dpre[h] = dh * tc * o * (1.0f - o);
    dpre[2 * h] = dc * i * (1.0f - g * g);
    dpre[3 * h] = dc * previous_c(p.z, p.c0, b, t, p.length, h, d) * f * (1.0f - f);
    if (t > 0)
        p.dz[row - h] = dc * f;
    else if (p.dc0 != NULL)
        p.dc0[b * h + d] = dc * f;
    if (t == p.length - 1)
        p.dz[row + h] = 0;
}

void cuda_lstm_cell_vjp(struct backend *be, const struct lstm_cell_vjp *p)
{
    int64_t batch = p->z.dim[0], rows = p->gates.dim[1], h = p->z.dim[2] / 2;
    if (batch * rows * h == 0)
        return;
    lstm_vjp_args a = {f32(&p->gates),
                       f32(&p->z),
                       f32(&p->c0),
                       f32(&p->out),
                       f32(&p->dout),
                       f32(&p->dpre),
                       f32(&p->dz),
                       f32(&p->dc0),
                       p->z.dim[1],
                       rows,
                       h};
    struct row_launch l = launch_tiles(batch * rows, h, 1);
    LAUNCH(k_lstm_cell_vjp, l.grid, l.threads, 0, cuda_of(be)->stream, a);
    cuda_launched(be, OP_lstm_cell_vjp);
}
