/* Queries, keys and values of heads. A warp takes a head of a row, and a lane pairs of numbers that
 * are turned together. */
#include "cuda_impl.h"
#include "kernel.h"

enum { WARPS = 4 };

struct heads_args {
    const float *x, *turn, *x_t, *dqkv, *dqkv_t;
    const int32_t *rows;
    float *qkv, *dx, *dx_t; /* qkv is that of the derivative with x_t */
    int64_t count, length, first, heads, groups, h, half, wide, skip;
    bool norm;
    float eps;
};

/* One head of a row, where it lies in x and where its copies begin in qkv. */
struct head_at {
    int64_t x, to, copies;
    const float *cosine, *sine; /* NULL if it is not turned */
    bool norm, valid;
};

__device__ __forceinline__ head_at head_here(const heads_args &p)
{
    int64_t all = p.heads + 2 * p.groups - p.skip;
    int64_t number = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    int64_t n = number / all, k = p.skip + number % all;
    head_at at = {};
    at.valid = number < p.count * all;
    if (!at.valid)
        return at;
    bool query = k < p.heads, turned = k < p.heads + p.groups;
    int64_t each = p.heads / p.groups, group = (k - p.heads) % p.groups, part = turned ? 1 : 2;
    int64_t to = query ? k : part * p.heads + group * each;
    at.x = n * p.wide + (k - p.skip) * p.h;
    at.to = (n * 3 * p.heads + to) * p.h;
    at.copies = query ? 1 : each;
    at.norm = p.norm && turned;
    if (p.turn != NULL && turned) {
        int64_t row = p.rows != NULL ? p.rows[n] : n;
        at.cosine = p.turn + (p.first + row % p.length) * p.h;
        at.sine = at.cosine + p.half;
    }
    return at;
}

/* The two numbers of a lane. The second is 0 where there is none. */
struct couple {
    float a, b;
};

__device__ __forceinline__ couple couple_at(const heads_args &p, const float *x, int64_t i)
{
    return {x[i], i + p.half < p.h ? x[i + p.half] : 0};
}

__device__ __forceinline__ void put(const heads_args &p, float *x, int64_t i, couple v)
{
    x[i] = v.a;
    if (i + p.half < p.h)
        x[i + p.half] = v.b;
}

__device__ __forceinline__ couple turned(const head_at &at, int64_t i, couple v)
{
    if (at.cosine == NULL)
        return v;
    float c = at.cosine[i], s = at.sine[i];
    return {c * v.a - s * v.b, s * v.a + c * v.b};
}

/* What reaches the head's copies, summed and turned back. */
__device__ __forceinline__ couple gathered(const heads_args &p, const head_at &at,
                                           const float *dqkv, int64_t i)
{
    couple sum = {};
    for (int64_t copy = 0; copy < at.copies; copy++) {
        couple v = couple_at(p, dqkv + at.to + copy * p.h, i);
        sum.a += v.a;
        sum.b += v.b;
    }
    if (at.cosine == NULL)
        return sum;
    float c = at.cosine[i], s = at.sine[i];
    return {c * sum.a + s * sum.b, c * sum.b - s * sum.a};
}

__device__ __forceinline__ float scale_of(const heads_args &p, const head_at &at)
{
    float sum = 0;
    for (int64_t e = threadIdx.x % 32; e < p.h && at.norm; e += 32)
        sum += p.x[at.x + e] * p.x[at.x + e];
    sum = warp_sum(sum);
    return at.norm ? 1.0f / sqrtf(sum / (float)p.h + p.eps) : 1.0f;
}

__device__ __forceinline__ void put_copies(const heads_args &p, const head_at &at, int64_t i,
                                           couple v)
{
    for (int64_t copy = 0; copy < at.copies; copy++)
        put(p, p.qkv + at.to + copy * p.h, i, v);
}

__global__ void k_heads(heads_args p)
{
    head_at at = head_here(p);
    float r = scale_of(p, at);
    for (int64_t i = threadIdx.x % 32; i < p.half && at.valid; i += 32) {
        couple v = couple_at(p, p.x + at.x, i);
        put_copies(p, at, i, turned(at, i, {r * v.a, r * v.b}));
    }
}

/* Zeros in the place of queries that x lacks. */
__global__ void k_heads_blank(float *qkv, int64_t count, int64_t width)
{
    for (int64_t i = flat_index(); i < count * width; i += flat_stride())
        qkv[i / width * 3 * width + i % width] = 0;
}

__global__ void k_heads_vjp(heads_args p)
{
    head_at at = head_here(p);
    float r = scale_of(p, at), along = 0;
    for (int64_t i = threadIdx.x % 32; i < p.half && at.norm; i += 32) {
        couple v = couple_at(p, p.x + at.x, i), d = gathered(p, at, p.dqkv, i);
        along += v.a * d.a + v.b * d.b;
    }
    along = r * r * warp_sum(along) / (float)p.h;
    for (int64_t i = threadIdx.x % 32; i < p.half && at.valid; i += 32) {
        couple v = couple_at(p, p.x + at.x, i), d = gathered(p, at, p.dqkv, i);
        if (at.norm)
            d = {r * (d.a - v.a * along), r * (d.b - v.b * along)};
        put(p, p.dx + at.x, i, d);
    }
}

/* The derivative of r x in a lane's numbers. */
__device__ __forceinline__ couple unit_t(const heads_args &p, const head_at &at, float r,
                                         float along, int64_t i)
{
    couple v = couple_at(p, p.x + at.x, i), v_t = couple_at(p, p.x_t + at.x, i);
    return {r * (v_t.a - v.a * along), r * (v_t.b - v.b * along)};
}

/* The formulas of norm_vjp_tangent (ops/norm.h), of a head without mean and gain. */
__global__ void k_heads_tangent(heads_args p)
{
    head_at at = head_here(p);
    float r = scale_of(p, at), along = 0, mean = 0, mean_t = 0;
    for (int64_t i = threadIdx.x % 32; i < p.half && at.norm; i += 32) {
        couple v = couple_at(p, p.x + at.x, i), v_t = couple_at(p, p.x_t + at.x, i);
        along += v.a * v_t.a + v.b * v_t.b;
    }
    along = r * r * warp_sum(along) / (float)p.h;
    for (int64_t i = threadIdx.x % 32; i < p.half && at.valid && p.qkv != NULL; i += 32)
        put_copies(p, at, i, turned(at, i, unit_t(p, at, r, along, i)));
    if (p.dqkv == NULL)
        return;
    for (int64_t i = threadIdx.x % 32; i < p.half && at.norm; i += 32) {
        couple v = couple_at(p, p.x + at.x, i), u_t = unit_t(p, at, r, along, i);
        couple d = gathered(p, at, p.dqkv, i), d_t = gathered(p, at, p.dqkv_t, i);
        mean += r * (v.a * d.a + v.b * d.b);
        mean_t += r * (v.a * d_t.a + v.b * d_t.b) + u_t.a * d.a + u_t.b * d.b;
    }
    mean = warp_sum(mean) / (float)p.h;
    mean_t = warp_sum(mean_t) / (float)p.h;
    for (int64_t i = threadIdx.x % 32; i < p.half && at.valid; i += 32) {
        couple d = gathered(p, at, p.dqkv, i), d_t = gathered(p, at, p.dqkv_t, i);
        if (at.norm) {
            couple v = couple_at(p, p.x + at.x, i), u_t = unit_t(p, at, r, along, i);
            couple u = {r * v.a, r * v.b};
            d = {r * (d.a - u.a * mean), r * (d.b - u.b * mean)};
            d_t = {r * (d_t.a - u_t.a * mean - u.a * mean_t) - along * d.a,
                   r * (d_t.b - u_t.b * mean - u.b * mean_t) - along * d.b};
        }
        put(p, p.dx + at.x, i, d);
        put(p, p.dx_t + at.x, i, d_t);
    }
}

static heads_args args_of(const struct heads *f, int64_t wide_qkv)
{
    heads_args p = {};
    p.x = f32(&f->x);
    p.turn = f32(&f->turn);
    p.rows = i32(&f->rows);
    p.count = f->x.dim[0];
    p.length = f->length;
    p.first = f->first;
    p.heads = f->heads;
    p.groups = f->groups;
    p.h = wide_qkv / (3 * f->heads);
    p.half = (p.h + 1) / 2;
    p.wide = f->x.dim[1];
    p.skip = p.wide == 2 * p.groups * p.h ? p.heads : 0;
    p.norm = f->norm;
    p.eps = (float)f->eps;
    return p;
}

static unsigned blocks_of(const heads_args &p)
{
    return (unsigned)div_up(p.count * (p.heads + 2 * p.groups - p.skip), WARPS);
}

void cuda_heads(struct backend *be, const struct heads *f)
{
    heads_args p = args_of(f, f->qkv.dim[1]);
    cudaStream_t stream = cuda_of(be)->stream;
    p.qkv = f32(&f->qkv);
    if (p.count == 0)
        return;
    if (p.skip > 0)
        LAUNCH(k_heads_blank, flat_blocks(p.count * p.heads * p.h, 1), MAX_THREADS, 0, stream,
               p.qkv, p.count, p.heads * p.h);
    LAUNCH(k_heads, blocks_of(p), WARPS * 32, 0, stream, p);
    cuda_launched(be, OP_heads);
}

void cuda_heads_vjp(struct backend *be, const struct heads_vjp *v)
{
    heads_args p = args_of(&v->fwd, v->dqkv.dim[1]);
    p.dqkv = f32(&v->dqkv);
    p.dx = f32(&v->dx);
    if (p.count == 0)
        return;
    LAUNCH(k_heads_vjp, blocks_of(p), WARPS * 32, 0, cuda_of(be)->stream, p);
    cuda_launched(be, OP_heads_vjp);
}

void cuda_heads_tangent(struct backend *be, const struct heads_tangent *t)
{
    heads_args p = args_of(&t->fwd, t->dqkv.data != NULL ? t->dqkv.dim[1] : t->qkv_t.dim[1]);
    p.x_t = f32(&t->x_t);
    p.qkv = f32(&t->qkv_t);
    p.dqkv = f32(&t->dqkv);
    p.dqkv_t = f32(&t->dqkv_t);
    p.dx = f32(&t->dx);
    p.dx_t = f32(&t->dx_t);
    if (p.count == 0)
        return;
    LAUNCH(k_heads_tangent, blocks_of(p), WARPS * 32, 0, cuda_of(be)->stream, p);
    cuda_launched(be, OP_heads_tangent);
}
