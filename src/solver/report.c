/* What a solve did, read back from the device. */
#include "solver/solver_impl.h"

#include "base/mem.h"
#include <math.h>

static void report_rows(struct solver *s, struct solve_report *r, const int32_t *reason,
                        const int32_t *evals, const double *best)
{
    int64_t free_first = s->given_f0 ? 1 : 0;
    double evals_sum = 0, best_sum = 0;
    for (int64_t n = 0; n < s->rows; n++) {
        int32_t why = reason[n];
        if (why == SOLVE_ACTIVE && s->config.stop == STOP_FIXED)
            why = SOLVE_FIXED;
        else if (why == SOLVE_ACTIVE)
            why = s->count.calls < s->config.max_iter ? SOLVE_STALLED : SOLVE_MAX_ITER;
        r->reasons[why]++;
        int64_t e = evals[n] - free_first;
        evals_sum += (double)e;
        r->evals_max = e > r->evals_max ? e : r->evals_max;
        best_sum += best[n];
        if (!(best[n] <= r->rel_max)) /* a NaN or infinity stays */
            r->rel_max = best[n];
    }
    r->evals_mean = evals_sum / (double)s->rows;
    r->rel_mean = best_sum / (double)s->rows;
}

static void report_trace(struct solver *s, struct solve_report *r)
{
    int64_t n = s->count.iterates, capacity = s->trace_capacity;
    double *squares = s->host_trace, *abs = squares + 2 * capacity, *rel = abs + capacity;
    double lowest = INFINITY;
    struct tensor used = tensor_slice(&s->trace, 0, n);
    op_download(s->be, squares, DTYPE_F64, &used);
    for (int64_t k = 0; k < n; k++) {
        abs[k] = solver_batch_residual(s, squares + 2 * k, true);
        rel[k] = solver_batch_residual(s, squares + 2 * k, false);
        double value = s->config.stop == STOP_ABS ? abs[k] : rel[k];
        if (value < lowest) {
            lowest = value;
            r->best_iter = k;
        }
    }
    r->trace_abs = abs;
    r->trace_rel = rel;
    r->trace_len = n;
}

void solver_read_rows(struct solver *s, int32_t *evals, double *residual)
{
    struct tensor counts = solver_rows(s, &s->evals), best = solver_rows(s, &s->best);
    op_download(s->be, evals, DTYPE_I32, &counts);
    op_download(s->be, residual, DTYPE_F64, &best);
    for (int64_t n = 0; n < s->rows && s->given_f0; n++)
        evals[n]--;
}

enum status solver_report(struct solver *s, struct solve_report *r, struct error *err)
{
    struct backend *be = s->be;
    enum status status = STATUS_OK;
    int32_t *ints = NULL;
    double *best = NULL;
    size_t n = (size_t)s->rows;
    *r = (struct solve_report){.rows = s->rows,
                               .evals = s->count.calls,
                               .paid_mean = (double)s->count.rows / (double)s->rows};
    TRY_OUT(mem_alloc((void **)&ints, 3 * n, sizeof *ints, err));
    TRY_OUT(mem_alloc((void **)&best, n, sizeof *best, err));
    struct tensor reason = solver_rows(s, &s->reason), evals = solver_rows(s, &s->evals);
    struct tensor restarts = solver_rows(s, &s->restarts), best_r = solver_rows(s, &s->best);
    op_download(be, ints, DTYPE_I32, &reason);
    op_download(be, ints + n, DTYPE_I32, &evals);
    op_download(be, ints + 2 * n, DTYPE_I32, &restarts);
    op_download(be, best, DTYPE_F64, &best_r);
    report_rows(s, r, ints, ints + n, best);
    r->restarts = s->count.dropped * s->rows;
    for (size_t i = 0; i < n; i++)
        r->restarts += ints[2 * n + i];
    report_trace(s, r);
out:
    mem_free(ints);
    mem_free(best);
    return status;
}
