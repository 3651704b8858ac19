/* Activations and the logistic function. A thread takes one number of h, and with gates the two of
 * x behind it. */
#include "cuda_impl.h"
#include "kernel.h"

__device__ __forceinline__ float logistic(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* The value of an activation of one number, its slope and the slope's derivative. */
struct curve {
    float value, slope, bend;
};

__device__ __forceinline__ curve curve_of(float x, enum activation kind)
{
    if (kind == ACTIVATION_SWIGLU) { /* of the gate */
        float s = logistic(x), d = s * (1 - s);
        return {x * s, s + x * d, d * (2 + x * (1 - 2 * s))};
    }
    float r = x <= 0 ? 0 : x, one = x > 0 ? 1 : 0; /* a NaN is not <= 0 and passes on */
    if (kind == ACTIVATION_RELU)
        return {r, one, 0};
    return {r * r, r + r, one + one};
}

__device__ __forceinline__ void put(float *to, float x)
{
    *to = x;
}

__device__ __forceinline__ void put(__nv_bfloat16 *to, float x)
{
    *to = __float2bfloat16(x);
}

/* T is what the second product takes. */
template <class T> struct activation_args {
    const float *x, *x_t, *dh, *dh_t;
    T *h, *dx, *dx_t; /* h is h_t with x_t */
    int64_t count, width, wide;
    enum activation kind;
};

template <class T> __global__ void k_activate(activation_args<T> p)
{
    bool gated = p.kind == ACTIVATION_SWIGLU;
    for (int64_t i = flat_index(); i < p.count; i += flat_stride()) {
        int64_t at = i / p.width * p.wide + i % p.width;
        float value = curve_of(p.x[at], p.kind).value;
        put(p.h + i, gated ? value * p.x[at + p.width] : value);
    }
}

template <class T> __global__ void k_activate_vjp(activation_args<T> p)
{
    bool gated = p.kind == ACTIVATION_SWIGLU;
    for (int64_t i = flat_index(); i < p.count; i += flat_stride()) {
        int64_t at = i / p.width * p.wide + i % p.width;
        curve c = curve_of(p.x[at], p.kind);
        float d = p.dh[i];
        if (gated)
            put(p.dx + at + p.width, d * c.value);
        put(p.dx + at, (gated ? d * p.x[at + p.width] : d) * c.slope);
    }
}

template <class T> __global__ void k_activate_tangent(activation_args<T> p)
{
    bool gated = p.kind == ACTIVATION_SWIGLU;
    for (int64_t i = flat_index(); i < p.count; i += flat_stride()) {
        int64_t at = i / p.width * p.wide + i % p.width, other = at + (gated ? p.width : 0);
        curve c = curve_of(p.x[at], p.kind);
        float x_t = p.x_t[at], b = gated ? p.x[other] : 1, b_t = gated ? p.x_t[other] : 0;
        if (p.h != NULL)
            put(p.h + i, c.slope * x_t * b + (gated ? c.value * b_t : 0));
        if (p.dh == NULL)
            continue;
        float d = p.dh[i], d_t = p.dh_t[i];
        put(p.dx + at, d * b * c.slope);
        put(p.dx_t + at, d_t * b * c.slope + d * (b_t * c.slope + b * c.bend * x_t));
        if (!gated)
            continue;
        put(p.dx + other, d * c.value);
        put(p.dx_t + other, d_t * c.value + d * c.slope * x_t);
    }
}

template <class T> static T *low(const struct tensor *t)
{
    return static_cast<T *>(t->data);
}

template <class T> static activation_args<T> args_of(const struct tensor *x, enum activation kind)
{
    activation_args<T> p = {};
    p.x = f32(x);
    p.wide = x->dim[1];
    p.width = p.wide / activation_inputs(kind);
    p.count = x->dim[0] * p.width;
    p.kind = kind;
    return p;
}

template <class T> static void run_forward(struct backend *be, const struct activate *f)
{
    activation_args<T> p = args_of<T>(&f->x, f->kind);
    p.h = low<T>(&f->h);
    if (p.count > 0)
        LAUNCH(k_activate<T>, flat_blocks(p.count, 1), MAX_THREADS, 0, cuda_of(be)->stream, p);
}

template <class T> static void run_vjp(struct backend *be, const struct activate_vjp *v)
{
    activation_args<T> p = args_of<T>(&v->x, v->kind);
    p.dh = f32(&v->dh);
    p.dx = low<T>(&v->dx);
    if (p.count > 0)
        LAUNCH(k_activate_vjp<T>, flat_blocks(p.count, 1), MAX_THREADS, 0, cuda_of(be)->stream, p);
}

template <class T> static void run_tangent(struct backend *be, const struct activate_tangent *t)
{
    activation_args<T> p = args_of<T>(&t->x, t->kind);
    p.x_t = f32(&t->x_t);
    p.h = low<T>(&t->h_t);
    p.dh = f32(&t->dh);
    p.dh_t = f32(&t->dh_t);
    p.dx = low<T>(&t->dx);
    p.dx_t = low<T>(&t->dx_t);
    if (p.count > 0)
        LAUNCH(k_activate_tangent<T>, flat_blocks(p.count, 1), MAX_THREADS, 0, cuda_of(be)->stream,
               p);
}

void cuda_activate(struct backend *be, const struct activate *f)
{
    if (f->h.dtype == DTYPE_BF16)
        run_forward<__nv_bfloat16>(be, f);
    else
        run_forward<float>(be, f);
    cuda_launched(be, OP_activate);
}

void cuda_activate_vjp(struct backend *be, const struct activate_vjp *v)
{
    if (v->dx.dtype == DTYPE_BF16)
        run_vjp<__nv_bfloat16>(be, v);
    else
        run_vjp<float>(be, v);
    cuda_launched(be, OP_activate_vjp);
}

void cuda_activate_tangent(struct backend *be, const struct activate_tangent *t)
{
    if (op_low_precision(be) == DTYPE_BF16)
        run_tangent<__nv_bfloat16>(be, t);
    else
        run_tangent<float>(be, t);
    cuda_launched(be, OP_activate_tangent);
}

__global__ void k_sigmoid(float *y, const float *x, int64_t count)
{
    for (int64_t i = flat_index(); i < count; i += flat_stride())
        y[i] = logistic(x[i]);
}

__global__ void k_sigmoid_vjp(float *dx, const float *y, const float *dy, int64_t count)
{
    for (int64_t i = flat_index(); i < count; i += flat_stride())
        dx[i] += dy[i] * y[i] * (1 - y[i]);
}

void cuda_sigmoid(struct backend *be, const struct tensor *y, const struct tensor *x)
{
    int64_t count = tensor_count(y);
    if (count == 0)
        return;
    LAUNCH(k_sigmoid, flat_blocks(count, 1), MAX_THREADS, 0, cuda_of(be)->stream, f32(y),
           (const float *)f32(x), count);
    cuda_launched(be, OP_sigmoid);
}

void cuda_sigmoid_vjp(struct backend *be, const struct tensor *dx, const struct tensor *y,
                      const struct tensor *dy)
{
    int64_t count = tensor_count(dx);
    if (count == 0)
        return;
    LAUNCH(k_sigmoid_vjp, flat_blocks(count, 1), MAX_THREADS, 0, cuda_of(be)->stream, f32(dx),
           (const float *)f32(y), (const float *)f32(dy), count);
    cuda_launched(be, OP_sigmoid_vjp);
}
