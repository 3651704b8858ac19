/* Coefficients of Broyden's method. Every group of rows has a recurrence over the steps kept, in
 * float64, by one warp. A lane keeps the sums of its steps and adds to them as earlier coefficients
 * get known. */
#include "cuda_impl.h"
#include "kernel.h"

#include <string.h>

enum { LANES = 32, STEPS_A_LANE = HISTORY_MOST / LANES };

struct broyden_args {
    float *coef, *gram;
    const float *dots;
    int32_t *restarts;
    int64_t rows;     /* of a group */
    int64_t triangle; /* numbers of a Gram matrix */
    int count;
    double lengths[HISTORY_MOST];
};

/* The recurrence of struct broyden_weights, on g . d_j in `sum` and the Gram matrix. Leaves the
 * coefficients of a lane's steps, j = lane + 32 s, in `c`. Returns the scale of the sum. *good
 * becomes false if the newest update is left out. */
__device__ double recur(const broyden_args &p, const float *gram, double sum[STEPS_A_LANE],
                        double c[STEPS_A_LANE], bool *good)
{
    int lane = (int)threadIdx.x, last = p.count - 1;
    double rho = 0, before = 0;
    for (int j = 0; j <= last; j++) {
        const float *row = gram + j * (j + 1) / 2;
        double mine = 0;
#pragma unroll
        for (int s = 0; s < STEPS_A_LANE; s++)
            mine = j / LANES == s ? sum[s] : mine;
        before = rho;
        rho = before + __shfl_sync(WARP_ALL, mine, j % LANES) / (double)row[j];
        bool finite = isfinite((float)rho);
        *good = finite || row[j] == 0;
        if (!finite)
            rho = 0;
        double now = before - (1 - p.lengths[j]) * rho;
#pragma unroll
        for (int s = 0; s < STEPS_A_LANE; s++) {
            int i = lane + LANES * s;
            if (i == j)
                c[s] = now;
            if (i > j && i <= last)
                sum[s] += now * (double)gram[i * (i + 1) / 2 + j];
        }
    }
    double scale = 1 / (1 - rho);
    bool finite = fabs(scale) <= (double)BROYDEN_GAIN;
#pragma unroll
    for (int s = 0; s < STEPS_A_LANE; s++)
        finite = finite && (lane + LANES * s > last || isfinite((float)(c[s] * scale)));
    *good = __all_sync(WARP_ALL, finite) && *good;
    if (*good)
        return scale;
#pragma unroll
    for (int s = 0; s < STEPS_A_LANE; s++)
        if (lane + LANES * s == last)
            c[s] = before;
    return 1;
}

/* A block of one warp for each group. Shared memory holds the lower triangle of its Gram matrix. */
__global__ void k_broyden_weights(broyden_args p)
{
    DYNAMIC_SHARED(float, gram);
    int64_t first = blockIdx.x * p.rows;
    int lane = (int)threadIdx.x, known = (p.count - 1) * p.count / 2;
    float *stored = p.gram + blockIdx.x * p.triangle, *coef = p.coef + first * (p.count + 1);
    const float *dots = p.dots + first * 2 * p.count;
    for (int i = lane; i < known; i += LANES)
        gram[i] = stored[i];
    double sum[STEPS_A_LANE], c[STEPS_A_LANE];
#pragma unroll
    for (int s = 0; s < STEPS_A_LANE; s++) {
        int j = lane + LANES * s;
        c[s] = 0;
        sum[s] = j < p.count ? (double)dots[j] : 0;
        if (j < p.count)
            stored[known + j] = gram[known + j] = dots[p.count + j];
    }
    __syncthreads();
    bool good = true;
    double scale = recur(p, gram, sum, c, &good);
    for (int64_t n = 0; n < p.rows; n++) {
#pragma unroll
        for (int s = 0; s < STEPS_A_LANE; s++)
            if (lane + LANES * s < p.count)
                coef[n * (p.count + 1) + lane + LANES * s] = (float)(c[s] * scale);
        if (lane == 0)
            coef[n * (p.count + 1) + p.count] = (float)scale;
    }
    for (int64_t n = lane; n < p.rows; n += LANES)
        p.restarts[first + n] += good ? 0 : 1;
}

void cuda_broyden_weights(struct backend *be, const struct broyden_weights *p)
{
    int64_t groups = p->gram.dim[0];
    if (groups == 0)
        return;
    broyden_args a = {};
    a.coef = f32(&p->coef);
    a.gram = f32(&p->gram);
    a.dots = f32(&p->dots);
    a.restarts = i32(&p->restarts);
    a.rows = p->coef.dim[0] / groups;
    a.triangle = p->gram.dim[1];
    a.count = (int)p->count;
    memcpy(a.lengths, p->lengths, sizeof a.lengths);
    size_t bytes = (size_t)(p->count * (p->count + 1) / 2) * sizeof(float); /* 64: 8,320 */
    LAUNCH(k_broyden_weights, (unsigned)groups, LANES, bytes, cuda_of(be)->stream, a);
    cuda_launched(be, OP_broyden_weights);
}
