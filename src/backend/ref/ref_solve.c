/* What solvers compute between two evaluations, where every row carries its own numbers. */
#include "backend/ref/ref_ops.h"
#include "base/dense.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

static bool has_ended(const struct tensor *reason, int64_t n)
{
    return reason != NULL && reason->data != NULL && ref_int(reason)[n] != SOLVE_ACTIVE;
}

void ref_solve_residual(struct backend *be, const struct solve_residual *p)
{
    (void)be;
    int64_t width = p->f.dim[1];
    double all[2] = {0, 0};
    for (int64_t n = 0; n < p->f.dim[0]; n++) {
        bool ended = has_ended(&p->reason, n);
        double row[2] = {0, 0};
        for (int64_t d = 0; d < width && !ended; d++) {
            int64_t at = n * width + d;
            double fd = ref_real(&p->f)[at], gd = fd - ref_real(&p->z)[at];
            ref_real(&p->g)[at] = gd;
            row[0] += gd * gd;
            row[1] += fd * fd;
        }
        for (int i = 0; i < 2; i++) {
            ref_real(&p->norms)[2 * n + i] = row[i];
            all[i] += row[i];
        }
    }
    memcpy(p->total.data, all, sizeof all);
}

void ref_row_dots(struct backend *be, const struct row_dots *p)
{
    (void)be;
    int64_t rows = p->x.dim[0], width = p->x.dim[1], slots = p->hist.dim[0];
    const double *with[] = {ref_real(&p->x), ref_real(&p->y)};
    int vectors = with[1] != NULL ? 2 : 1;
    for (int64_t n = 0; n < rows; n++)
        for (int v = 0; v < vectors; v++)
            for (int64_t j = 0; j < p->count; j++) {
                double sum = 0;
                for (int64_t d = 0; d < width && !has_ended(&p->reason, n); d++)
                    sum += with[v][n * width + d] * ref_real(&p->hist)[(j * rows + n) * width + d];
                ref_real(&p->dots)[(n * vectors + v) * slots + j] = sum;
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

/* Returns the residual of row n as the convergence check sees it. It is not finite as soon as one
 * of its norms is not, so that an overflow of ||f|| cannot make the quotient small. */
static double residual_of(const struct convergence_check *p, int64_t n)
{
    double g2 = ref_real(&p->norms)[2 * n], f2 = ref_real(&p->norms)[2 * n + 1];
    if (!isfinite(g2) || !isfinite(f2))
        return NAN;
    return p->stop == STOP_ABS ? sqrt(g2) : sqrt(g2) / (sqrt(f2) + p->rel_floor);
}

static void keep_best(const struct convergence_check *p, int64_t n, double r)
{
    int64_t width = p->z.dim[1];
    size_t bytes = (size_t)width * sizeof(double);
    ref_real(&p->best)[n] = r;
    ref_int(&p->best_at)[n] = (int32_t)p->k;
    memcpy(ref_real(&p->best_z) + n * width, ref_real(&p->z) + n * width, bytes);
    if (p->best_f.data != NULL)
        memcpy(ref_real(&p->best_f) + n * width, ref_real(&p->f) + n * width, bytes);
}

static enum solve_reason check_row(const struct convergence_check *p, int64_t n)
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

void ref_convergence_check(struct backend *be, const struct convergence_check *p)
{
    (void)be;
    int64_t width = p->z.dim[1];
    int32_t active = 0;
    for (int64_t n = 0; n < p->z.dim[0]; n++) {
        int32_t *reason = ref_int(&p->reason) + n;
        if (*reason != SOLVE_ACTIVE)
            continue;
        *reason = (int32_t)check_row(p, n);
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

/* Returns number `d` of row n of the combination. */
static double combined(const struct row_combine *p, int64_t n, int64_t d)
{
    int64_t rows = p->out.dim[0], width = p->out.dim[1], slots = p->hist.dim[0];
    int64_t at = n * width + d;
    double sum = 0;
    if (p->x.data != NULL)
        sum += p->a * ref_real(&p->x)[at];
    if (p->y.data != NULL)
        sum += p->b * ref_real(&p->y)[at];
    for (int64_t j = 0; j < p->count; j++) {
        int64_t slot_at = j * rows * width + at;
        double h = p->c * ref_real(&p->hist)[slot_at];
        if (p->hist2.data != NULL)
            h += p->c2 * ref_real(&p->hist2)[slot_at];
        sum += ref_real(&p->coef)[n * slots + j] * h;
    }
    return sum;
}

void ref_row_combine(struct backend *be, const struct row_combine *p)
{
    (void)be;
    int64_t rows = p->out.dim[0], width = p->out.dim[1];
    for (int64_t n = 0; n < rows; n++) {
        bool ended = has_ended(&p->reason, n);
        if (ended && !p->clear)
            continue;
        for (int64_t d = 0; d < width; d++) {
            double value = ended ? 0 : combined(p, n, d);
            ref_real(&p->out)[n * width + d] = value;
            if (p->sum.data != NULL && !ended)
                ref_real(&p->sum)[n * width + d] += value;
        }
    }
}

/* Computes the mixing weights of one row from its Gram matrix. alpha[0] belongs to the newest slot.
 * `work` holds len * len numbers. Returns false if there is no finite solution. */
static bool anderson_solve(const struct anderson_weights *p, const double *gram, int64_t len,
                           double *work, double *alpha)
{
    int64_t m = p->alpha.dim[1];
    double trace = 0;
    for (int64_t i = 0; i < len; i++) {
        int64_t row = (p->slot - i + p->count) % p->count;
        for (int64_t j = 0; j < len; j++)
            work[i * len + j] = gram[row * m + (p->slot - j + p->count) % p->count];
        trace += work[i * len + i];
        alpha[i] = 1;
    }
    double ridge = p->relative ? p->ridge * trace / (double)len : p->ridge;
    for (int64_t i = 0; i < len; i++)
        work[i * len + i] += ridge;
    if (!dense_solve(work, alpha, len))
        return false;
    double sum = 0;
    for (int64_t i = 0; i < len; i++)
        sum += alpha[i];
    bool finite = true;
    for (int64_t i = 0; i < len; i++) {
        alpha[i] /= sum;
        finite = finite && isfinite(alpha[i]);
    }
    return finite;
}

static void anderson_row(const struct anderson_weights *p, int64_t n, double *work, double *alpha)
{
    int64_t m = p->alpha.dim[1];
    double *gram = ref_real(&p->gram) + n * m * m, *out = ref_real(&p->alpha) + n * m;
    const double *dots = ref_real(&p->dots) + n * m;
    int32_t *len = ref_int(&p->len) + n;
    for (int64_t j = 0; j < p->count; j++) {
        gram[p->slot * m + j] = dots[j];
        gram[j * m + p->slot] = dots[j];
    }
    if (*len < p->count)
        (*len)++;
    if (!anderson_solve(p, gram, *len, work, alpha)) {
        *len = 1;
        alpha[0] = 1;
        ref_int(&p->restarts)[n]++;
    }
    for (int64_t j = 0; j < m; j++)
        out[j] = 0;
    for (int64_t i = 0; i < *len; i++)
        out[(p->slot - i + p->count) % p->count] = alpha[i];
}

void ref_anderson_weights(struct backend *be, const struct anderson_weights *p)
{
    int64_t m = p->alpha.dim[1];
    void *work = NULL;
    struct error err;
    if (mem_alloc(&work, (size_t)(m * m + m), sizeof(double), &err) != STATUS_OK) {
        backend_fault_memory(be, OP_anderson_weights, err.text);
        return;
    }
    double *alpha = (double *)work + m * m;
    for (int64_t n = 0; n < p->alpha.dim[0]; n++)
        if (p->reason.data == NULL || ref_int(&p->reason)[n] == SOLVE_ACTIVE)
            anderson_row(p, n, work, alpha);
    mem_free(work);
}

/* Runs the recurrence of struct broyden_weights. Returns false if the newest update is left out. */
static bool broyden_row(const struct broyden_weights *p, const double *gram, const double *g_dots,
                        double *coef)
{
    int64_t last = p->count - 1;
    double rho = 0, before = 0;
    bool good = true;
    for (int64_t j = 0; j <= last; j++) {
        const double *row = gram + j * (j + 1) / 2;
        double sum = g_dots[j];
        for (int64_t i = 0; i < j; i++)
            sum += coef[i] * row[i];
        before = rho;
        rho = before + sum / row[j];
        good = isfinite(rho) || row[j] == 0;
        if (!isfinite(rho))
            rho = 0;
        coef[j] = before - (1 - p->lengths[j]) * rho;
    }
    double scale = 1 / (1 - rho);
    good = good && fabs(scale) <= BROYDEN_GAIN;
    for (int64_t j = 0; j <= last; j++)
        good = good && isfinite(coef[j] * scale);
    if (!good) {
        coef[last] = before;
        scale = 1;
    }
    for (int64_t j = 0; j <= last; j++)
        coef[j] *= scale;
    coef[p->count] = scale;
    return good;
}

void ref_broyden_weights(struct backend *be, const struct broyden_weights *p)
{
    (void)be;
    int64_t count = p->count, last = count - 1, groups = p->gram.dim[0];
    int64_t rows = groups > 0 ? p->coef.dim[0] / groups : 0; /* of a group */
    for (int64_t n = 0; n < groups * rows; n++) {
        double *gram = ref_real(&p->gram) + n / rows * p->gram.dim[1];
        double *coef = ref_real(&p->coef) + n * (count + 1);
        const double *dots = ref_real(&p->dots) + n / rows * rows * 2 * count;
        for (int64_t j = 0; j < count; j++)
            gram[last * count / 2 + j] = dots[count + j];
        if (!broyden_row(p, gram, dots, coef))
            ref_int(&p->restarts)[n]++;
    }
}
