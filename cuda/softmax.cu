/* Softmax and cross entropy, with one block a row and two passes over it. The first keeps a running
 * maximum and a sum relative to it, so that the row is read once for both. */
#include "cuda_impl.h"
#include "kernel.h"

enum { LOSS_THREADS = 256 };

/* A sum of exponentials relative to the largest argument so far. */
struct soft_sum {
    float top, sum;
};

/* NaN and plus infinity give NaN, as they would in a plain sum. Minus infinity adds nothing. */
__device__ __forceinline__ void soft_add(soft_sum *s, float x)
{
    if (x > s->top) {
        s->sum = s->sum == 0 ? 0 : s->sum * expf(s->top - x);
        s->top = x;
    }
    s->sum += x == -INFINITY ? 0 : expf(x - s->top);
}

__device__ __forceinline__ soft_sum soft_join(soft_sum a, soft_sum b)
{
    soft_sum s;
    s.top = a.top > b.top ? a.top : b.top;
    s.sum = (a.top == s.top || a.sum == 0 ? a.sum : a.sum * expf(a.top - s.top)) +
            (b.top == s.top || b.sum == 0 ? b.sum : b.sum * expf(b.top - s.top));
    return s;
}

__device__ __forceinline__ soft_sum soft_warp(soft_sum s)
{
    for (int step = 16; step > 0; step /= 2) {
        soft_sum other;
        other.top = __shfl_xor_sync(WARP_ALL, s.top, step);
        other.sum = __shfl_xor_sync(WARP_ALL, s.sum, step);
        s = soft_join(s, other);
    }
    return s;
}

/* Log of the sum of exponentials of row + bias, in every thread. */
__device__ __forceinline__ float row_lse(const float *row, const float *bias, int64_t count)
{
    SHARED(float, tops, [LOSS_THREADS / 32]);
    SHARED(float, sums, [LOSS_THREADS / 32]);
    soft_sum s = {-INFINITY, 0};
    for (int64_t c = threadIdx.x; c < count; c += LOSS_THREADS)
        soft_add(&s, row[c] + (bias != NULL ? bias[c] : 0));
    s = soft_warp(s);
    if (threadIdx.x % 32 == 0) {
        tops[threadIdx.x / 32] = s.top;
        sums[threadIdx.x / 32] = s.sum;
    }
    __syncthreads();
    s = {tops[0], sums[0]};
    for (int k = 1; k < LOSS_THREADS / 32; k++) {
        soft_sum other = {tops[k], sums[k]};
        s = soft_join(s, other);
    }
    return s.top + logf(s.sum);
}

struct xent_args {
    float *logits;
    const float *bias;
    const int32_t *target, *pos;
    float *nll;
    int64_t classes;
    float scale;
    bool gradient;
};

__global__ void k_softmax_xent(xent_args p)
{
    int64_t row = blockIdx.x, target = p.target[row];
    float *x = p.logits + row * p.classes;
    float lse = row_lse(x, p.bias, p.classes);
    if (threadIdx.x == 0) {
        float own = x[target] + (p.bias != NULL ? p.bias[target] : 0);
        p.nll[p.pos != NULL ? p.pos[row] : row] += lse - own;
    }
    if (!p.gradient)
        return;
    __syncthreads(); /* the target's logit has been read */
    for (int64_t c = threadIdx.x; c < p.classes; c += LOSS_THREADS) {
        float prob = expf(x[c] + (p.bias != NULL ? p.bias[c] : 0) - lse);
        x[c] = (prob - (c == target ? 1.0f : 0.0f)) * p.scale;
    }
}

void cuda_softmax_xent(struct backend *be, const struct softmax_xent *p)
{
    int64_t rows = p->logits.dim[0], classes = p->logits.dim[1];
    if (rows * classes == 0)
        return;
    xent_args a = {f32(&p->logits), f32(&p->bias), i32(&p->target), i32(&p->pos),
                   f32(&p->nll),    classes,       (float)p->scale, p->gradient};
    LAUNCH(k_softmax_xent, (unsigned)rows, LOSS_THREADS, 0, cuda_of(be)->stream, a);
    cuda_launched(be, OP_softmax_xent);
}

__global__ void k_log_softmax(float *logits, const float *bias, int64_t classes)
{
    float *x = logits + blockIdx.x * classes;
    float lse = row_lse(x, bias, classes);
    for (int64_t c = threadIdx.x; c < classes; c += LOSS_THREADS)
        x[c] = x[c] + (bias != NULL ? bias[c] : 0) - lse;
}

void cuda_log_softmax(struct backend *be, const struct tensor *logits, const struct tensor *bias)
{
    int64_t rows = logits->dim[0], classes = logits->dim[1];
    if (rows * classes == 0)
        return;
    LAUNCH(k_log_softmax, (unsigned)rows, LOSS_THREADS, 0, cuda_of(be)->stream, f32(logits),
           f32(bias), classes);
    cuda_launched(be, OP_log_softmax);
}
