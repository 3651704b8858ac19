/* Optimizers over flat arrays. The norm and Adam's update take one launch each. Muon's work on
 * single numbers is here too. */
#include "cuda_impl.h"
#include "kernel.h"
#include "queue.h"

#include <math.h>

enum { NORM_BLOCKS = 512 };

/* The factor of the gradient that clips it. */
static __device__ __forceinline__ float clip_scale(double clip, double norm2)
{
    return clip == 0 ? 1.0f : (float)fmin(1.0, clip / (sqrt(norm2) + 1e-6));
}

/* Each block sums a fixed stride. The block that finishes last adds the parts up in their order, so
 * that the result does not depend on which one that is. `ticket` starts at 0 and is left at 0. */
__global__ void k_sum_squares(double *acc, const float *x, int64_t count, double *part,
                              unsigned *ticket)
{
    SHARED(unsigned, arrived, );
    double sum = 0;
    for (int64_t i = flat_index(); i < count; i += flat_stride())
        sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) {
        part[blockIdx.x] = sum;
        __threadfence();
        arrived = atomicAdd(ticket, 1u);
    }
    __syncthreads();
    if (arrived != gridDim.x - 1)
        return;
    __threadfence();
    double all = 0;
    for (unsigned k = threadIdx.x; k < gridDim.x; k += blockDim.x)
        all += part[k];
    all = block_sum(all);
    if (threadIdx.x == 0) {
        *acc += all;
        *ticket = 0;
    }
}

void cuda_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    int64_t count = tensor_count(x);
    if (count == 0)
        return;
    int64_t blocks = at_most(div_up(count, MAX_THREADS), NORM_BLOCKS);
    double *part = static_cast<double *>(
        cuda_work(be, NORM_BLOCKS * sizeof(double) + sizeof(unsigned), OP_sum_squares));
    if (part == NULL)
        return;
    unsigned *ticket = reinterpret_cast<unsigned *>(part + NORM_BLOCKS);
    cudaStream_t stream = cuda_of(be)->stream;
    cuda_note(be, OP_sum_squares, cudaMemsetAsync(ticket, 0, sizeof *ticket, stream));
    LAUNCH(k_sum_squares, (unsigned)blocks, MAX_THREADS, 0, stream,
           static_cast<double *>(acc->data), f32(x), count, part, ticket);
    cuda_launched(be, OP_sum_squares);
}

/* Changes from step to step, and is found on the device. */
struct adam_rates {
    float rate[ADAM_GROUPS], v_scale[ADAM_GROUPS], keep[ADAM_GROUPS];
};

struct adam_args {
    float *w, *m, *v;
    const float *g;
    const double *norm2;
    const uint8_t *groups; /* NULL: all are of group 0 */
    int64_t packs;
    double clip;
    float b1, c1, eps;
    float b2[ADAM_GROUPS], c2[ADAM_GROUPS], pull[ADAM_GROUPS];
    bool cautious;
    const struct adam_rates *rates;
};

template <int V> __global__ void k_adam(adam_args p)
{
    double norm2 = *p.norm2;
    if (!isfinite(norm2))
        return;
    const struct adam_rates *r = p.rates;
    float scale = clip_scale(p.clip, norm2);
    for (int64_t i = flat_index(); i < p.packs; i += flat_stride()) {
        pack<V> w = load_pack<V>(p.w + i * V), g = load_pack<V>(p.g + i * V);
        pack<V> m = load_pack<V>(p.m + i * V), v = load_pack<V>(p.v + i * V);
        int group = p.groups == NULL ? 0 : p.groups[i * V / ADAM_BLOCK];
        float b2 = p.b2[group], c2 = p.c2[group], pull = p.pull[group];
        float rate = r->rate[group], v_scale = r->v_scale[group], kept = r->keep[group];
#pragma unroll
        for (int k = 0; k < V; k++) {
            float grad = scale * g.x[k] + pull * w.x[k];
            m.x[k] = p.b1 * m.x[k] + p.c1 * grad;
            v.x[k] = b2 * v.x[k] + c2 * grad * grad;
            float keep = !p.cautious || m.x[k] * w.x[k] >= 0 ? kept : 1.0f;
            w.x[k] = keep * w.x[k] - rate * m.x[k] / (sqrtf(v.x[k]) * v_scale + p.eps);
        }
        store_pack<V>(p.m + i * V, m);
        store_pack<V>(p.v + i * V, v);
        store_pack<V>(p.w + i * V, w);
    }
}

static void start_adam(struct backend *be, size_t at, const struct adam *p)
{
    int64_t count = tensor_count(&p->w);
    adam_args a;
    a.w = f32(&p->w);
    a.m = f32(&p->m);
    a.v = f32(&p->v);
    a.g = f32(&p->g);
    a.norm2 = static_cast<const double *>(p->norm2.data);
    a.groups = static_cast<const uint8_t *>(p->groups.data);
    a.clip = p->clip;
    a.b1 = (float)p->beta1;
    a.c1 = (float)(1 - p->beta1);
    a.eps = (float)p->eps;
    a.cautious = p->cautious;
    for (int i = 0; i < ADAM_GROUPS; i++) {
        a.b2[i] = (float)p->group[i].beta2;
        a.c2[i] = (float)(1 - p->group[i].beta2);
        a.pull[i] = p->coupled ? (float)p->group[i].decay : 0.0f;
    }
    a.rates = static_cast<const struct adam_rates *>(queue_changing(be, at));
    int vec = VEC_OF(count, a.w, a.m, a.v, a.g);
    a.packs = count / vec;
    LAUNCH_FLAT(be, PACKS(k_adam), vec, count, a);
    cuda_launched(be, OP_adam);
}

void cuda_adam(struct backend *be, const struct adam *p)
{
    struct adam_rates r;
    struct adam rest = *p;
    for (int i = 0; i < ADAM_GROUPS; i++) {
        const struct adam_group *group = &p->group[i];
        r.rate[i] = (float)(group->lr / (1 - pow(p->beta1, (double)p->step)));
        r.v_scale[i] = (float)(1 / sqrt(1 - pow(group->beta2, (double)p->step)));
        r.keep[i] = p->coupled ? 1.0f : (float)(1 - group->lr * group->decay);
        rest.group[i].lr = 0; /* the rates stand for it */
    }
    rest.step = 0;
    if (tensor_count(&p->w) > 0)
        memcpy(queued_changing<start_adam>::note(be, sizeof r, &rest), &r, sizeof r);
}

template <int V>
__global__ void k_momentum(float *g, float *m, const double *norm2, double clip, float beta,
                           float rest, int64_t packs)
{
    if (!isfinite(*norm2))
        return;
    float scale = clip_scale(clip, *norm2);
    for (int64_t i = flat_index(); i < packs; i += flat_stride()) {
        pack<V> gv = load_pack<V>(g + i * V), mv = load_pack<V>(m + i * V);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float add = rest * (scale * gv.x[k]);
            mv.x[k] = beta * mv.x[k] + add;
            gv.x[k] = beta * mv.x[k] + add;
        }
        store_pack<V>(m + i * V, mv);
        store_pack<V>(g + i * V, gv);
    }
}

void cuda_momentum(struct backend *be, const struct momentum *p)
{
    int64_t count = tensor_count(&p->g);
    if (count == 0)
        return;
    int vec = VEC_OF(count, p->g.data, p->m.data);
    LAUNCH_FLAT(be, PACKS(k_momentum), vec, count, f32(&p->g), f32(&p->m),
                static_cast<const double *>(p->norm2.data), p->clip, (float)p->beta,
                (float)(1 - p->beta), count / vec);
    cuda_launched(be, OP_momentum);
}

template <int V>
__global__ void k_unit_norm(float *y, const float *x, const double *norm2, double least,
                            int64_t packs)
{
    float scale = (float)(1 / fmax(sqrt(*norm2), least));
    for (int64_t i = flat_index(); i < packs; i += flat_stride()) {
        pack<V> v = load_pack<V>(x + i * V);
#pragma unroll
        for (int k = 0; k < V; k++)
            v.x[k] *= scale;
        store_pack<V>(y + i * V, v);
    }
}

void cuda_unit_norm(struct backend *be, const struct tensor *y, const struct tensor *x,
                    const struct tensor *norm2, double least)
{
    int64_t count = tensor_count(y);
    if (count == 0)
        return;
    int vec = VEC_OF(count, y->data, x->data);
    LAUNCH_FLAT(be, PACKS(k_unit_norm), vec, count, f32(y), f32(x),
                static_cast<const double *>(norm2->data), least, count / vec);
    cuda_launched(be, OP_unit_norm);
}

/* Changes from step to step, and is found on the device. */
struct descend_rates {
    float rate, keep;
};

template <int V>
__global__ void k_descend(float *w, const float *u, const double *norm2, bool cautious,
                          const struct descend_rates *rates, int64_t packs)
{
    if (!isfinite(*norm2))
        return;
    float rate = rates->rate, kept = rates->keep;
    for (int64_t i = flat_index(); i < packs; i += flat_stride()) {
        pack<V> wv = load_pack<V>(w + i * V), uv = load_pack<V>(u + i * V);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float keep = !cautious || uv.x[k] * wv.x[k] >= 0 ? kept : 1.0f;
            wv.x[k] = keep * wv.x[k] - rate * uv.x[k];
        }
        store_pack<V>(w + i * V, wv);
    }
}

static void start_descend(struct backend *be, size_t at, const struct descend *p)
{
    int64_t count = tensor_count(&p->w);
    int vec = VEC_OF(count, p->w.data, p->u.data);
    LAUNCH_FLAT(be, PACKS(k_descend), vec, count, f32(&p->w), f32(&p->u),
                static_cast<const double *>(p->norm2.data), p->cautious,
                static_cast<const struct descend_rates *>(queue_changing(be, at)), count / vec);
    cuda_launched(be, OP_descend);
}

void cuda_descend(struct backend *be, const struct descend *p)
{
    struct descend_rates r = {(float)p->rate, (float)(1 - p->shrink)};
    struct descend rest = *p;
    rest.rate = rest.shrink = 0; /* the rates stand for both */
    if (tensor_count(&p->w) > 0)
        memcpy(queued_changing<start_descend>::note(be, sizeof r, &rest), &r, sizeof r);
}
