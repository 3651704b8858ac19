/* Softmax and cross entropy. */
#include "backend/ref/ref_ops.h"

#include <math.h>

/* Adds the bias to a row of logits and returns the log of the sum of their exponentials. */
static double biased_lse(double *row, const double *bias, int64_t count)
{
    double max = -INFINITY, sum = 0;
    for (int64_t c = 0; c < count; c++) {
        if (bias != NULL)
            row[c] += bias[c];
        max = row[c] > max ? row[c] : max;
    }
    for (int64_t c = 0; c < count; c++)
        sum += exp(row[c] - max);
    return max + log(sum);
}

void ref_softmax_xent(struct backend *be, const struct softmax_xent *p)
{
    (void)be;
    int64_t classes = p->logits.dim[1];
    for (int64_t i = 0; i < p->logits.dim[0]; i++) {
        double *row = ref_real(&p->logits) + i * classes;
        int64_t target = ref_int(&p->target)[i];
        int64_t at = p->pos.data != NULL ? ref_int(&p->pos)[i] : i;
        double lse = biased_lse(row, ref_real(&p->bias), classes);
        ref_real(&p->nll)[at] += lse - row[target];
        for (int64_t c = 0; p->gradient && c < classes; c++)
            row[c] = (exp(row[c] - lse) - (c == target ? 1 : 0)) * p->scale;
    }
}

void ref_log_softmax(struct backend *be, const struct tensor *logits, const struct tensor *bias)
{
    (void)be;
    int64_t classes = logits->dim[1];
    for (int64_t i = 0; i < logits->dim[0]; i++) {
        double *row = ref_real(logits) + i * classes;
        double lse = biased_lse(row, ref_real(bias), classes);
        for (int64_t c = 0; c < classes; c++)
            row[c] -= lse;
    }
}
