/* The hidden layer of feed-forward networks. Narrow is real here; factors are rounded as in every
 * product. */
#include "backend/ref/ref_ops.h"

/* Bit i of row n. */
static void gate_set(const struct tensor *relu_mask, int64_t n, int64_t i, bool open)
{
    uint8_t *byte = (uint8_t *)relu_mask->data + n * relu_mask->dim[1] + i / 8,
            bit = (uint8_t)(1 << i % 8);
    *byte = (uint8_t)(open ? *byte | bit : *byte & ~bit);
}

static bool gate_at(const struct tensor *relu_mask, int64_t n, int64_t i)
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
                gate_set(&p->relu_mask, n, i, *h > 0);
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
            bool open =
                p->relu_mask.data != NULL ? gate_at(&p->relu_mask, n, i) : ref_real(&p->h)[at] > 0;
            ref_real(&p->dh)[at] = open ? grad : 0;
        }
    }
}
