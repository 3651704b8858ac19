/* Vector operations of the fixed-point solvers: every row carries its own numbers. */
#include "ref/ref_ops.h"

#include <math.h>
#include <string.h>

static bool has_ended(const struct tensor *reason, int64_t n)
{
    return reason != NULL && ref_int(reason)[n] != SOLVE_ACTIVE;
}

void ref_solve_residual(struct backend *be, const struct tensor *g, const struct tensor *f,
                        const struct tensor *z, const struct tensor *norms,
                        const struct tensor *total, const struct tensor *reason)
{
    (void)be;
    int64_t width = f->dim[1];
    double all[2] = {0, 0};
    for (int64_t n = 0; n < f->dim[0]; n++) {
        bool ended = has_ended(reason, n);
        double row[2] = {0, 0};
        for (int64_t d = 0; d < width && !ended; d++) {
            int64_t at = n * width + d;
            double fd = ref_real(f)[at], gd = fd - ref_real(z)[at];
            ref_real(g)[at] = gd;
            row[0] += gd * gd;
            row[1] += fd * fd;
        }
        for (int i = 0; i < 2; i++) {
            ref_real(norms)[2 * n + i] = row[i];
            all[i] += row[i];
        }
    }
    memcpy(total->data, all, sizeof all);
}

void ref_row_dots(struct backend *be, const struct tensor *dots, const struct tensor *x,
                  const struct tensor *hist, int64_t count, const struct tensor *reason)
{
    (void)be;
    int64_t rows = x->dim[0], width = x->dim[1];
    for (int64_t n = 0; n < rows; n++)
        for (int64_t j = 0; j < count; j++) {
            double sum = 0;
            for (int64_t d = 0; d < width && !has_ended(reason, n); d++)
                sum += ref_real(x)[n * width + d] * ref_real(hist)[(j * rows + n) * width + d];
            ref_real(dots)[n * hist->dim[0] + j] = sum;
        }
}

void ref_scope_sum(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                   bool reverse)
{
    (void)be;
    int64_t batch = val->dim[0], len = val->dim[1], width = val->dim[2];
    double *x = ref_real(val);
    if (scope == SCOPE_BATCH) { /* one sequence of all rows */
        len *= batch;
        batch = len == 0 ? 0 : 1;
    }
    for (int64_t b = 0; b < batch; b++)
        for (int64_t c = 0; c < width; c++) {
            double sum = 0; /* up to here for a prefix, of all otherwise */
            for (int64_t t = 0; scope != SCOPE_TOKEN && t < len; t++) {
                int64_t at = (b * len + (reverse ? len - 1 - t : t)) * width + c;
                sum = scope == SCOPE_PREFIX ? x[at] + decay * sum : sum + x[at];
                if (scope == SCOPE_PREFIX)
                    x[at] = sum;
            }
            for (int64_t t = 0; scope >= SCOPE_SEQUENCE && t < len; t++)
                x[(b * len + t) * width + c] = sum;
        }
}

/* Residual of row n as the stop test sees it; not finite as soon as one of its norms is not, so
 * that an overflow of ||f|| cannot make the quotient small. */
static double residual_of(const struct solve_judge *p, int64_t n)
{
    double g2 = ref_real(&p->norms)[2 * n], f2 = ref_real(&p->norms)[2 * n + 1];
    if (!isfinite(g2) || !isfinite(f2))
        return NAN;
    return p->stop == STOP_ABS ? sqrt(g2) : sqrt(g2) / (sqrt(f2) + p->rel_floor);
}

static void keep_best(const struct solve_judge *p, int64_t n, double r)
{
    int64_t width = p->z.dim[1];
    size_t bytes = (size_t)width * sizeof(double);
    ref_real(&p->best)[n] = r;
    ref_int(&p->best_at)[n] = (int32_t)p->k;
    memcpy(ref_real(&p->best_z) + n * width, ref_real(&p->z) + n * width, bytes);
    if (p->best_f.data != NULL)
        memcpy(ref_real(&p->best_f) + n * width, ref_real(&p->f) + n * width, bytes);
}

static enum solve_reason judge_row(const struct solve_judge *p, int64_t n)
{
    double r = residual_of(p, n);
    ref_int(&p->evals)[n] = (int32_t)(p->k + 1);
    if (p->k == 0)
        ref_real(&p->first)[n] = r;
    if (!isfinite(r))
        return SOLVE_NONFINITE;
    if (r < ref_real(&p->best)[n])
        keep_best(p, n, r);
    if (p->stop == STOP_FIXED)
        return SOLVE_ACTIVE;
    if (p->k + 1 >= p->min_iter && r <= p->tol)
        return p->stop == STOP_ABS ? SOLVE_CONVERGED_ABS : SOLVE_CONVERGED_REL;
    if (r > ref_real(&p->first)[n] * p->diverge)
        return SOLVE_DIVERGED;
    if (p->k - ref_int(&p->best_at)[n] >= p->stall)
        return SOLVE_STALLED;
    return SOLVE_ACTIVE;
}

void ref_solve_judge(struct backend *be, const struct solve_judge *p)
{
    (void)be;
    int64_t width = p->z.dim[1];
    int32_t active = 0;
    for (int64_t n = 0; n < p->z.dim[0]; n++) {
        int32_t *reason = ref_int(&p->reason) + n;
        if (*reason != SOLVE_ACTIVE)
            continue;
        *reason = (int32_t)judge_row(p, n);
        if (*reason == SOLVE_ACTIVE) {
            active++;
            continue;
        }
        bool converged = *reason == SOLVE_CONVERGED_ABS || *reason == SOLVE_CONVERGED_REL;
        if (!converged && isfinite(ref_real(&p->best)[n]))
            memcpy(ref_real(&p->z) + n * width, ref_real(&p->best_z) + n * width,
                   (size_t)width * sizeof(double));
    }
    *ref_int(&p->active) = active;
}

void ref_row_combine(struct backend *be, const struct row_combine *p)
{
    (void)be;
    int64_t rows = p->out.dim[0], width = p->out.dim[1], slots = p->hist.dim[0];
    const double *y = ref_real(&p->y), *hist = ref_real(&p->hist), *hist2 = ref_real(&p->hist2);
    for (int64_t n = 0; n < rows; n++) {
        if (p->reason.data != NULL && ref_int(&p->reason)[n] != SOLVE_ACTIVE)
            continue;
        for (int64_t d = 0; d < width; d++) {
            int64_t at = n * width + d;
            double sum = p->a * ref_real(&p->x)[at];
            if (y != NULL)
                sum += p->b * y[at];
            for (int64_t j = 0; j < p->count; j++) {
                int64_t slot_at = (j * rows + n) * width + d;
                double h = p->c * hist[slot_at];
                if (hist2 != NULL)
                    h += p->c2 * hist2[slot_at];
                sum += ref_real(&p->coef)[n * slots + j] * h;
            }
            ref_real(&p->out)[at] = sum;
        }
    }
}

void ref_row_divide(struct backend *be, const struct tensor *x, const struct tensor *denom,
                    const struct tensor *restarts)
{
    (void)be;
    int64_t width = x->dim[1];
    for (int64_t n = 0; n < x->dim[0]; n++) {
        double *row = ref_real(x) + n * width, by = ref_real(denom)[n];
        bool usable = by != 0 && isfinite(by);
        for (int64_t d = 0; d < width; d++) {
            row[d] /= by;
            usable = usable && isfinite(row[d]);
        }
        if (usable)
            continue;
        memset(row, 0, (size_t)width * sizeof *row);
        ref_int(restarts)[n]++;
    }
}
