/* Coefficients of Broyden's method: a recurrence over the steps kept, for every group of rows, in
 * float64. */
#include "backend/cpu/cpu_impl.h"

#include <math.h>
#include <string.h>

/* The recurrence of struct broyden_weights: c_0 .. c_{count-1} into c. Returns the scale of the
 * sum; *good is false if the newest update is left out. */
static double recur(const struct broyden_weights *p, const float *gram, const float *g_dots,
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

static void group_weights(const struct broyden_weights *p, int64_t group, int64_t rows)
{
    int64_t count = p->count, last = count - 1, first = group * rows;
    float *gram = cpu_f32(&p->gram) + group * p->gram.dim[1];
    float *coef = cpu_f32(&p->coef) + first * (count + 1);
    const float *dots = cpu_f32(&p->dots) + first * 2 * count;
    double c[HISTORY_MOST];
    bool good = true;
    memcpy(gram + last * count / 2, dots + count, (size_t)count * sizeof *gram);
    double scale = recur(p, gram, dots, c, &good);
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
        group_weights(p, group, rows);
}
