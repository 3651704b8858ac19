/* The hidden layer of feed-forward networks. Narrow is real here; factors are rounded as in every
 * product. */
#include "ref/ref_ops.h"

void ref_hidden(struct backend *be, const struct hidden *p)
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
        }
    }
}

void ref_hidden_vjp(struct backend *be, const struct hidden_vjp *p)
{
    int64_t width = p->h.dim[1];
    struct gemm product = {.trans_b = p->forward,
                           .alpha = 1,
                           .a = p->dy,
                           .b = p->w,
                           .c = p->dh,
                           .b_stride = p->w_stride};
    ref_gemm(be, &product);
    for (int64_t n = 0; n < p->h.dim[0]; n++) {
        const double *m = ref_mask_row(&p->mask, n, width, p->rows_per_mask);
        for (int64_t i = 0; i < width; i++) {
            int64_t at = n * width + i;
            double grad = ref_real(&p->dh)[at] * (m != NULL ? m[i] : 1);
            ref_real(&p->dh)[at] = ref_real(&p->h)[at] > 0 ? grad : 0;
        }
    }
}
