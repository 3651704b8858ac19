/* Mixing weights of Anderson's method: one small linear system for every row, in float64. */
#include "backend/cpu/cpu_impl.h"
#include "base/dense.h"

/* Weights of one row; alpha[i] belongs to the i-th newest slot. */
static bool weights_of(const struct anderson_weights *p, const float *gram, int64_t len,
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

static void row_weights(const struct anderson_weights *p, int64_t n)
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
    if (!weights_of(p, gram, *len, alpha)) {
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
            row_weights(p, n);
}
