/* Softmax and cross entropy, in three passes over a row of logits that lies in the caches. */
#include "backend/cpu/cpu_impl.h"
#include "backend/cpu/vecmath.h"

#include <math.h>

/* Adds the bias and returns the log of the sum of exponentials. A NaN makes it NaN. */
static float biased_lse(float *row, const float *bias, int64_t count)
{
    vec max = vec_set(-INFINITY), sum = vec_set(0);
    int64_t whole = count / VEC * VEC;
    for (int64_t c = 0; c < whole; c += VEC) {
        vec x = vec_load(row + c);
        if (bias != NULL)
            x += vec_load(bias + c);
        vec_store(row + c, x);
        max = vec_max(max, x);
    }
    float top = vec_max_of(max);
    for (int64_t c = whole; c < count; c++) {
        row[c] += bias != NULL ? bias[c] : 0;
        top = row[c] > top ? row[c] : top;
    }
    for (int64_t c = 0; c < whole; c += VEC)
        sum += vec_exp(vec_load(row + c) - top);
    float total = vec_sum(sum);
    for (int64_t c = whole; c < count; c++)
        total += expf(row[c] - top);
    return top + logf(total);
}

/* Sets row = softmax(row) * scale. */
static void softmax_row(float *row, int64_t count, float lse, float scale)
{
    int64_t whole = count / VEC * VEC;
    for (int64_t c = 0; c < whole; c += VEC)
        vec_store(row + c, vec_exp(vec_load(row + c) - lse) * scale);
    for (int64_t c = whole; c < count; c++)
        row[c] = expf(row[c] - lse) * scale;
}

void cpu_softmax_xent(struct backend *be, const struct softmax_xent *p)
{
    int64_t rows = p->logits.dim[0], classes = p->logits.dim[1];
    float scale = (float)p->scale;
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * classes))
    for (int64_t i = 0; i < rows; i++) {
        float *row = cpu_f32(&p->logits) + i * classes;
        int64_t target = cpu_i32(&p->target)[i];
        int64_t at = p->pos.data != NULL ? cpu_i32(&p->pos)[i] : i;
        float lse = biased_lse(row, cpu_f32(&p->bias), classes);
        cpu_f32(&p->nll)[at] += lse - row[target];
        if (p->gradient) {
            softmax_row(row, classes, lse, scale);
            row[target] -= scale;
        }
    }
}

void cpu_log_softmax(struct backend *be, const struct tensor *logits, const struct tensor *bias)
{
    int64_t rows = logits->dim[0], classes = logits->dim[1];
    const float *b = bias == NULL ? NULL : cpu_f32(bias);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * classes))
    for (int64_t i = 0; i < rows; i++) {
        float *row = cpu_f32(logits) + i * classes;
        float lse = biased_lse(row, b, classes);
#pragma omp simd
        for (int64_t c = 0; c < classes; c++)
            row[c] -= lse;
    }
}
