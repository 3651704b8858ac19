/* The wide layer of a feed-forward network, which is a product and then a pass for bias, rectifier
 * and mask. */
#include "backend/cpu/cpu_impl.h"

#include <string.h>

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

/* Packs the signs of h. Bit k of byte j belongs to number k * bytes + j, so that neighbouring
 * numbers take the same shift. */
static void pack_relu_mask(uint8_t *relu_mask, const float *h, int64_t width)
{
    int64_t bytes = (width + 7) / 8;
    memset(relu_mask, 0, (size_t)bytes);
    for (int64_t k = 0; k * bytes < width; k++) {
        int64_t left = width - k * bytes, count = left < bytes ? left : bytes;
        uint8_t bit = (uint8_t)(1 << k);
        const float *from = h + k * bytes;
#pragma omp simd
        for (int64_t j = 0; j < count; j++)
            relu_mask[j] |= from[j] > 0 ? bit : 0;
    }
}

void cpu_ffn_up(struct backend *be, const struct ffn_up *p)
{
    int64_t rows = p->h.dim[0], width = p->h.dim[1], bytes = op_relu_mask_width(be, width);
    struct gemm product = {
        .trans_b = true, .alpha = 1, .a = p->x, .b = p->w, .c = p->h, .b_stride = p->w_stride};
    cpu_gemm(be, &product);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t n = 0; n < rows; n++) {
        float *h = cpu_f32(&p->h) + n * width;
        rectify_row(h, cpu_f32(&p->bias), cpu_mask_row(&p->mask, n, width, p->rows_per_mask),
                    width);
        if (p->relu_mask.data != NULL)
            pack_relu_mask((uint8_t *)p->relu_mask.data + n * bytes, h, width);
    }
}

static void mask_row(float *dh, const float *h, const float *mask, int64_t width)
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

/* Does the same with the bits of relu_mask. */
static void mask_row_by_bits(float *dh, const uint8_t *relu_mask, const float *mask, int64_t width)
{
    int64_t bytes = (width + 7) / 8;
    for (int64_t k = 0; k * bytes < width; k++) {
        int64_t left = width - k * bytes, count = left < bytes ? left : bytes;
        float *to = dh + k * bytes;
        const float *by = mask == NULL ? NULL : mask + k * bytes;
        if (by == NULL) {
#pragma omp simd
            for (int64_t j = 0; j < count; j++)
                to[j] = (relu_mask[j] >> k & 1) != 0 ? to[j] : 0;
        } else {
#pragma omp simd
            for (int64_t j = 0; j < count; j++)
                to[j] = (relu_mask[j] >> k & 1) != 0 ? to[j] * by[j] : 0;
        }
    }
}

void cpu_ffn_up_vjp(struct backend *be, const struct ffn_up_vjp *p)
{
    int64_t rows = p->dh.dim[0], width = p->dh.dim[1], bytes = op_relu_mask_width(be, width);
    struct gemm product = {.trans_b = p->forward,
                           .alpha = 1,
                           .a = p->dy,
                           .b = p->w,
                           .c = p->dh,
                           .b_stride = p->w_stride};
    cpu_gemm(be, &product);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t n = 0; n < rows; n++) {
        float *dh = cpu_f32(&p->dh) + n * width;
        const float *mask = cpu_mask_row(&p->mask, n, width, p->rows_per_mask);
        if (p->relu_mask.data != NULL)
            mask_row_by_bits(dh, (const uint8_t *)p->relu_mask.data + n * bytes, mask, width);
        else
            mask_row(dh, cpu_f32(&p->h) + n * width, mask, width);
    }
}
