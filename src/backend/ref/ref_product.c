/* Products, and the wide layer of feed-forward networks. Low-precision tensors are real here, and
 * factors are rounded as in every product. */
#include "backend/ref/ref_ops.h"

#include <math.h>

/* Returns a factor as products see it, rounded to the nearest. In TF32 a tie goes away from zero,
 * as in the conversion of the devices that have it (cvt.rna.tf32 in PTX). In BF16 it goes to the
 * even neighbour. */
static double rounded(const struct backend *be, double x)
{
    static const int bits[] = {[PRECISION_TF32] = 11, [PRECISION_BF16] = 8};
    int exponent;
    if (be->precision == PRECISION_FP32 || !isfinite(x) || x == 0)
        return x;
    double part = ldexp(frexp(x, &exponent), bits[be->precision]);
    part = be->precision == PRECISION_TF32 ? round(part) : rint(part);
    return ldexp(part, exponent - bits[be->precision]);
}

void ref_gemm(struct backend *be, const struct gemm *p)
{
    int64_t m = p->c.dim[0], n = p->c.dim[1];
    int64_t inner = p->trans_a ? p->a.dim[0] : p->a.dim[1];
    int64_t a_stride = p->a_stride != 0 ? p->a_stride : p->a.dim[1];
    int64_t b_stride = p->b_stride != 0 ? p->b_stride : p->b.dim[1];
    int64_t c_stride = p->c_stride != 0 ? p->c_stride : n;
    for (int64_t i = 0; i < m; i++) {
        double *c = ref_real(&p->c) + i * c_stride;
        const double *add = p->add.data != NULL ? ref_real(&p->add) + i * n : c;
        for (int64_t j = 0; j < n; j++)
            c[j] = p->beta == 0 ? 0 : p->beta * add[j];
        for (int64_t k = 0; k < inner; k++) {
            /* op(b)[k,j] lies b_step apart in j. Rows are read along and columns across. */
            int64_t a_at = p->trans_a ? k * a_stride + i : i * a_stride + k;
            double a = p->alpha * rounded(be, ref_real(&p->a)[a_at]);
            const double *b = ref_real(&p->b) + (p->trans_b ? k : k * b_stride);
            int64_t b_step = p->trans_b ? b_stride : 1;
            for (int64_t j = 0; j < n; j++)
                c[j] += a * rounded(be, b[j * b_step]);
        }
    }
}

/* Sets bit i of row n. */
static void relu_mask_set(const struct tensor *relu_mask, int64_t n, int64_t i, bool open)
{
    uint8_t *byte = (uint8_t *)relu_mask->data + n * relu_mask->dim[1] + i / 8,
            bit = (uint8_t)(1 << i % 8);
    *byte = (uint8_t)(open ? *byte | bit : *byte & ~bit);
}

static bool relu_mask_at(const struct tensor *relu_mask, int64_t n, int64_t i)
{
    return ((const uint8_t *)relu_mask->data)[n * relu_mask->dim[1] + i / 8] >> i % 8 & 1;
}

void ref_ffn_up(struct backend *be, const struct ffn_up *p)
{
    int64_t width = p->h.dim[1];
    struct gemm product = {
        .trans_b = true, .alpha = 1, .a = p->x, .b = p->w, .c = p->h, .b_stride = p->w_stride};
    ref_gemm(be, &product);
    for (int64_t n = 0; n < p->h.dim[0]; n++) {
        const double *m = ref_mask_row(&p->mask, n, width, p->rows_per_mask);
        for (int64_t i = 0; i < width; i++) {
            double *h = ref_real(&p->h) + n * width + i;
            double sum = *h + ref_real(&p->bias)[i];
            double relu = sum <= 0 ? 0 : sum; /* a NaN is not <= 0 and passes on */
            *h = m != NULL ? relu * m[i] : relu;
            if (p->relu_mask.data != NULL)
                relu_mask_set(&p->relu_mask, n, i, *h > 0);
        }
    }
}

void ref_ffn_up_vjp(struct backend *be, const struct ffn_up_vjp *p)
{
    int64_t width = p->dh.dim[1];
    struct gemm product = {.trans_b = p->forward,
                           .alpha = 1,
                           .a = p->dy,
                           .b = p->w,
                           .c = p->dh,
                           .b_stride = p->w_stride};
    ref_gemm(be, &product);
    for (int64_t n = 0; n < p->dh.dim[0]; n++) {
        const double *m = ref_mask_row(&p->mask, n, width, p->rows_per_mask);
        for (int64_t i = 0; i < width; i++) {
            int64_t at = n * width + i;
            double grad = ref_real(&p->dh)[at] * (m != NULL ? m[i] : 1);
            bool open = p->relu_mask.data != NULL ? relu_mask_at(&p->relu_mask, n, i)
                                                  : ref_real(&p->h)[at] > 0;
            ref_real(&p->dh)[at] = open ? grad : 0;
        }
    }
}
