/* Activations and the logistic function, in one pass over memory with the rows shared out among the
 * threads. */
#include "backend/cpu/cpu_impl.h"
#include "backend/cpu/vecmath.h"

#include <string.h>

/* The end of a row goes through the stack. AddressSanitizer aligns a frame that it keeps to 32
 * bytes, and instructions for vectors want 64. */
#define OFF_ITS_FRAMES __attribute__((noinline, no_sanitize("address")))

static OFF_ITS_FRAMES vec load_end(const float *p, int64_t count)
{
    float some[VEC] = {0};
    memcpy(some, p, (size_t)count * sizeof *some);
    return vec_load(some);
}

static OFF_ITS_FRAMES void store_end(float *p, vec x, int64_t count)
{
    float some[VEC];
    vec_store(some, x);
    memcpy(p, some, (size_t)count * sizeof *some);
}

/* Loads `count` numbers, at most VEC of them, and zeros behind them. */
static inline vec load_some(const float *p, int64_t count)
{
    return count >= VEC ? vec_load(p) : load_end(p, count);
}

static inline void store_some(float *p, vec x, int64_t count)
{
    if (count >= VEC)
        vec_store(p, x);
    else
        store_end(p, x, count);
}

/* The value of an activation of one number, its slope and the slope's derivative. */
struct curve {
    vec value, slope, bend;
};

static inline __attribute__((always_inline)) struct curve curve_of(vec x, enum activation kind)
{
    if (kind == ACTIVATION_SWIGLU) { /* of the gate */
        vec s = vec_logistic(x), d = s * (1.0f - s);
        return (struct curve){x * s, s + x * d, d * (2.0f + x * (1.0f - 2.0f * s))};
    }
    vec r = vec_select(x <= 0.0f, vec_set(0), x); /* a NaN is not <= 0 and passes on */
    vec one = vec_select(x > 0.0f, vec_set(1), vec_set(0));
    if (kind == ACTIVATION_RELU)
        return (struct curve){r, one, vec_set(0)};
    return (struct curve){r * r, r + r, one + one};
}

/* One row of activate. `kind` is known where this is called, so that each kind has its own loop. */
static inline __attribute__((always_inline)) void row(const float *x, float *h, int64_t width,
                                                      enum activation kind)
{
    for (int64_t i = 0; i < width; i += VEC) {
        int64_t left = width - i;
        vec value = curve_of(load_some(x + i, left), kind).value;
        if (kind == ACTIVATION_SWIGLU)
            value *= load_some(x + width + i, left);
        store_some(h + i, value, left);
    }
}

static inline __attribute__((always_inline)) void
row_vjp(const float *x, const float *dh, float *dx, int64_t width, enum activation kind)
{
    for (int64_t i = 0; i < width; i += VEC) {
        int64_t left = width - i;
        vec d = load_some(dh + i, left);
        struct curve c = curve_of(load_some(x + i, left), kind);
        if (kind == ACTIVATION_SWIGLU) {
            store_some(dx + width + i, d * c.value, left);
            d *= load_some(x + width + i, left);
        }
        store_some(dx + i, d * c.slope, left);
    }
}

/* One row of activate_tangent. */
struct tangent_row {
    const float *x, *x_t, *dh, *dh_t; /* dh NULL if only h_t is wanted */
    float *h_t, *dx, *dx_t;           /* h_t NULL if it is not wanted */
    int64_t width;
};

static inline __attribute__((always_inline)) void row_tangent(const struct tangent_row *r,
                                                              enum activation kind)
{
    int64_t width = r->width;
    bool gated = kind == ACTIVATION_SWIGLU;
    for (int64_t i = 0; i < width; i += VEC) {
        int64_t left = width - i;
        vec x_t = load_some(r->x_t + i, left), b = vec_set(1), b_t = vec_set(0);
        struct curve c = curve_of(load_some(r->x + i, left), kind);
        if (gated) {
            b = load_some(r->x + width + i, left);
            b_t = load_some(r->x_t + width + i, left);
        }
        if (r->h_t != NULL)
            store_some(r->h_t + i, c.slope * x_t * b + (gated ? c.value * b_t : vec_set(0)), left);
        if (r->dh == NULL)
            continue;
        vec d = load_some(r->dh + i, left), d_t = load_some(r->dh_t + i, left);
        store_some(r->dx + i, d * b * c.slope, left);
        store_some(r->dx_t + i, d_t * b * c.slope + d * (b_t * c.slope + b * c.bend * x_t), left);
        if (!gated)
            continue;
        store_some(r->dx + width + i, d * c.value, left);
        store_some(r->dx_t + width + i, d_t * c.value + d * c.slope * x_t, left);
    }
}

void cpu_activate(struct backend *be, const struct activate *p)
{
    int64_t rows = p->h.dim[0], width = p->h.dim[1], wide = p->x.dim[1];
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t n = 0; n < rows; n++) {
        const float *x = cpu_f32(&p->x) + n * wide;
        float *h = cpu_f32(&p->h) + n * width;
        if (p->kind == ACTIVATION_SWIGLU)
            row(x, h, width, ACTIVATION_SWIGLU);
        else if (p->kind == ACTIVATION_RELU2)
            row(x, h, width, ACTIVATION_RELU2);
        else
            row(x, h, width, ACTIVATION_RELU);
    }
}

void cpu_activate_vjp(struct backend *be, const struct activate_vjp *p)
{
    int64_t rows = p->dh.dim[0], width = p->dh.dim[1], wide = p->x.dim[1];
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * wide))
    for (int64_t n = 0; n < rows; n++) {
        const float *x = cpu_f32(&p->x) + n * wide, *dh = cpu_f32(&p->dh) + n * width;
        float *dx = cpu_f32(&p->dx) + n * wide;
        if (p->kind == ACTIVATION_SWIGLU)
            row_vjp(x, dh, dx, width, ACTIVATION_SWIGLU);
        else if (p->kind == ACTIVATION_RELU2)
            row_vjp(x, dh, dx, width, ACTIVATION_RELU2);
        else
            row_vjp(x, dh, dx, width, ACTIVATION_RELU);
    }
}

/* A row of a tensor that may be absent. */
static float *row_at(const struct tensor *t, int64_t n, int64_t width)
{
    return t->data == NULL ? NULL : cpu_f32(t) + n * width;
}

void cpu_activate_tangent(struct backend *be, const struct activate_tangent *p)
{
    int64_t rows = p->x.dim[0], wide = p->x.dim[1], width = wide / activation_inputs(p->kind);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * wide))
    for (int64_t n = 0; n < rows; n++) {
        const struct tangent_row r = {.x = cpu_f32(&p->x) + n * wide,
                                      .x_t = cpu_f32(&p->x_t) + n * wide,
                                      .dh = row_at(&p->dh, n, width),
                                      .dh_t = row_at(&p->dh_t, n, width),
                                      .h_t = row_at(&p->h_t, n, width),
                                      .dx = row_at(&p->dx, n, wide),
                                      .dx_t = row_at(&p->dx_t, n, wide),
                                      .width = width};
        if (p->kind == ACTIVATION_SWIGLU)
            row_tangent(&r, ACTIVATION_SWIGLU);
        else if (p->kind == ACTIVATION_RELU2)
            row_tangent(&r, ACTIVATION_RELU2);
        else
            row_tangent(&r, ACTIVATION_RELU);
    }
}

void cpu_sigmoid(struct backend *be, const struct tensor *y, const struct tensor *x)
{
    (void)be; /* of vectors, which are short */
    for (int64_t i = 0; i < tensor_count(y); i += VEC) {
        int64_t left = tensor_count(y) - i;
        store_some(cpu_f32(y) + i, vec_logistic(load_some(cpu_f32(x) + i, left)), left);
    }
}

void cpu_sigmoid_vjp(struct backend *be, const struct tensor *dx, const struct tensor *y,
                     const struct tensor *dy)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(dx); i++) {
        float s = cpu_f32(y)[i];
        cpu_f32(dx)[i] += cpu_f32(dy)[i] * s * (1 - s);
    }
}
