/* Second derivatives, the operations of the Jacobian penalty. They run once a step, in a share of
 * the steps, so the kernels are simple. A block stands for a row, query, key or distance, each
 * score is computed anew by the thread that needs it, and no sum has an order that depends on
 * timing. */
#include "cuda_impl.h"

#include "attention_tile.h"

/* --- norms ------------------------------------------------------------------------------------ */

struct norm_tangent_args {
    const float *dy, *dsum, *xhat, *rstd, *gain, *mask, *s_t, *dy_t, *dsum_t;
    float *ds, *da, *ds_t, *da_t;
    float *dgain; /* [N,D], what each row adds, or NULL */
    int64_t width, rows_per_mask;
    enum norm_kind kind;
};

__device__ __forceinline__ float value_at(const float *x, int64_t at)
{
    return x != NULL ? x[at] : 0;
}

/* The formulas of struct norm_vjp_tangent. A number may be overwritten by what follows from it. The
 * thread that writes it has read it, and nobody else does behind the sums. */
__global__ void k_norm_tangent(norm_tangent_args p)
{
    int64_t row = blockIdx.x, start = row * p.width;
    float w = (float)p.width, layer = p.kind == NORM_LAYER ? 1 : 0, rstd = 1;
    float s_mean = 0, s_along = 0, mean = 0, along = 0, mean_t = 0, along_t = 0;
    if (p.kind != NORM_NONE) {
        rstd = p.rstd[row];
        for (int64_t d = threadIdx.x; d < p.width; d += blockDim.x) {
            s_mean += layer * p.s_t[start + d];
            s_along += p.xhat[start + d] * p.s_t[start + d];
        }
        s_mean = block_sum(s_mean) / w;
        s_along = block_sum(s_along) / w;
        for (int64_t d = threadIdx.x; d < p.width; d += blockDim.x) {
            float xhat = p.xhat[start + d], by = p.gain != NULL ? p.gain[d] : 1;
            float g = p.dy[start + d] * by, g_t = value_at(p.dy_t, start + d) * by;
            mean += layer * g;
            along += g * xhat;
            mean_t += layer * g_t;
            along_t += g_t * xhat + g * rstd * (p.s_t[start + d] - s_mean - xhat * s_along);
        }
        mean = block_sum(mean) / w;
        along = block_sum(along) / w;
        mean_t = block_sum(mean_t) / w;
        along_t = block_sum(along_t) / w;
    }
    for (int64_t d = threadIdx.x; d < p.width; d += blockDim.x) {
        int64_t at = start + d;
        float ds = 0, ds_t = 0;
        if (p.kind != NORM_NONE) {
            float xhat = p.xhat[at], by = p.gain != NULL ? p.gain[d] : 1;
            float dy = p.dy[at], dy_t = value_at(p.dy_t, at);
            float xhat_t = rstd * (p.s_t[at] - s_mean - xhat * s_along);
            ds = rstd * (dy * by - mean - xhat * along);
            ds_t = -rstd * s_along * ds +
                   rstd * (dy_t * by - mean_t - xhat_t * along - xhat * along_t);
            if (p.dgain != NULL)
                p.dgain[at] = dy_t * xhat + dy * xhat_t;
        }
        ds += value_at(p.dsum, at);
        ds_t += value_at(p.dsum_t, at);
        p.ds[at] = ds;
        p.ds_t[at] = ds_t;
        if (p.da == NULL)
            continue;
        float m = p.mask != NULL ? p.mask[row / p.rows_per_mask * p.width + d] : 1;
        p.da[at] = ds * m;
        p.da_t[at] = ds_t * m;
    }
}

void cuda_norm_vjp_tangent(struct backend *be, const struct norm_vjp_tangent *t)
{
    const struct residual_norm_vjp *p = &t->vjp;
    int64_t rows = p->ds.dim[0], width = p->ds.dim[1];
    bool gain = p->dgain.data != NULL && p->kind != NORM_NONE;
    if (rows * width == 0)
        return;
    float *part = NULL;
    size_t numbers = (size_t)(rows * width + columns_scratch(rows, width));
    if (gain && (part = static_cast<float *>(
                     cuda_work(be, numbers * sizeof(float), OP_norm_vjp_tangent))) == NULL)
        return;
    norm_tangent_args a = {f32(&p->dy),     f32(&p->dsum), f32(&p->xhat), f32(&p->rstd),
                           f32(&p->gain),   f32(&p->mask), f32(&t->s_t),  f32(&t->dy_t),
                           f32(&t->dsum_t), f32(&p->ds),   f32(&p->da),   f32(&t->ds_t),
                           f32(&t->da_t),   part,          width,         p->rows_per_mask,
                           p->kind};
    LAUNCH(k_norm_tangent, (unsigned)rows, row_threads(width, 1), 0, cuda_of(be)->stream, a);
    if (gain)
        cuda_columns_in(be, part + rows * width, f32(&p->dgain), part, NULL, rows, width);
    cuda_launched(be, OP_norm_vjp_tangent);
}

/* --- attention -------------------------------------------------------------------------------- */

enum { TAN_THREADS = 64 }; /* pairs of a block at once, and columns of a head at a time */

struct att_tangent {
    att f;
    const float *qkv_t, *dout, *dout_t; /* with dout NULL only out_t is wanted */
    float *out_t, *dqkv, *dqkv_t, *dmem_t, *drk_t;
    float *sums;        /* [B,H,L,3], the pair_sums of each query */
    float *by_k, *by_r; /* [B*L,D], what a query adds to dr_w_t and dr_r_t */
};

/* Sums over the keys of a query, with weights a. `mean_t` is the mean of the scores' derivatives,
 * `delta` the sum of a da, and `delta_t` its derivative. */
struct pair_sums {
    float mean_t, delta, delta_t;
};

/* A query and a key. `a` is the weight, `score_t` the derivative of the score, `da` the gradient of
 * the weight and `da_t` its derivative, both times the mask `m`. */
struct pair {
    float a, score_t, da, da_t, m;
};

__device__ __forceinline__ const float *tangent_row(const att_tangent &p, const att_place &at,
                                                    att_part part, int64_t j)
{
    if (j < p.f.mem_len)
        return NULL; /* the memory stands still */
    return p.qkv_t + (at.b * p.f.length + j - p.f.mem_len) * 3 * p.f.width + part * p.f.width +
           at.n * p.f.head;
}

__device__ __forceinline__ pair pair_of(const att_tangent &p, const att_place &at, int64_t i,
                                        int64_t j)
{
    const att &f = p.f;
    int64_t own = f.mem_len + i, h = at.n * f.head;
    const float *q = query_row(f, at, i), *q_t = tangent_row(p, at, PART_Q, own);
    const float *k = key_row(f, at, PART_K, j), *k_t = tangent_row(p, at, PART_K, j);
    const float *v = key_row(f, at, PART_V, j), *v_t = tangent_row(p, at, PART_V, j);
    const float *rk = rk_row(f, at, own - j), *r_w = f.r_w, *r_r = f.r_r;
    const float *g = p.dout != NULL ? plain_row(f, at, p.dout, i) : NULL;
    const float *g_t = p.dout != NULL ? plain_row(f, at, p.dout_t, i) : NULL;
    pair r = {};
    float score = 0;
    for (int64_t e = 0; e < f.head; e++) {
        float place = value_at(rk, e), q_w = q[e] + value_at(r_w, h + e);
        score += q_w * k[e] + (q[e] + value_at(r_r, h + e)) * place;
        r.score_t += q_t[e] * (k[e] + place);
        if (k_t != NULL)
            r.score_t += q_w * k_t[e];
        if (g == NULL)
            continue;
        r.da += g[e] * v[e];
        r.da_t += g_t[e] * v[e];
        if (v_t != NULL)
            r.da_t += g[e] * v_t[e];
    }
    r.m = kept(f, at, i, j);
    r.a = expf(score * f.scale - f.lse[(at.b * f.heads + at.n) * f.length + i]);
    r.score_t *= f.scale;
    r.da *= r.m;
    r.da_t *= r.m;
    return r;
}

/* The four factors with which vectors of a pair are summed. */
struct factors {
    float am, am_t; /* weights times mask */
    float d, d_t;   /* gradient of the score */
};

__device__ __forceinline__ factors factors_of(const att_tangent &p, const att_place &at, int64_t i,
                                              int64_t j, const pair_sums &s)
{
    pair r = pair_of(p, at, i, j);
    float a_t = r.a * (r.score_t - s.mean_t);
    return {r.a * r.m, a_t * r.m, r.a * (r.da - s.delta) * p.f.scale,
            (a_t * (r.da - s.delta) + r.a * (r.da_t - s.delta_t)) * p.f.scale};
}

__device__ __forceinline__ pair_sums sums_at(const att_tangent &p, const att_place &at, int64_t i)
{
    const float *s = p.sums + ((at.b * p.f.heads + at.n) * p.f.length + i) * 3;
    return {s[0], s[1], s[2]};
}

/* The sums of one query, in two rounds over its keys, of which the second needs the first's. */
__device__ __forceinline__ pair_sums sum_pairs(const att_tangent &p, const att_place &at, int64_t i,
                                               int64_t first, int64_t last)
{
    pair_sums s = {};
    for (int64_t j = first + threadIdx.x; j <= last; j += TAN_THREADS) {
        pair r = pair_of(p, at, i, j);
        s.mean_t += r.a * r.score_t;
        s.delta += r.a * r.da;
    }
    s.mean_t = block_sum(s.mean_t);
    s.delta = block_sum(s.delta);
    for (int64_t j = first + threadIdx.x; j <= last; j += TAN_THREADS) {
        pair r = pair_of(p, at, i, j);
        s.delta_t += r.a * (r.score_t - s.mean_t) * r.da + r.a * r.da_t;
    }
    s.delta_t = block_sum(s.delta_t);
    return s;
}

/* A block for a query of a head. Writes out_t and, with dout, its gradient dq and what is summed
 * for it. */
__global__ void k_tangent_queries(att_tangent p)
{
    SHARED(factors, tile, [TAN_THREADS]);
    const att &f = p.f;
    int64_t x = blockIdx.x, i = x % f.length, own = f.mem_len + i;
    att_place at = {x / f.length / f.heads, x / f.length % f.heads, 0, 0, 0};
    int64_t first = own - f.span + 1 > 0 ? own - f.span + 1 : 0, row = at.b * f.length + i;
    pair_sums s = sum_pairs(p, at, i, first, own);
    if (p.sums != NULL && threadIdx.x == 0) {
        float *to = p.sums + x / f.length * f.length * 3 + i * 3;
        to[0] = s.mean_t;
        to[1] = s.delta;
        to[2] = s.delta_t;
    }
    for (int64_t e0 = 0; e0 < f.head; e0 += TAN_THREADS) {
        int64_t e = e0 + threadIdx.x;
        float out_t = 0, dq = 0, by_k = 0, by_r = 0;
        for (int64_t j0 = first; j0 <= own; j0 += TAN_THREADS) {
            if (j0 + threadIdx.x <= own)
                tile[threadIdx.x] = factors_of(p, at, i, j0 + threadIdx.x, s);
            __syncthreads();
            for (int64_t j = j0; e < f.head && j < j0 + TAN_THREADS && j <= own; j++) {
                factors w = tile[j - j0];
                const float *k_t = tangent_row(p, at, PART_K, j);
                float k = key_row(f, at, PART_K, j)[e], rk = value_at(rk_row(f, at, own - j), e);
                out_t += w.am_t * key_row(f, at, PART_V, j)[e];
                if (k_t != NULL)
                    out_t += w.am * tangent_row(p, at, PART_V, j)[e];
                dq += w.d * (k + rk);
                by_k += w.d_t * k + (k_t != NULL ? w.d * k_t[e] : 0);
                by_r += w.d_t * rk;
            }
            __syncthreads();
        }
        if (e >= f.head)
            continue;
        int64_t column = at.n * f.head + e;
        if (p.out_t != NULL)
            p.out_t[row * f.width + column] = out_t;
        if (p.dout == NULL)
            continue;
        p.dqkv[row * 3 * f.width + column] = dq;
        p.dqkv_t[row * 3 * f.width + column] = by_k + by_r;
        p.by_k[row * f.width + column] = by_k;
        p.by_r[row * f.width + column] = by_r;
    }
}

/* A block for a key of a head, which writes the gradients of k and v. */
__global__ void k_tangent_keys(att_tangent p, int64_t first_key)
{
    SHARED(factors, tile, [TAN_THREADS]);
    const att &f = p.f;
    int64_t x = blockIdx.x, keys = f.keys - first_key, j = first_key + x % keys;
    att_place at = {x / keys / f.heads, x / keys % f.heads, 0, 0, 0};
    int64_t first = j - f.mem_len > 0 ? j - f.mem_len : 0;
    int64_t last = at_most(j - f.mem_len + f.span - 1, f.length - 1);
    bool in_memory = j < f.mem_len;
    for (int64_t e0 = 0; e0 < f.head; e0 += TAN_THREADS) {
        int64_t e = e0 + threadIdx.x, column = at.n * f.head + e;
        float dk = 0, dk_t = 0, dv = 0, dv_t = 0;
        for (int64_t i0 = first; i0 <= last; i0 += TAN_THREADS) {
            if (i0 + threadIdx.x <= last)
                tile[threadIdx.x] =
                    factors_of(p, at, i0 + threadIdx.x, j, sums_at(p, at, i0 + threadIdx.x));
            __syncthreads();
            for (int64_t i = i0; e < f.head && i < i0 + TAN_THREADS && i <= last; i++) {
                factors w = tile[i - i0];
                float q = query_row(f, at, i)[e] + value_at(f.r_w, column);
                float g = plain_row(f, at, p.dout, i)[e];
                dk += w.d * q;
                dk_t += w.d_t * q + w.d * tangent_row(p, at, PART_Q, f.mem_len + i)[e];
                dv += w.am * g;
                dv_t += w.am_t * g + w.am * plain_row(f, at, p.dout_t, i)[e];
            }
            __syncthreads();
        }
        if (e >= f.head)
            continue;
        int64_t row = in_memory ? at.b * f.mem_len + j : at.b * f.length + j - f.mem_len;
        int64_t to = row * 3 * f.width + column;
        float *to_t = in_memory ? p.dmem_t : p.dqkv_t;
        to_t[to + f.width] = dk_t;
        to_t[to + 2 * f.width] = dv_t;
        if (in_memory) {
            to_t[to] = 0;
            continue;
        }
        p.dqkv[to + f.width] = dk;
        p.dqkv[to + 2 * f.width] = dv;
    }
}

/* A block for a distance of a head, which writes the gradient of that row of rk over all
 * sequences. */
__global__ void k_tangent_distances(att_tangent p)
{
    SHARED(factors, tile, [TAN_THREADS]);
    const att &f = p.f;
    int64_t x = blockIdx.x, d = x % f.span, first = d - f.mem_len > 0 ? d - f.mem_len : 0;
    att_place at = {0, x / f.span, 0, 0, 0};
    for (int64_t e0 = 0; e0 < f.head; e0 += TAN_THREADS) {
        int64_t e = e0 + threadIdx.x, column = at.n * f.head + e;
        float sum = 0;
        for (at.b = 0; at.b < f.batch; at.b++) {
            for (int64_t i0 = first; i0 < f.length; i0 += TAN_THREADS) {
                int64_t mine = i0 + threadIdx.x;
                if (mine < f.length)
                    tile[threadIdx.x] =
                        factors_of(p, at, mine, f.mem_len + mine - d, sums_at(p, at, mine));
                __syncthreads();
                for (int64_t i = i0; e < f.head && i < i0 + TAN_THREADS && i < f.length; i++) {
                    factors w = tile[i - i0];
                    sum += w.d_t * (query_row(f, at, i)[e] + f.r_r[column]) +
                           w.d * tangent_row(p, at, PART_Q, f.mem_len + i)[e];
                }
                __syncthreads();
            }
        }
        if (e < f.head)
            p.drk_t[d * f.width + column] += sum;
    }
}

void cuda_attention_tangent(struct backend *be, const struct attention_tangent *t)
{
    cudaStream_t stream = cuda_of(be)->stream;
    att_tangent p = {};
    p.f = att_of(&t->fwd);
    const att &f = p.f;
    int64_t rows = f.batch * f.length, columns = columns_scratch(rows, f.width);
    if (rows * f.width == 0)
        return;
    p.qkv_t = f32(&t->qkv_t);
    p.out_t = f32(&t->out_t);
    if (t->dout.data != NULL) {
        size_t numbers = (size_t)(rows * f.heads * 3 + 2 * rows * f.width + columns);
        p.sums = static_cast<float *>(cuda_work(be, numbers * sizeof(float), OP_attention_tangent));
        if (p.sums == NULL)
            return;
        p.by_k = p.sums + rows * f.heads * 3;
        p.by_r = p.by_k + rows * f.width;
        p.dout = f32(&t->dout);
        p.dout_t = f32(&t->dout_t);
        p.dqkv = f32(&t->dqkv);
        p.dqkv_t = f32(&t->dqkv_t);
        p.dmem_t = f32(&t->dmem_t);
        p.drk_t = f32(&t->drk_t);
    }
    LAUNCH(k_tangent_queries, (unsigned)(rows * f.heads), TAN_THREADS, 0, stream, p);
    if (p.dout != NULL) {
        float *part = p.by_r + rows * f.width;
        int64_t first_key = p.dmem_t == NULL ? f.mem_len : 0;
        LAUNCH(k_tangent_keys, (unsigned)(f.batch * f.heads * (f.keys - first_key)), TAN_THREADS, 0,
               stream, p, first_key);
        if (p.drk_t != NULL)
            LAUNCH(k_tangent_distances, (unsigned)(f.heads * f.span), TAN_THREADS, 0, stream, p);
        if (t->dr_w_t.data != NULL)
            cuda_columns_in(be, part, f32(&t->dr_w_t), p.by_k, NULL, rows, f.width);
        if (t->dr_r_t.data != NULL)
            cuda_columns_in(be, part, f32(&t->dr_r_t), p.by_r, NULL, rows, f.width);
    }
    cuda_launched(be, OP_attention_tangent);
}
