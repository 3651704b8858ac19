/* Residual connection and norm of rows, and weight norm, in one pass over memory each with the rows
 * shared out among the threads. */
#include "backend/cpu/cpu_impl.h"

#include <math.h>

/* Computes s = (a + bias) * mask + res of one row. */
static void residual_row(const struct residual_norm *p, int64_t n, float *s)
{
    int64_t width = p->a.dim[1];
    const float *a = cpu_f32(&p->a) + n * width, *bias = cpu_f32(&p->bias);
    const float *mask = cpu_mask_row(&p->mask, n, width, p->rows_per_mask);
    const float *res = p->res.data == NULL ? NULL : cpu_f32(&p->res) + n * width;
    if (bias != NULL && res != NULL && mask == NULL) {
#pragma omp simd
        for (int64_t d = 0; d < width; d++)
            s[d] = a[d] + bias[d] + res[d];
        return;
    }
#pragma omp simd
    for (int64_t d = 0; d < width; d++)
        s[d] = a[d] + (bias != NULL ? bias[d] : 0);
    if (mask != NULL)
#pragma omp simd
        for (int64_t d = 0; d < width; d++)
            s[d] *= mask[d];
    if (res != NULL)
#pragma omp simd
        for (int64_t d = 0; d < width; d++)
            s[d] += res[d];
}

/* Computes the mean (0 for NORM_RMS) and 1 / sqrt(variance + eps). */
static void statistics(const struct residual_norm *p, const float *s, float *mean, float *rstd)
{
    int64_t width = p->a.dim[1];
    float sum = 0, square = 0;
    if (p->kind == NORM_LAYER) {
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < width; d++)
            sum += s[d];
    }
    float m = sum / (float)width;
#pragma omp simd reduction(+ : square)
    for (int64_t d = 0; d < width; d++)
        square += (s[d] - m) * (s[d] - m);
    *mean = m;
    *rstd = 1.0f / sqrtf(square / (float)width + (float)p->eps);
}

static void norm_row(const struct residual_norm *p, int64_t n, float *s)
{
    int64_t width = p->a.dim[1];
    float mean = 0, rstd = 1;
    residual_row(p, n, s);
    if (p->kind != NORM_NONE)
        statistics(p, s, &mean, &rstd);
    if (p->sum.data != NULL) {
        float *sum = cpu_f32(&p->sum) + n * width;
#pragma omp simd
        for (int64_t d = 0; d < width; d++)
            sum[d] = s[d];
    }
    if (p->xhat.data != NULL) {
        float *xhat = cpu_f32(&p->xhat) + n * width;
#pragma omp simd
        for (int64_t d = 0; d < width; d++)
            xhat[d] = (s[d] - mean) * rstd;
    }
    if (p->y.data != NULL) {
        float *y = cpu_f32(&p->y) + n * width;
        const float *gain = cpu_f32(&p->gain);
#pragma omp simd
        for (int64_t d = 0; d < width; d++)
            y[d] = (s[d] - mean) * rstd * (gain != NULL ? gain[d] : 1.0f);
    }
    if (p->rstd.data != NULL)
        cpu_f32(&p->rstd)[n] = rstd;
}

void cpu_residual_norm(struct backend *be, const struct residual_norm *p)
{
    int64_t rows = p->a.dim[0], width = p->a.dim[1];
#pragma omp parallel num_threads(be->threads) if (cpu_worth(rows * width))
    {
        float *s = cpu_scratch(be, (size_t)width, false, OP_residual_norm);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < rows; n++)
            if (s != NULL)
                norm_row(p, n, s);
    }
}

/* Computes ds = rstd (g - mean(g) - xhat mean(g xhat)) + dsum with g = dy * gain. */
static void norm_vjp_row(const struct residual_norm_vjp *p, int64_t n)
{
    int64_t width = p->ds.dim[1];
    const float *gain = cpu_f32(&p->gain);
    const float *dsum = p->dsum.data == NULL ? NULL : cpu_f32(&p->dsum) + n * width;
    float *ds = cpu_f32(&p->ds) + n * width;
    if (p->kind == NORM_NONE) {
        for (int64_t d = 0; d < width; d++)
            ds[d] = dsum != NULL ? dsum[d] : 0;
    } else {
        const float *dy = cpu_f32(&p->dy) + n * width, *xhat = cpu_f32(&p->xhat) + n * width;
        float mean = 0, along = 0, rstd = cpu_f32(&p->rstd)[n];
#pragma omp simd reduction(+ : mean, along)
        for (int64_t d = 0; d < width; d++) {
            float g = gain != NULL ? dy[d] * gain[d] : dy[d];
            mean += g;
            along += g * xhat[d];
        }
        mean = p->kind == NORM_LAYER ? mean / (float)width : 0;
        along /= (float)width;
#pragma omp simd
        for (int64_t d = 0; d < width; d++) {
            float g = gain != NULL ? dy[d] * gain[d] : dy[d];
            ds[d] = rstd * (g - mean - xhat[d] * along) + (dsum != NULL ? dsum[d] : 0);
        }
    }
    if (p->da.data == NULL)
        return;
    const float *mask = cpu_mask_row(&p->mask, n, width, p->rows_per_mask);
    float *da = cpu_f32(&p->da) + n * width;
#pragma omp simd
    for (int64_t d = 0; d < width; d++)
        da[d] = mask != NULL ? ds[d] * mask[d] : ds[d];
}

/* Adds sum_n dy xhat to dgain[d]. The columns are shared out, so that the order of the sum is
 * fixed. */
static void gain_gradient(struct backend *be, const struct residual_norm_vjp *p)
{
    const int64_t block = 64;
    int64_t rows = p->ds.dim[0], width = p->ds.dim[1];
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t start = 0; start < width; start += block) {
        int64_t end = start + block < width ? start + block : width;
        for (int64_t n = 0; n < rows; n++) {
            const float *dy = cpu_f32(&p->dy) + n * width, *xhat = cpu_f32(&p->xhat) + n * width;
            float *dgain = cpu_f32(&p->dgain);
#pragma omp simd
            for (int64_t d = start; d < end; d++)
                dgain[d] += dy[d] * xhat[d];
        }
    }
}

void cpu_residual_norm_vjp(struct backend *be, const struct residual_norm_vjp *p)
{
    int64_t rows = p->ds.dim[0];
    if (p->dgain.data != NULL) /* before ds, which may share memory with dy */
        gain_gradient(be, p);
#pragma omp parallel for schedule(static) \
    num_threads(be->threads) if (cpu_worth(rows * p->ds.dim[1]))
    for (int64_t n = 0; n < rows; n++)
        norm_vjp_row(p, n);
}

/* The sums of a row that the second derivative needs, each divided by the width. */
struct tangent_sums {
    float s_mean, s_along, mean, along, mean_t, along_t;
};

static struct tangent_sums tangent_sums_of(const struct norm_vjp_tangent *t, int64_t n)
{
    const struct residual_norm_vjp *p = &t->vjp;
    int64_t width = p->ds.dim[1];
    const float *gain = cpu_f32(&p->gain), *xhat = cpu_f32(&p->xhat) + n * width;
    const float *s_t = cpu_f32(&t->s_t) + n * width, *dy = cpu_f32(&p->dy) + n * width;
    const float *dy_t = t->dy_t.data == NULL ? NULL : cpu_f32(&t->dy_t) + n * width;
    float w = (float)width, layer = p->kind == NORM_LAYER ? 1.0f : 0.0f;
    float rstd = cpu_f32(&p->rstd)[n], a = 0, b = 0, c = 0, d = 0, e = 0, f = 0;
#pragma omp simd reduction(+ : a, b)
    for (int64_t k = 0; k < width; k++) {
        a += s_t[k];
        b += xhat[k] * s_t[k];
    }
    float s_mean = layer * a / w, s_along = b / w;
#pragma omp simd reduction(+ : c, d, e, f)
    for (int64_t k = 0; k < width; k++) {
        float by = gain != NULL ? gain[k] : 1.0f, g = dy[k] * by;
        float g_t = dy_t != NULL ? dy_t[k] * by : 0.0f;
        c += g;
        d += g * xhat[k];
        e += g_t;
        f += g_t * xhat[k] + g * rstd * (s_t[k] - s_mean - xhat[k] * s_along);
    }
    return (struct tangent_sums){s_mean, s_along, layer * c / w, d / w, layer * e / w, f / w};
}

static void norm_tangent_row(const struct norm_vjp_tangent *t, int64_t n)
{
    const struct residual_norm_vjp *p = &t->vjp;
    int64_t width = p->ds.dim[1];
    struct tangent_sums m = tangent_sums_of(t, n);
    const float *gain = cpu_f32(&p->gain), *xhat = cpu_f32(&p->xhat) + n * width;
    const float *s_t = cpu_f32(&t->s_t) + n * width, *dy = cpu_f32(&p->dy) + n * width;
    const float *dy_t = t->dy_t.data == NULL ? NULL : cpu_f32(&t->dy_t) + n * width;
    const float *dsum = p->dsum.data == NULL ? NULL : cpu_f32(&p->dsum) + n * width;
    const float *dsum_t = t->dsum_t.data == NULL ? NULL : cpu_f32(&t->dsum_t) + n * width;
    float *to = cpu_f32(&p->ds) + n * width, *to_t = cpu_f32(&t->ds_t) + n * width;
    float rstd = cpu_f32(&p->rstd)[n];
#pragma omp simd
    for (int64_t k = 0; k < width; k++) {
        float by = gain != NULL ? gain[k] : 1.0f, g = dy[k] * by;
        float g_t = dy_t != NULL ? dy_t[k] * by : 0.0f;
        float xhat_t = rstd * (s_t[k] - m.s_mean - xhat[k] * m.s_along);
        float ds = rstd * (g - m.mean - xhat[k] * m.along);
        float ds_t = rstd * (g_t - m.mean_t - xhat_t * m.along - xhat[k] * m.along_t) -
                     rstd * m.s_along * ds;
        to[k] = ds + (dsum != NULL ? dsum[k] : 0);
        to_t[k] = ds_t + (dsum_t != NULL ? dsum_t[k] : 0);
    }
}

/* Adds sum_n (dy_t xhat + dy xhat_t) to dgain[d], rows in order. */
static void gain_tangent(const struct norm_vjp_tangent *t)
{
    const struct residual_norm_vjp *p = &t->vjp;
    int64_t rows = p->ds.dim[0], width = p->ds.dim[1];
    for (int64_t n = 0; n < rows; n++) {
        struct tangent_sums m = tangent_sums_of(t, n);
        const float *xhat = cpu_f32(&p->xhat) + n * width, *s_t = cpu_f32(&t->s_t) + n * width;
        const float *dy = cpu_f32(&p->dy) + n * width;
        const float *dy_t = t->dy_t.data == NULL ? NULL : cpu_f32(&t->dy_t) + n * width;
        float *dgain = cpu_f32(&p->dgain), rstd = cpu_f32(&p->rstd)[n];
#pragma omp simd
        for (int64_t k = 0; k < width; k++)
            dgain[k] += (dy_t != NULL ? dy_t[k] * xhat[k] : 0) +
                        dy[k] * rstd * (s_t[k] - m.s_mean - xhat[k] * m.s_along);
    }
}

static void copy_masked(const struct tensor *to, const struct tensor *from,
                        const struct residual_norm_vjp *p, int64_t n)
{
    int64_t width = from->dim[1];
    const float *x = cpu_f32(from) + n * width;
    const float *mask = cpu_mask_row(&p->mask, n, width, p->rows_per_mask);
    float *y = cpu_f32(to) + n * width;
    for (int64_t d = 0; d < width; d++)
        y[d] = mask != NULL ? x[d] * mask[d] : x[d];
}

void cpu_norm_vjp_tangent(struct backend *be, const struct norm_vjp_tangent *t)
{
    const struct residual_norm_vjp *p = &t->vjp;
    int64_t rows = p->ds.dim[0], width = p->ds.dim[1];
    if (p->dgain.data != NULL) /* before ds, which may share memory with dy */
        gain_tangent(t);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t n = 0; n < rows; n++) {
        if (p->kind != NORM_NONE)
            norm_tangent_row(t, n);
        for (int64_t d = n * width; p->kind == NORM_NONE && d < (n + 1) * width; d++) {
            cpu_f32(&p->ds)[d] = cpu_f32(&p->dsum)[d];
            cpu_f32(&t->ds_t)[d] = t->dsum_t.data != NULL ? cpu_f32(&t->dsum_t)[d] : 0;
        }
        if (p->da.data == NULL)
            continue;
        copy_masked(&p->da, &p->ds, p, n);
        copy_masked(&t->da_t, &t->ds_t, p, n);
    }
}

void cpu_weight_norm(struct backend *be, const struct tensor *w, const struct tensor *inv,
                     const struct tensor *v, const struct tensor *g)
{
    int64_t rows = v->dim[0], width = v->dim[1];
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t r = 0; r < rows; r++) {
        const float *from = cpu_f32(v) + r * width;
        float *to = cpu_f32(w) + r * width, sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int64_t c = 0; c < width; c++)
            sum += from[c] * from[c];
        float inverse = 1.0f / sqrtf(sum), factor = cpu_f32(g)[r] * inverse;
        cpu_f32(inv)[r] = inverse;
#pragma omp simd
        for (int64_t c = 0; c < width; c++)
            to[c] = factor * from[c];
    }
}

void cpu_weight_norm_vjp(struct backend *be, const struct weight_norm_vjp *p)
{
    int64_t rows = p->v.dim[0], width = p->v.dim[1];
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(rows * width))
    for (int64_t r = 0; r < rows; r++) {
        const float *row = cpu_f32(&p->v) + r * width, *grad = cpu_f32(&p->dw) + r * width;
        float *to = cpu_f32(&p->dv) + r * width, inverse = cpu_f32(&p->inv)[r], dot = 0;
#pragma omp simd reduction(+ : dot)
        for (int64_t c = 0; c < width; c++)
            dot += grad[c] * row[c];
        cpu_f32(&p->dg)[r] += dot * inverse;
        float factor = cpu_f32(&p->g)[r] * inverse, along = dot * inverse * inverse;
        float keep = to == grad ? 0 : 1;
#pragma omp simd
        for (int64_t c = 0; c < width; c++)
            to[c] = keep * to[c] + factor * (grad[c] - along * row[c]);
    }
}
