/* The convergence check of the solvers, by the norms of a row and its scope. */
#include "cuda_impl.h"
#include "kernel.h"

struct check_args {
    const float *norms, *f;
    float *z, *best_z, *best_f, *best, *first;
    int32_t *best_at, *reason, *evals;
    int64_t width, k, min_iter, stall;
    double tol, diverge;
    enum solve_stop stop;
    float rel_floor;
};

/* Residual of a row as the stop test sees it. It is not finite as soon as one of its norms is
 * not. */
__device__ __forceinline__ float checked_residual(const check_args &p, int64_t row)
{
    float g2 = p.norms[2 * row], f2 = p.norms[2 * row + 1];
    if (!isfinite(g2) || !isfinite(f2))
        return NAN;
    return p.stop == STOP_ABS ? sqrtf(g2) : sqrtf(g2) / (sqrtf(f2) + p.rel_floor);
}

/* A block for each row. Every thread comes to the same verdict, then they copy together. */
__global__ void k_convergence_check(check_args p)
{
    int64_t row = blockIdx.x;
    if (p.reason[row] != SOLVE_ACTIVE)
        return;
    float r = checked_residual(p, row), best = p.best[row];
    float first = p.k == 0 ? r : p.first[row];
    int64_t best_at = p.best_at[row];
    bool better = r < best;
    if (better) {
        best = r;
        best_at = p.k;
    }
    int reason = SOLVE_ACTIVE;
    if (!isfinite(r))
        reason = SOLVE_NONFINITE;
    else if (p.stop == STOP_FIXED)
        reason = SOLVE_ACTIVE;
    else if (p.k + 1 >= p.min_iter && (double)r <= p.tol)
        reason = p.stop == STOP_ABS ? SOLVE_CONVERGED_ABS : SOLVE_CONVERGED_REL;
    else if ((double)r > (double)first * p.diverge)
        reason = SOLVE_DIVERGED;
    else if (p.k - best_at >= p.stall)
        reason = SOLVE_STALLED;
    bool converged = reason == SOLVE_CONVERGED_ABS || reason == SOLVE_CONVERGED_REL;
    bool back = reason != SOLVE_ACTIVE && !converged && !better && isfinite(best);
    for (int64_t d = threadIdx.x; d < p.width; d += blockDim.x) {
        int64_t at = row * p.width + d;
        if (better) {
            p.best_z[at] = p.z[at];
            if (p.best_f != NULL)
                p.best_f[at] = p.f[at];
        } else if (back) {
            p.z[at] = p.best_z[at];
        }
    }
    __syncthreads(); /* everyone has read the row's numbers */
    if (threadIdx.x > 0)
        return;
    p.best[row] = best;
    p.first[row] = first;
    p.best_at[row] = (int32_t)best_at;
    p.evals[row] = (int32_t)(p.k + 1);
    p.reason[row] = reason;
}

__global__ void k_count_active(int32_t *active, const int32_t *reason, int64_t rows)
{
    int count = 0;
    for (int64_t n = threadIdx.x; n < rows; n += blockDim.x)
        count += reason[n] == SOLVE_ACTIVE;
    count = block_sum(count);
    if (threadIdx.x == 0)
        *active = count;
}

void cuda_convergence_check(struct backend *be, const struct convergence_check *p)
{
    int64_t rows = p->z.dim[0], width = p->z.dim[1];
    check_args a;
    a.norms = f32(&p->norms);
    a.f = f32(&p->f);
    a.z = f32(&p->z);
    a.best_z = f32(&p->best_z);
    a.best_f = f32(&p->best_f);
    a.best = f32(&p->best);
    a.first = f32(&p->first);
    a.best_at = i32(&p->best_at);
    a.reason = i32(&p->reason);
    a.evals = i32(&p->evals);
    a.width = width;
    a.k = p->k;
    a.min_iter = p->min_iter;
    a.stall = p->stall;
    a.stop = p->stop;
    a.tol = p->tol;
    a.diverge = p->diverge;
    a.rel_floor = (float)p->rel_floor;
    cudaStream_t stream = cuda_of(be)->stream;
    if (rows > 0)
        LAUNCH(k_convergence_check, (unsigned)rows, row_threads(width, 1), 0, stream, a);
    LAUNCH(k_count_active, 1, MAX_THREADS, 0, stream, i32(&p->active), a.reason, rows);
    cuda_launched(be, OP_convergence_check);
}
