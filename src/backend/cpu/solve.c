/* What solvers compute between two evaluations, where every row carries its own numbers. */
#include "backend/cpu/cpu_impl.h"
#include "base/dense.h"

#include <math.h>
#include <string.h>

static bool has_ended(const struct tensor *reason, int64_t n)
{
    return reason != NULL && reason->data != NULL && cpu_i32(reason)[n] != SOLVE_ACTIVE;
}

void cpu_solve_residual(struct backend *be, const struct solve_residual *p)
{
    int64_t rows = p->f.dim[0], width = p->f.dim[1];
    float *out = cpu_f32(&p->norms);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t n = 0; n < rows; n++) {
        if (has_ended(&p->reason, n)) {
            out[2 * n] = out[2 * n + 1] = 0;
            continue;
        }
        const float *fd = cpu_f32(&p->f) + n * width, *zd = cpu_f32(&p->z) + n * width;
        float *gd = cpu_f32(&p->g) + n * width, g2 = 0, f2 = 0;
#pragma omp simd reduction(+ : g2, f2)
        for (int64_t d = 0; d < width; d++) {
            float r = fd[d] - zd[d];
            gd[d] = r;
            g2 += r * r;
            f2 += fd[d] * fd[d];
        }
        out[2 * n] = g2;
        out[2 * n + 1] = f2;
    }
    double sums[2] = {0, 0};
    for (int64_t n = 0; n < rows; n++) {
        sums[0] += out[2 * n];
        sums[1] += out[2 * n + 1];
    }
    memcpy(p->total.data, sums, sizeof sums);
}

/* Computes the inner products of a row with one slot, of x and, unless it is NULL, of y. */
static void dot_slot(const float *x, const float *y, const float *slot, int64_t width, float *x_dot,
                     float *y_dot)
{
    float with_x = 0, with_y = 0;
    if (y == NULL) {
#pragma omp simd reduction(+ : with_x)
        for (int64_t d = 0; d < width; d++)
            with_x += x[d] * slot[d];
        *x_dot = with_x;
        return;
    }
#pragma omp simd reduction(+ : with_x, with_y)
    for (int64_t d = 0; d < width; d++) {
        with_x += x[d] * slot[d];
        with_y += y[d] * slot[d];
    }
    *x_dot = with_x;
    *y_dot = with_y;
}

void cpu_row_dots(struct backend *be, const struct row_dots *p)
{
    int64_t rows = p->x.dim[0], width = p->x.dim[1], slots = p->hist.dim[0], count = p->count;
    bool two = p->y.data != NULL;
#pragma omp parallel for schedule(static) \
    num_threads(be->threads) if (cpu_worth(rows * width * count))
    for (int64_t n = 0; n < rows; n++) {
        const float *x = cpu_f32(&p->x) + n * width, *y = two ? cpu_f32(&p->y) + n * width : NULL;
        float *x_dots = cpu_f32(&p->dots) + n * (two ? 2 : 1) * slots, *y_dots = x_dots + slots;
        if (has_ended(&p->reason, n)) {
            memset(x_dots, 0, (size_t)count * sizeof *x_dots);
            if (two)
                memset(y_dots, 0, (size_t)count * sizeof *y_dots);
            continue;
        }
        for (int64_t j = 0; j < count; j++)
            dot_slot(x, y, cpu_f32(&p->hist) + (j * rows + n) * width, width, x_dots + j,
                     y_dots + j);
    }
}

void cpu_scope_sum(struct backend *be, const struct tensor *val, enum scope scope, double decay,
                   bool reverse)
{
    (void)be; /* The few numbers of a row are not worth threads. */
    int64_t batch = val->dim[0], len = val->dim[1], width = val->dim[2];
    float keep = (float)decay;
    if (scope == SCOPE_BATCH) { /* one sequence of all rows */
        len *= batch;
        batch = len == 0 ? 0 : 1;
    }
    for (int64_t b = 0; b < batch && scope == SCOPE_PREFIX; b++)
        for (int64_t t = 1; t < len; t++) {
            float *row = cpu_f32(val) + (b * len + (reverse ? len - 1 - t : t)) * width;
            const float *before = reverse ? row + width : row - width;
            for (int64_t c = 0; c < width; c++)
                row[c] += keep * before[c];
        }
    for (int64_t b = 0; b < batch && scope >= SCOPE_SEQUENCE; b++)
        for (int64_t c = 0; c < width; c++) {
            float *x = cpu_f32(val) + b * len * width + c;
            double sum = 0;
            for (int64_t t = 0; t < len; t++)
                sum += x[t * width];
            for (int64_t t = 0; t < len; t++)
                x[t * width] = (float)sum;
        }
}

/* Returns the residual of row n as the convergence check sees it. It is not finite as soon as one
 * of its norms is not, so that an overflow of ||f|| cannot make the quotient small. */
static float residual_of(const struct convergence_check *p, int64_t n)
{
    float g2 = cpu_f32(&p->norms)[2 * n], f2 = cpu_f32(&p->norms)[2 * n + 1];
    if (!isfinite(g2) || !isfinite(f2))
        return NAN;
    return p->stop == STOP_ABS ? sqrtf(g2) : sqrtf(g2) / (sqrtf(f2) + (float)p->rel_floor);
}

static void keep_best(const struct convergence_check *p, int64_t n, float r)
{
    int64_t width = p->z.dim[1];
    size_t bytes = (size_t)width * sizeof(float);
    cpu_f32(&p->best)[n] = r;
    cpu_i32(&p->best_at)[n] = (int32_t)p->k;
    memcpy(cpu_f32(&p->best_z) + n * width, cpu_f32(&p->z) + n * width, bytes);
    if (p->best_f.data != NULL)
        memcpy(cpu_f32(&p->best_f) + n * width, cpu_f32(&p->f) + n * width, bytes);
}

static enum solve_reason check_row(const struct convergence_check *p, int64_t n)
{
    float r = residual_of(p, n);
    cpu_i32(&p->evals)[n] = (int32_t)(p->k + 1);
    if (p->k == 0)
        cpu_f32(&p->first)[n] = r;
    if (!isfinite(r))
        return SOLVE_NONFINITE;
    if (r < cpu_f32(&p->best)[n])
        keep_best(p, n, r);
    if (p->stop == STOP_FIXED)
        return SOLVE_ACTIVE;
    if (p->k + 1 >= p->min_iter && (double)r <= p->tol)
        return p->stop == STOP_ABS ? SOLVE_CONVERGED_ABS : SOLVE_CONVERGED_REL;
    if ((double)r > (double)cpu_f32(&p->first)[n] * p->diverge)
        return SOLVE_DIVERGED;
    if (p->k - cpu_i32(&p->best_at)[n] >= p->stall)
        return SOLVE_STALLED;
    return SOLVE_ACTIVE;
}

void cpu_convergence_check(struct backend *be, const struct convergence_check *p)
{
    int64_t rows = p->z.dim[0], width = p->z.dim[1];
    int32_t active = 0;
#pragma omp parallel for schedule(static) reduction(+ : active) num_threads(be->threads) \
    if (cpu_worth(rows * width))
    for (int64_t n = 0; n < rows; n++) {
        int32_t *reason = cpu_i32(&p->reason) + n;
        if (*reason != SOLVE_ACTIVE)
            continue;
        *reason = (int32_t)check_row(p, n);
        active += *reason == SOLVE_ACTIVE;
        bool converged = *reason == SOLVE_CONVERGED_ABS || *reason == SOLVE_CONVERGED_REL;
        if (*reason != SOLVE_ACTIVE && !converged && isfinite(cpu_f32(&p->best)[n]))
            memcpy(cpu_f32(&p->z) + n * width, cpu_f32(&p->best_z) + n * width,
                   (size_t)width * sizeof(float));
    }
    *cpu_i32(&p->active) = active;
}

/* Combines one row. The sum over slots runs inside blocks that stay in registers. */
static void combine_row(const struct row_combine *p, int64_t n)
{
    enum { BLOCK = 64 };
    int64_t rows = p->out.dim[0], width = p->out.dim[1], slots = p->hist.dim[0];
    float a = (float)p->a, b = (float)p->b, c = (float)p->c, c2 = (float)p->c2;
    for (int64_t start = 0; start < width; start += BLOCK) {
        int64_t count = width - start < BLOCK ? width - start : BLOCK, at = n * width + start;
        float sum[BLOCK] = {0};
        if (p->x.data != NULL) {
            const float *x = cpu_f32(&p->x) + at;
            for (int64_t d = 0; d < count; d++)
                sum[d] = a * x[d];
        }
        if (p->y.data != NULL) {
            const float *y = cpu_f32(&p->y) + at;
            for (int64_t d = 0; d < count; d++)
                sum[d] += b * y[d];
        }
        for (int64_t j = 0; j < p->count; j++) {
            float k = cpu_f32(&p->coef)[n * slots + j], kc = k * c, kc2 = k * c2;
            const float *h = cpu_f32(&p->hist) + j * rows * width + at;
            for (int64_t d = 0; d < count; d++)
                sum[d] += kc * h[d];
            if (p->hist2.data == NULL)
                continue;
            const float *h2 = cpu_f32(&p->hist2) + j * rows * width + at;
            for (int64_t d = 0; d < count; d++)
                sum[d] += kc2 * h2[d];
        }
        memcpy(cpu_f32(&p->out) + at, sum, (size_t)count * sizeof *sum);
        if (p->sum.data != NULL) {
            float *to = cpu_f32(&p->sum) + at;
            for (int64_t d = 0; d < count; d++)
                to[d] += sum[d];
        }
    }
}

void cpu_row_combine(struct backend *be, const struct row_combine *p)
{
    int64_t rows = p->out.dim[0], width = p->out.dim[1];
#pragma omp parallel for schedule(static) \
    num_threads(be->threads) if (cpu_worth(tensor_count(&p->out) * (p->count + 1)))
    for (int64_t n = 0; n < rows; n++) {
        if (!has_ended(&p->reason, n))
            combine_row(p, n);
        else if (p->clear)
            memset(cpu_f32(&p->out) + n * width, 0, (size_t)width * sizeof(float));
    }
}

/* Computes the mixing weights of one row by a small linear system in float64. alpha[i] belongs to
 * the i-th newest slot. Returns false if there is no finite solution. */
static bool anderson_solve(const struct anderson_weights *p, const float *gram, int64_t len,
                           double *alpha)
{
    int64_t m = p->alpha.dim[1];
    double system[HISTORY_MOST * HISTORY_MOST], trace = 0, sum = 0;
    for (int64_t i = 0; i < len; i++) {
        int64_t row = (p->slot - i + p->count) % p->count;
        for (int64_t j = 0; j < len; j++)
            system[i * len + j] = gram[row * m + (p->slot - j + p->count) % p->count];
        trace += system[i * len + i];
        alpha[i] = 1;
    }
    double ridge = p->relative ? p->ridge * trace / (double)len : p->ridge;
    for (int64_t i = 0; i < len; i++)
        system[i * len + i] += ridge;
    if (!dense_solve(system, alpha, len))
        return false;
    for (int64_t i = 0; i < len; i++)
        sum += alpha[i];
    bool finite = true;
    for (int64_t i = 0; i < len; i++) {
        alpha[i] /= sum;
        finite = finite && isfinite((float)alpha[i]);
    }
    return finite;
}

static void anderson_row(const struct anderson_weights *p, int64_t n)
{
    int64_t m = p->alpha.dim[1];
    float *gram = cpu_f32(&p->gram) + n * m * m, *out = cpu_f32(&p->alpha) + n * m;
    const float *dots = cpu_f32(&p->dots) + n * m;
    int32_t *len = cpu_i32(&p->len) + n;
    double alpha[HISTORY_MOST];
    for (int64_t j = 0; j < p->count; j++) {
        gram[p->slot * m + j] = dots[j];
        gram[j * m + p->slot] = dots[j];
    }
    if (*len < p->count)
        (*len)++;
    if (!anderson_solve(p, gram, *len, alpha)) {
        *len = 1;
        alpha[0] = 1;
        cpu_i32(&p->restarts)[n]++;
    }
    for (int64_t j = 0; j < m; j++)
        out[j] = 0;
    for (int64_t i = 0; i < *len; i++)
        out[(p->slot - i + p->count) % p->count] = (float)alpha[i];
}

void cpu_anderson_weights(struct backend *be, const struct anderson_weights *p)
{
    int64_t rows = p->alpha.dim[0];
    assert(p->alpha.dim[1] <= HISTORY_MOST);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * 128))
    for (int64_t n = 0; n < rows; n++)
        if (p->reason.data == NULL || cpu_i32(&p->reason)[n] == SOLVE_ACTIVE)
            anderson_row(p, n);
}

/* Runs the recurrence of struct broyden_weights in float64 and writes c_0 .. c_{count-1} to c.
 * Returns the scale of the sum. *good is false if the newest update is left out. */
static double broyden_recur(const struct broyden_weights *p, const float *gram, const float *g_dots,
                            double *c, bool *good)
{
    int64_t last = p->count - 1;
    double rho = 0, before = 0;
    for (int64_t j = 0; j <= last; j++) {
        const float *row = gram + j * (j + 1) / 2;
        double sum = g_dots[j];
        for (int64_t i = 0; i < j; i++)
            sum += c[i] * row[i];
        before = rho;
        rho = before + sum / row[j];
        bool finite = isfinite((float)rho);
        *good = finite || row[j] == 0;
        if (!finite)
            rho = 0;
        c[j] = before - (1 - p->lengths[j]) * rho;
    }
    double scale = 1 / (1 - rho);
    *good = *good && fabs(scale) <= BROYDEN_GAIN;
    for (int64_t j = 0; j <= last; j++)
        *good = *good && isfinite((float)(c[j] * scale));
    if (*good)
        return scale;
    c[last] = before;
    return 1;
}

static void broyden_group(const struct broyden_weights *p, int64_t group, int64_t rows)
{
    int64_t count = p->count, last = count - 1, first = group * rows;
    float *gram = cpu_f32(&p->gram) + group * p->gram.dim[1];
    float *coef = cpu_f32(&p->coef) + first * (count + 1);
    const float *dots = cpu_f32(&p->dots) + first * 2 * count;
    double c[HISTORY_MOST];
    bool good = true;
    memcpy(gram + last * count / 2, dots + count, (size_t)count * sizeof *gram);
    double scale = broyden_recur(p, gram, dots, c, &good);
    for (int64_t n = 0; n < rows; n++) {
        float *row = coef + n * (count + 1);
        for (int64_t j = 0; j < count; j++)
            row[j] = (float)(c[j] * scale);
        row[count] = (float)scale;
        cpu_i32(&p->restarts)[first + n] += !good;
    }
}

void cpu_broyden_weights(struct backend *be, const struct broyden_weights *p)
{
    int64_t groups = p->gram.dim[0], rows = groups > 0 ? p->coef.dim[0] / groups : 0;
#pragma omp parallel for schedule(static) \
    num_threads(be->threads) if (cpu_worth(groups * p->count * p->count))
    for (int64_t group = 0; group < groups; group++)
        broyden_group(p, group, rows);
}
