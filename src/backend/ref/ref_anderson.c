/* Mixing weights of Anderson's method: one small linear system for every row. */
#include "backend/ref/ref_ops.h"
#include "base/dense.h"
#include "base/mem.h"

/* The weights of one row from its Gram matrix: alpha[0] belongs to the newest slot. False if there
 * is no finite solution. `work` holds len * len numbers. */
static bool weights_of(const struct anderson_weights *p, const double *gram, int64_t len,
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

static void row_weights(const struct anderson_weights *p, int64_t n, double *work, double *alpha)
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
    if (!weights_of(p, gram, *len, work, alpha)) {
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
            row_weights(p, n, work, alpha);
    mem_free(work);
}
