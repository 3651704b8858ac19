/* The hidden layer of feed-forward networks: a product, and bias, rectifier and mask over what it
 * left. */
#include "cpu/cpu_impl.h"

static void rectify_row(float *x, const float *bias, const float *mask, int64_t width)
{
    if (mask == NULL) {
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            x[i] = x[i] + bias[i] <= 0 ? 0 : x[i] + bias[i]; /* a NaN is not <= 0 and passes on */
    } else {
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            x[i] = (x[i] + bias[i] <= 0 ? 0 : x[i] + bias[i]) * mask[i];
    }
}

void cpu_hidden(struct backend *be, const struct hidden *p)
{
    int64_t rows = p->h.dim[0], width = p->h.dim[1];
    struct gemm product = {
        .trans_b = true, .alpha = 1, .a = p->x, .b = p->w, .c = p->h, .b_stride = p->w_stride};
    cpu_gemm(be, &product);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t n = 0; n < rows; n++)
        rectify_row(cpu_f32(&p->h) + n * width, cpu_f32(&p->bias),
                    cpu_mask_row(&p->mask, n, width, p->rows_per_mask), width);
}

static void gate_row(float *dh, const float *h, const float *mask, int64_t width)
{
    if (mask == NULL) {
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            dh[i] = h[i] > 0 ? dh[i] : 0;
    } else {
#pragma omp simd
        for (int64_t i = 0; i < width; i++)
            dh[i] = h[i] > 0 ? dh[i] * mask[i] : 0;
    }
}

void cpu_hidden_vjp(struct backend *be, const struct hidden_vjp *p)
{
    int64_t rows = p->h.dim[0], width = p->h.dim[1];
    struct gemm product = {.trans_b = p->forward,
                           .alpha = 1,
                           .a = p->dy,
                           .b = p->w,
                           .c = p->dh,
                           .b_stride = p->w_stride};
    cpu_gemm(be, &product);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t n = 0; n < rows; n++)
        gate_row(cpu_f32(&p->dh) + n * width, cpu_f32(&p->h) + n * width,
                 cpu_mask_row(&p->mask, n, width, p->rows_per_mask), width);
}
