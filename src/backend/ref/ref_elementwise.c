/* Elementwise operations, column sums, tables and random numbers. */
#include "backend/ref/ref_ops.h"

#include <math.h>

void ref_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
               double b)
{
    (void)be;
    double *yd = ref_real(y);
    const double *xd = ref_real(x);
    for (int64_t i = 0; i < tensor_count(y); i++)
        yd[i] = a * xd[i] + (b == 0 ? 0 : b * yd[i]);
}

void ref_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                   const struct tensor *mask)
{
    (void)be;
    for (int64_t b = 0; b < x->dim[0]; b++)
        for (int64_t t = 0; t < x->dim[1]; t++)
            for (int64_t d = 0; d < x->dim[2]; d++) {
                int64_t mb = mask->dim[0] == 1 ? 0 : b;
                int64_t mt = mask->dim[1] == 1 ? 0 : t;
                int64_t md = mask->dim[2] == 1 ? 0 : d;
                int64_t at = (b * x->dim[1] + t) * x->dim[2] + d;
                int64_t mask_at = (mb * mask->dim[1] + mt) * mask->dim[2] + md;
                ref_real(out)[at] = ref_real(x)[at] * ref_real(mask)[mask_at];
            }
}

void ref_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    (void)be;
    int64_t width = x->dim[1];
    for (int64_t d = 0; d < width; d++) {
        double sum = 0;
        for (int64_t n = 0; n < x->dim[0]; n++)
            sum += ref_real(x)[n * width + d];
        ref_real(acc)[d] += sum;
    }
}

void ref_col_dot(struct backend *be, const struct tensor *acc, const struct tensor *x,
                 const struct tensor *y)
{
    (void)be;
    int64_t width = x->dim[1];
    for (int64_t d = 0; d < width; d++) {
        double sum = 0;
        for (int64_t n = 0; n < x->dim[0]; n++)
            sum += ref_real(x)[n * width + d] * ref_real(y)[n * width + d];
        ref_real(acc)[d] += sum;
    }
}

void ref_copy_block(struct backend *be, const struct copy_block *p)
{
    (void)be;
    int64_t len = p->to.dim[1], width = p->to.dim[2];
    int64_t to_row = p->to_row != 0 ? p->to_row : width;
    int64_t from_row = p->from_row != 0 ? p->from_row : width;
    int64_t to_batch = p->to_batch != 0 ? p->to_batch : len * width;
    int64_t from_batch = p->from_batch != 0 ? p->from_batch : len * width;
    for (int64_t b = 0; b < p->to.dim[0]; b++)
        for (int64_t t = 0; t < len; t++)
            for (int64_t d = 0; d < width; d++) {
                double x = ref_real(&p->from)[b * from_batch + t * from_row + d];
                if (p->mask.data != NULL)
                    x *= ref_real(&p->mask)[b * width + d];
                ref_real(&p->to)[b * to_batch + t * to_row + d] = x;
            }
}

void ref_gather_rows(struct backend *be, const struct tensor *out, const struct tensor *table,
                     const struct tensor *idx, double scale)
{
    (void)be;
    int64_t width = table->dim[1];
    for (int64_t i = 0; i < out->dim[0]; i++)
        for (int64_t e = 0; e < width; e++)
            ref_real(out)[i * width + e] = scale * ref_real(table)[ref_int(idx)[i] * width + e];
}

void ref_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                          const struct tensor *idx, double scale)
{
    (void)be;
    int64_t width = table->dim[1];
    for (int64_t i = 0; i < x->dim[0]; i++)
        for (int64_t e = 0; e < width; e++)
            ref_real(table)[ref_int(idx)[i] * width + e] += scale * ref_real(x)[i * width + e];
}

void ref_scatter_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                      const struct tensor *idx)
{
    (void)be;
    int64_t width = table->dim[1];
    for (int64_t i = 0; i < x->dim[0]; i++)
        for (int64_t e = 0; e < width; e++)
            ref_real(table)[ref_int(idx)[i] * width + e] = ref_real(x)[i * width + e];
}

void ref_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                      uint64_t first)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(mask); i++) {
        bool keep = (double)rng_unit(rng_word(key, first + (uint64_t)i)) >= p;
        if (mask->dtype == DTYPE_U8)
            ((uint8_t *)mask->data)[i] = keep;
        else
            ref_real(mask)[i] = keep ? 1 / (1 - p) : 0;
    }
}

void ref_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(t); i++)
        ref_real(t)[i] = std * rng_normal(key, (uint64_t)i);
}

void ref_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                      struct rng_key key)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(t); i++)
        ref_real(t)[i] = lo + (hi - lo) * rng_uniform(key, (uint64_t)i);
}
