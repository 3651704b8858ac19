/* Mixing weights of Anderson's method: one small linear system for every row. */
#include "base/mem.h"
#include "ref/ref_ops.h"

#include <math.h>

/* Solves A x = b in place of b by elimination with row exchanges; a is [n,n]. False if a pivot is
 * zero or not a number. */
static bool solve_dense(double *a, double *b, int64_t n)
{
    for (int64_t c = 0; c < n; c++) {
        int64_t pivot = c;
        for (int64_t r = c + 1; r < n; r++)
            if (fabs(a[r * n + c]) > fabs(a[pivot * n + c]))
                pivot = r;
        if (!(fabs(a[pivot * n + c]) > 0))
            return false;
        for (int64_t k = 0; k < n; k++) {
            double swap = a[c * n + k];
            a[c * n + k] = a[pivot * n + k];
            a[pivot * n + k] = swap;
        }
        double swap = b[c];
        b[c] = b[pivot];
        b[pivot] = swap;
        for (int64_t r = c + 1; r < n; r++) {
            double factor = a[r * n + c] / a[c * n + c];
            for (int64_t k = c; k < n; k++)
                a[r * n + k] -= factor * a[c * n + k];
            b[r] -= factor * b[c];
        }
    }
    for (int64_t r = n - 1; r >= 0; r--) {
        for (int64_t k = r + 1; k < n; k++)
            b[r] -= a[r * n + k] * b[k];
        b[r] /= a[r * n + r];
    }
    return true;
}

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
    if (!solve_dense(work, alpha, len))
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
