/* Mixing weights of Anderson acceleration. Every row has a small linear system in float64, which
 * one warp solves in shared memory. */
#include "cuda_impl.h"
#include "kernel.h"

enum { SYSTEM_THREADS = 32 };

struct weights_args {
    float *alpha, *gram;
    const float *dots;
    int32_t *len, *restarts;
    const int32_t *reason;
    int64_t m, slot, count;
    double ridge;
    bool relative;
};

/* Slot number i counted back from the newest one. */
__device__ __forceinline__ int64_t ring(const weights_args &p, int64_t i)
{
    return (p.slot - i + p.count) % p.count;
}

/* Solves a x = b in place of b by elimination with row exchanges. `a` is [n,n] with rows `step`
 * apart. False if a pivot is zero or not a number. Every thread looks for the pivot by itself, so
 * that they need not exchange it. */
__device__ bool solve_dense(double *a, double *b, int n, int step)
{
    int lane = (int)threadIdx.x;
    for (int c = 0; c < n; c++) {
        int pivot = c;
        for (int r = c + 1; r < n; r++)
            if (fabs(a[r * step + c]) > fabs(a[pivot * step + c]))
                pivot = r;
        bool usable = fabs(a[pivot * step + c]) > 0;
        __syncthreads();
        if (!usable)
            return false;
        if (pivot != c) {
            for (int k = lane; k <= n; k += SYSTEM_THREADS) {
                double *x = k < n ? a + c * step + k : b + c;
                double *y = k < n ? a + pivot * step + k : b + pivot;
                double swap = *x;
                *x = *y;
                *y = swap;
            }
        }
        __syncthreads();
        for (int r = c + 1 + lane; r < n; r += SYSTEM_THREADS) {
            double factor = a[r * step + c] / a[c * step + c];
            for (int k = c; k < n; k++)
                a[r * step + k] -= factor * a[c * step + k];
            b[r] -= factor * b[c];
        }
        __syncthreads();
    }
    if (lane == 0)
        for (int r = n - 1; r >= 0; r--) {
            for (int k = r + 1; k < n; k++)
                b[r] -= a[r * step + k] * b[k];
            b[r] /= a[r * step + r];
        }
    __syncthreads();
    return true;
}

/* The weights of one row, of which w[0] belongs to the newest slot. False if there is no finite
 * solution. */
__device__ bool row_weights(const weights_args &p, const float *gram, int len, double *a, double *w)
{
    int lane = (int)threadIdx.x, step = len + 1;
    for (int i = lane; i < len; i += SYSTEM_THREADS) {
        for (int j = 0; j < len; j++)
            a[i * step + j] = (double)gram[ring(p, i) * p.m + ring(p, j)];
        w[i] = 1;
    }
    __syncthreads();
    double trace = 0, sum = 0;
    for (int i = 0; i < len; i++)
        trace += a[i * step + i];
    __syncthreads();
    double ridge = p.relative ? p.ridge * trace / (double)len : p.ridge;
    for (int i = lane; i < len; i += SYSTEM_THREADS)
        a[i * step + i] += ridge;
    __syncthreads();
    if (!solve_dense(a, w, len, step))
        return false;
    bool finite = true;
    for (int i = 0; i < len; i++)
        sum += w[i];
    for (int i = 0; i < len; i++)
        finite = finite && isfinite(w[i] / sum);
    __syncthreads();
    for (int i = lane; i < len; i += SYSTEM_THREADS)
        w[i] /= sum;
    __syncthreads();
    return finite;
}

/* A block of one warp for each row. Shared memory holds the system [m,m+1] and its right side
 * [m]. */
__global__ void k_anderson_weights(weights_args p)
{
    DYNAMIC_SHARED(double, system);
    int64_t row = blockIdx.x;
    if (p.reason != NULL && p.reason[row] != SOLVE_ACTIVE)
        return;
    int lane = (int)threadIdx.x;
    double *w = system + p.m * (p.m + 1);
    float *gram = p.gram + row * p.m * p.m;
    for (int64_t j = lane; j < p.count; j += SYSTEM_THREADS) {
        float dot = p.dots[row * p.m + j];
        gram[p.slot * p.m + j] = dot;
        gram[j * p.m + p.slot] = dot;
    }
    int old = p.len[row], len = old < p.count ? old + 1 : old;
    __syncthreads();
    bool good = row_weights(p, gram, len, system, w);
    if (!good)
        len = 1;
    for (int64_t j = lane; j < p.m; j += SYSTEM_THREADS)
        p.alpha[row * p.m + j] = 0;
    __syncthreads();
    for (int i = lane; i < len; i += SYSTEM_THREADS)
        p.alpha[row * p.m + ring(p, i)] = good ? (float)w[i] : 1;
    if (lane == 0) {
        p.len[row] = len;
        p.restarts[row] += good ? 0 : 1;
    }
}

void cuda_anderson_weights(struct backend *be, const struct anderson_weights *p)
{
    int64_t rows = p->alpha.dim[0], m = p->alpha.dim[1];
    if (rows == 0)
        return;
    weights_args a = {f32(&p->alpha),
                      f32(&p->gram),
                      f32(&p->dots),
                      i32(&p->len),
                      i32(&p->restarts),
                      i32(&p->reason),
                      m,
                      p->slot,
                      p->count,
                      p->ridge,
                      p->relative};
    size_t bytes = (size_t)(m * (m + 1) + m) * sizeof(double); /* 33,792 for 64 slots */
    LAUNCH(k_anderson_weights, (unsigned)rows, SYSTEM_THREADS, bytes, cuda_of(be)->stream, a);
    cuda_launched(be, OP_anderson_weights);
}
