/* The gates of the trellis cell, in one pass over memory with the rows shared out among the
 * threads. */
#include "backend/cpu/cpu_impl.h"
#include "backend/cpu/vecmath.h"

#include <string.h>

/* Loads the first `count` <= VEC numbers at p and zeros behind them. All are zeros if p is NULL. */
static inline __attribute__((always_inline)) vec load_part(const float *p, int64_t count)
{
    vec v = vec_set(0);
    if (p == NULL)
        return v;
    if (count == VEC)
        return vec_load(p);
    memcpy(&v, p, (size_t)count * sizeof *p);
    return v;
}

static inline __attribute__((always_inline)) void store_part(float *p, vec v, int64_t count)
{
    if (count == VEC)
        vec_store(p, v);
    else
        memcpy(p, &v, (size_t)count * sizeof *p);
}

/* Returns where c of the position before (b, t) lies, or NULL for zeros. */
static const float *previous_c(const struct tensor *z, const struct tensor *c0, int64_t b,
                               int64_t t)
{
    int64_t h = z->dim[2] / 2;
    if (t > 0)
        return cpu_f32(z) + (b * z->dim[1] + t - 1) * 2 * h + h;
    return c0->data != NULL ? cpu_f32(c0) + b * h : NULL;
}

/* One position's pointers. pre, u and bias hold 4H numbers and out holds 2H. */
struct cell_row {
    float *pre, *out;
    const float *u, *bias, *c_prev; /* c_prev is NULL for zeros */
};

/* Computes `count` of the H numbers of one position, from number d on. */
static inline __attribute__((always_inline)) void gate_part(const struct cell_row *r, int64_t d,
                                                            int64_t h, int64_t count)
{
    const float *u = r->u + d, *bias = r->bias + d;
    float *pre = r->pre + d, *out = r->out + d;
    vec gate[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        vec x = load_part(pre + k * h, count) + load_part(u + k * h, count);
        x += load_part(bias + k * h, count);
        gate[k] = k == 2 ? vec_tanh(x) : vec_logistic(x);
        store_part(pre + k * h, gate[k], count);
    }
    vec c =
        gate[3] * load_part(r->c_prev != NULL ? r->c_prev + d : NULL, count) + gate[0] * gate[2];
    store_part(out, gate[1] * vec_tanh(c), count);
    store_part(out + h, c, count);
}

void cpu_lstm_cell(struct backend *be, const struct lstm_cell *p)
{
    int64_t len = p->z.dim[1], h = p->z.dim[2] / 2, rows = p->pre.dim[1];
    int64_t positions = p->z.dim[0] * len;
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(4 * positions * h))
    for (int64_t n = 0; n < positions; n++) {
        int64_t b = n / len, t = n % len, at = (b * rows + t) * 4 * h, d = 0;
        struct cell_row r = {
            .pre = cpu_f32(&p->pre) + at,
            .out = cpu_f32(&p->out) + n * 2 * h,
            .u = cpu_f32(&p->u) + at,
            .bias = cpu_f32(&p->bias),
            .c_prev = previous_c(&p->z, &p->c0, b, t),
        };
        for (; d + VEC <= h; d += VEC)
            gate_part(&r, d, h, VEC);
        if (d < h)
            gate_part(&r, d, h, h - d);
    }
}

/* One position's pointers for the vector-Jacobian product. */
struct cell_vjp_row {
    const float *gates, *out, *dout, *c_prev;
    float *dpre, *dc_prev; /* dc_prev is NULL if not wanted */
};

static inline __attribute__((always_inline)) void gate_vjp_part(const struct cell_vjp_row *r,
                                                                int64_t d, int64_t h, int64_t count)
{
    const float *gates = r->gates + d, *dout = r->dout + d;
    vec i = load_part(gates, count), o = load_part(gates + h, count);
    vec g = load_part(gates + 2 * h, count), f = load_part(gates + 3 * h, count);
    vec c_prev = load_part(r->c_prev != NULL ? r->c_prev + d : NULL, count);
    vec dh = load_part(dout, count), tc = vec_tanh(load_part(r->out + h + d, count));
    vec dc = load_part(dout + h, count) + dh * o * (1.0f - tc * tc);
    store_part(r->dpre + d, dc * g * i * (1.0f - i), count);
    store_part(r->dpre + h + d, dh * tc * o * (1.0f - o), count);
    store_part(r->dpre + 2 * h + d, dc * i * (1.0f - g * g), count);
    store_part(r->dpre + 3 * h + d, dc * c_prev * f * (1.0f - f), count);
    if (r->dc_prev != NULL)
        store_part(r->dc_prev + d, dc * f, count);
}

static void gate_vjp_row(const struct lstm_cell_vjp *p, int64_t b, int64_t t)
{
    int64_t len = p->z.dim[1], h = p->z.dim[2] / 2, rows = p->gates.dim[1], d = 0;
    int64_t at = (b * rows + t) * 4 * h, row = (b * len + t) * 2 * h;
    float *dz = cpu_f32(&p->dz) + row + h;
    struct cell_vjp_row r = {
        .gates = cpu_f32(&p->gates) + at,
        .out = cpu_f32(&p->out) + row,
        .dout = cpu_f32(&p->dout) + row,
        .c_prev = previous_c(&p->z, &p->c0, b, t),
        .dpre = cpu_f32(&p->dpre) + at,
        .dc_prev = t > 0                 ? dz - 2 * h
                   : p->dc0.data != NULL ? cpu_f32(&p->dc0) + b * h
                                         : NULL,
    };
    for (; d + VEC <= h; d += VEC)
        gate_vjp_part(&r, d, h, VEC);
    if (d < h)
        gate_vjp_part(&r, d, h, h - d);
    if (t == len - 1)
        memset(dz, 0, (size_t)h * sizeof *dz);
}

void cpu_lstm_cell_vjp(struct backend *be, const struct lstm_cell_vjp *p)
{
    int64_t batch = p->z.dim[0], len = p->z.dim[1], rows = p->gates.dim[1], width = p->gates.dim[2];
#pragma omp parallel for schedule(static) \
    num_threads(be->threads) if (cpu_worth(batch * len * width))
    for (int64_t n = 0; n < batch * rows; n++) {
        int64_t b = n / rows, t = n % rows;
        if (t < len)
            gate_vjp_row(p, b, t);
        else
            memset(cpu_f32(&p->dpre) + n * width, 0, (size_t)width * sizeof(float));
    }
}
