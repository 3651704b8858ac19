/* Coefficients of Broyden's method: a recurrence over the steps kept, for every row. */
#include "backend/ref/ref_ops.h"

#include <math.h>

/* The recurrence of struct broyden_weights. False if the newest update is left out. */
static bool row_weights(const struct broyden_weights *p, const double *gram, const double *g_dots,
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
        if (!row_weights(p, gram, dots, coef))
            ref_int(&p->restarts)[n]++;
    }
}
