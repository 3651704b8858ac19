/* The optimizer over flat arrays, with one launch for the norm and one for the update. */
#include "cuda_impl.h"
#include "kernel.h"
#include "queue.h"

#include <math.h>

enum { NORM_BLOCKS = 512 };

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
    float rate, v_scale, keep; /* `keep` is for numbers with decoupled decay */
};

struct adam_args {
    float *w, *m, *v;
    const float *g;
    const double *norm2;
    const uint8_t *decays; /* NULL: all */
    int64_t packs;
    double clip;
    float b1, b2, c1, c2, eps;
    float pull; /* of numbers with coupled decay */
    const struct adam_rates *rates;
};

template <int V> __global__ void k_adam(adam_args p)
{
    double norm2 = *p.norm2;
    if (!isfinite(norm2))
        return;
    struct adam_rates r = *p.rates;
    float scale = p.clip == 0 ? 1.0f : (float)fmin(1.0, p.clip / (sqrt(norm2) + 1e-6));
    for (int64_t i = flat_index(); i < p.packs; i += flat_stride()) {
        pack<V> w = load_pack<V>(p.w + i * V), g = load_pack<V>(p.g + i * V);
        pack<V> m = load_pack<V>(p.m + i * V), v = load_pack<V>(p.v + i * V);
        bool decays = p.decays == NULL || p.decays[i * V / ADAM_BLOCK] != 0;
        float keep = decays ? r.keep : 1.0f, pull = decays ? p.pull : 0.0f;
#pragma unroll
        for (int k = 0; k < V; k++) {
            float grad = scale * g.x[k] + pull * w.x[k];
            m.x[k] = p.b1 * m.x[k] + p.c1 * grad;
            v.x[k] = p.b2 * v.x[k] + p.c2 * grad * grad;
            w.x[k] = keep * w.x[k] - r.rate * m.x[k] / (sqrtf(v.x[k]) * r.v_scale + p.eps);
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
    a.decays = static_cast<const uint8_t *>(p->decays.data);
    a.clip = p->clip;
    a.b1 = (float)p->beta1;
    a.b2 = (float)p->beta2;
    a.c1 = (float)(1 - p->beta1);
    a.c2 = (float)(1 - p->beta2);
    a.eps = (float)p->eps;
    a.pull = p->coupled ? (float)p->decay : 0.0f;
    a.rates = static_cast<const struct adam_rates *>(queue_changing(be, at));
    int vec = VEC_OF(count, a.w, a.m, a.v, a.g);
    a.packs = count / vec;
    LAUNCH_FLAT(be, PACKS(k_adam), vec, count, a);
    cuda_launched(be, OP_adam);
}

void cuda_adam(struct backend *be, const struct adam *p)
{
    struct adam_rates r = {
        (float)(p->lr / (1 - pow(p->beta1, (double)p->step))),
        (float)(1 / sqrt(1 - pow(p->beta2, (double)p->step))),
        p->coupled ? 1.0f : (float)(1 - p->lr * p->decay),
    };
    struct adam rest = *p;
    rest.lr = 0; /* the rates stand for both */
    rest.step = 0;
    if (tensor_count(&p->w) > 0)
        memcpy(queued_changing<start_adam>::note(be, sizeof r, &rest), &r, sizeof r);
}
