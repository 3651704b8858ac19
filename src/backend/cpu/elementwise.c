/* Elementwise operations, column sums, tables and random numbers. */
#include "backend/cpu/cpu_impl.h"

#include <math.h>
#include <string.h>

void cpu_axpby(struct backend *be, const struct tensor *y, double a, const struct tensor *x,
               double b)
{
    int64_t count = tensor_count(y);
    float *yd = cpu_f32(y), af = (float)a, bf = (float)b;
    const float *xd = cpu_f32(x);
    if (b == 0) {
#pragma omp parallel for simd schedule(static) num_threads(be->threads) if (cpu_worth(count))
        for (int64_t i = 0; i < count; i++)
            yd[i] = af * xd[i];
    } else {
#pragma omp parallel for simd schedule(static) num_threads(be->threads) if (cpu_worth(count))
        for (int64_t i = 0; i < count; i++)
            yd[i] = af * xd[i] + bf * yd[i];
    }
}

void cpu_mul_bcast(struct backend *be, const struct tensor *out, const struct tensor *x,
                   const struct tensor *mask)
{
    int64_t batch = x->dim[0], len = x->dim[1], width = x->dim[2];
#pragma omp parallel for schedule(static) \
    num_threads(be->threads) if (cpu_worth(batch * len * width))
    for (int64_t n = 0; n < batch * len; n++) {
        int64_t b = mask->dim[0] == 1 ? 0 : n / len, t = mask->dim[1] == 1 ? 0 : n % len;
        const float *m = cpu_f32(mask) + (b * mask->dim[1] + t) * mask->dim[2];
        const float *from = cpu_f32(x) + n * width;
        float *to = cpu_f32(out) + n * width;
        if (mask->dim[2] == width) {
#pragma omp simd
            for (int64_t d = 0; d < width; d++)
                to[d] = from[d] * m[d];
        } else {
#pragma omp simd
            for (int64_t d = 0; d < width; d++)
                to[d] = from[d] * m[0];
        }
    }
}

/* acc[d] += sum_n x[n,d] y[n,d], where y may be NULL and then stands for ones. */
static void add_columns(struct backend *be, const struct tensor *acc, const struct tensor *x,
                        const float *y)
{
    enum { BLOCK = 64 };
    int64_t rows = x->dim[0], width = x->dim[1];
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t start = 0; start < width; start += BLOCK) {
        int64_t n_cols = width - start < BLOCK ? width - start : BLOCK;
        float sum[BLOCK] = {0}, *to = cpu_f32(acc) + start;
        for (int64_t n = 0; n < rows; n++) {
            const float *row = cpu_f32(x) + n * width + start;
            const float *by = y == NULL ? NULL : y + n * width + start;
            if (by == NULL) {
#pragma omp simd
                for (int64_t d = 0; d < n_cols; d++)
                    sum[d] += row[d];
            } else {
#pragma omp simd
                for (int64_t d = 0; d < n_cols; d++)
                    sum[d] += row[d] * by[d];
            }
        }
        for (int64_t d = 0; d < n_cols; d++)
            to[d] += sum[d];
    }
}

void cpu_col_sum(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    add_columns(be, acc, x, NULL);
}

void cpu_col_dot(struct backend *be, const struct tensor *acc, const struct tensor *x,
                 const struct tensor *y)
{
    add_columns(be, acc, x, cpu_f32(y));
}

void cpu_copy_block(struct backend *be, const struct copy_block *p)
{
    int64_t batch = p->to.dim[0], len = p->to.dim[1], width = p->to.dim[2];
    int64_t to_row = p->to_row != 0 ? p->to_row : width;
    int64_t from_row = p->from_row != 0 ? p->from_row : width;
    int64_t to_batch = p->to_batch != 0 ? p->to_batch : len * width;
    int64_t from_batch = p->from_batch != 0 ? p->from_batch : len * width;
#pragma omp parallel for schedule(static) \
    num_threads(be->threads) if (cpu_worth(batch * len * width / 4))
    for (int64_t n = 0; n < batch * len; n++) {
        int64_t b = n / len, t = n % len;
        const float *from = cpu_f32(&p->from) + b * from_batch + t * from_row;
        const float *mask = cpu_mask_row(&p->mask, b, width, 1);
        float *to = cpu_f32(&p->to) + b * to_batch + t * to_row;
        if (mask == NULL) {
            memcpy(to, from, (size_t)width * sizeof *to);
            continue;
        }
#pragma omp simd
        for (int64_t d = 0; d < width; d++)
            to[d] = from[d] * mask[d];
    }
}

void cpu_gather_rows(struct backend *be, const struct tensor *out, const struct tensor *table,
                     const struct tensor *idx, double scale)
{
    int64_t rows = out->dim[0], width = table->dim[1];
    float s = (float)scale;
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t i = 0; i < rows; i++) {
        const float *from = cpu_f32(table) + cpu_i32(idx)[i] * width;
        float *to = cpu_f32(out) + i * width;
#pragma omp simd
        for (int64_t e = 0; e < width; e++)
            to[e] = s * from[e];
    }
}

void cpu_scatter_add_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                          const struct tensor *idx, double scale)
{
    int64_t rows = x->dim[0], width = table->dim[1];
    float s = (float)scale;
    /* Rows of the table may repeat. Each thread owns columns, and goes through all rows in
     * order. */
#pragma omp parallel num_threads(be->threads) if (cpu_worth(rows * width))
    {
        int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
        int64_t first = width * me / threads, last = width * (me + 1) / threads;
        for (int64_t i = 0; i < rows; i++) {
            float *to = cpu_f32(table) + cpu_i32(idx)[i] * width;
            const float *from = cpu_f32(x) + i * width;
#pragma omp simd
            for (int64_t e = first; e < last; e++)
                to[e] += s * from[e];
        }
    }
}

void cpu_scatter_rows(struct backend *be, const struct tensor *table, const struct tensor *x,
                      const struct tensor *idx)
{
    int64_t rows = x->dim[0], width = table->dim[1];
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t i = 0; i < rows; i++)
        memcpy(cpu_f32(table) + cpu_i32(idx)[i] * width, cpu_f32(x) + i * width,
               (size_t)width * sizeof(float));
}

void cpu_dropout_mask(struct backend *be, const struct tensor *mask, double p, struct rng_key key,
                      uint64_t first)
{
    /* Random numbers come in blocks of four words, of which the outermost may be needed in part
     * only. */
    int64_t count = tensor_count(mask), before = (int64_t)(first % 4);
    int64_t blocks = (before + count + 3) / 4;
    float scale = (float)(1 / (1 - p));
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(count * 8))
    for (int64_t block = 0; block < blocks; block++) {
        uint32_t words[4];
        int64_t start = 4 * block - before;
        rng_block(key, first / 4 + (uint64_t)block, words);
        for (int64_t j = start < 0 ? -start : 0; j < 4 && start + j < count; j++) {
            bool keep = (double)rng_unit(words[j]) >= p;
            if (mask->dtype == DTYPE_U8)
                ((uint8_t *)mask->data)[start + j] = keep;
            else
                cpu_f32(mask)[start + j] = keep ? scale : 0;
        }
    }
}

void cpu_fill_normal(struct backend *be, const struct tensor *t, double std, struct rng_key key)
{
    int64_t count = tensor_count(t);
#pragma omp parallel for schedule(static) num_threads(be->threads)
    for (int64_t i = 0; i < count; i++)
        cpu_f32(t)[i] = (float)(std * rng_normal(key, (uint64_t)i));
}

void cpu_fill_uniform(struct backend *be, const struct tensor *t, double lo, double hi,
                      struct rng_key key)
{
    int64_t count = tensor_count(t);
#pragma omp parallel for schedule(static) num_threads(be->threads)
    for (int64_t i = 0; i < count; i++)
        cpu_f32(t)[i] = (float)(lo + (hi - lo) * rng_uniform(key, (uint64_t)i));
}
