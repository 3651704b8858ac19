/* Residual connection and norm of rows, and weight norm. */
#include "backend/ref/ref_ops.h"

#include <math.h>

/* Returns s[d] of one row. It is computed anew wherever it is needed, so that the outputs of the
 * row may share memory with its inputs. */
static double residual_at(const struct residual_norm *p, int64_t n, int64_t d)
{
    int64_t width = p->a.dim[1];
    double s = ref_real(&p->a)[n * width + d];
    if (p->bias.data != NULL)
        s += ref_real(&p->bias)[d];
    if (p->mask.data != NULL)
        s *= ref_mask_row(&p->mask, n, width, p->rows_per_mask)[d];
    if (p->res.data != NULL)
        s += ref_real(&p->res)[n * width + d];
    return s;
}

void ref_residual_norm(struct backend *be, const struct residual_norm *p)
{
    (void)be;
    int64_t width = p->a.dim[1];
    for (int64_t n = 0; n < p->a.dim[0]; n++) {
        double mean = 0, var = 0;
        if (p->kind == NORM_LAYER) {
            for (int64_t d = 0; d < width; d++)
                mean += residual_at(p, n, d) / (double)width;
        }
        if (p->kind != NORM_NONE) {
            for (int64_t d = 0; d < width; d++) {
                double centred = residual_at(p, n, d) - mean;
                var += centred * centred / (double)width;
            }
        }
        double rstd = 1 / sqrt(var + p->eps);
        for (int64_t d = 0; d < width; d++) {
            int64_t at = n * width + d;
            double s = residual_at(p, n, d);
            double xhat = (s - mean) * rstd;
            if (p->sum.data != NULL)
                ref_real(&p->sum)[at] = s;
            if (p->xhat.data != NULL)
                ref_real(&p->xhat)[at] = xhat;
            if (p->y.data != NULL)
                ref_real(&p->y)[at] = p->gain.data != NULL ? xhat * ref_real(&p->gain)[d] : xhat;
        }
        if (p->rstd.data != NULL)
            ref_real(&p->rstd)[n] = rstd;
    }
}

/* With g = dy * gain, the normalised row loses the parts of g along its own direction and, for
 * NORM_LAYER, along the constant row. eps is inside rstd and xhat, so this is exact. */
void ref_residual_norm_vjp(struct backend *be, const struct residual_norm_vjp *p)
{
    (void)be;
    int64_t width = p->ds.dim[1];
    const double *dy = ref_real(&p->dy), *xhat = ref_real(&p->xhat), *gain = ref_real(&p->gain);
    for (int64_t n = 0; n < p->ds.dim[0]; n++) {
        const double *mask = ref_mask_row(&p->mask, n, width, p->rows_per_mask);
        double mean = 0, along = 0;
        for (int64_t d = 0; p->kind != NORM_NONE && d < width; d++) {
            int64_t at = n * width + d;
            double g = gain != NULL ? dy[at] * gain[d] : dy[at];
            if (p->kind == NORM_LAYER)
                mean += g / (double)width;
            along += g * xhat[at] / (double)width;
            if (p->dgain.data != NULL)
                ref_real(&p->dgain)[d] += dy[at] * xhat[at];
        }
        for (int64_t d = 0; d < width; d++) {
            int64_t at = n * width + d;
            double ds = 0;
            if (p->kind != NORM_NONE) {
                double g = gain != NULL ? dy[at] * gain[d] : dy[at];
                ds = ref_real(&p->rstd)[n] * (g - mean - xhat[at] * along);
            }
            if (p->dsum.data != NULL)
                ds += ref_real(&p->dsum)[at];
            ref_real(&p->ds)[at] = ds;
            if (p->da.data != NULL)
                ref_real(&p->da)[at] = mask != NULL ? ds * mask[d] : ds;
        }
    }
}

/* Computes one row. Everything is derived anew, number by number, from the formulas of
 * ops/norm.h. */
static void norm_tangent_row(const struct norm_vjp_tangent *t, int64_t n)
{
    const struct residual_norm_vjp *p = &t->vjp;
    int64_t width = p->ds.dim[1], at = n * width;
    const double *gain = ref_real(&p->gain), *xhat = ref_real(&p->xhat) + at;
    const double *dy = ref_real(&p->dy) + at, *s_t = ref_real(&t->s_t) + at;
    const double *dy_t = t->dy_t.data != NULL ? ref_real(&t->dy_t) + at : NULL;
    double rstd = ref_real(&p->rstd)[n], w = (double)width, layer = p->kind == NORM_LAYER;
    double s_mean = 0, s_along = 0, mean = 0, along = 0, mean_t = 0, along_t = 0;
    for (int64_t d = 0; d < width; d++) {
        s_mean += layer * s_t[d] / w;
        s_along += xhat[d] * s_t[d] / w;
    }
    for (int64_t d = 0; d < width; d++) {
        double by = gain != NULL ? gain[d] : 1;
        double g = dy[d] * by, g_t = dy_t != NULL ? dy_t[d] * by : 0;
        double xhat_t = rstd * (s_t[d] - s_mean - xhat[d] * s_along);
        mean += layer * g / w;
        along += g * xhat[d] / w;
        mean_t += layer * g_t / w;
        along_t += (g_t * xhat[d] + g * xhat_t) / w;
        if (p->dgain.data != NULL)
            ref_real(&p->dgain)[d] += (dy_t != NULL ? dy_t[d] * xhat[d] : 0) + dy[d] * xhat_t;
    }
    for (int64_t d = 0; d < width; d++) {
        double by = gain != NULL ? gain[d] : 1;
        double g = dy[d] * by, g_t = dy_t != NULL ? dy_t[d] * by : 0;
        double xhat_t = rstd * (s_t[d] - s_mean - xhat[d] * s_along);
        double ds = rstd * (g - mean - xhat[d] * along);
        double ds_t =
            -rstd * s_along * ds + rstd * (g_t - mean_t - xhat_t * along - xhat[d] * along_t);
        ref_real(&p->ds)[at + d] = ds + (p->dsum.data != NULL ? ref_real(&p->dsum)[at + d] : 0);
        ref_real(&t->ds_t)[at + d] =
            ds_t + (t->dsum_t.data != NULL ? ref_real(&t->dsum_t)[at + d] : 0);
    }
}

void ref_norm_vjp_tangent(struct backend *be, const struct norm_vjp_tangent *t)
{
    (void)be;
    const struct residual_norm_vjp *p = &t->vjp;
    int64_t width = p->ds.dim[1];
    for (int64_t n = 0; n < p->ds.dim[0]; n++) {
        const double *mask = ref_mask_row(&p->mask, n, width, p->rows_per_mask);
        if (p->kind != NORM_NONE)
            norm_tangent_row(t, n);
        for (int64_t d = 0; d < width; d++) {
            int64_t at = n * width + d;
            if (p->kind == NORM_NONE) {
                ref_real(&p->ds)[at] = ref_real(&p->dsum)[at];
                ref_real(&t->ds_t)[at] = t->dsum_t.data != NULL ? ref_real(&t->dsum_t)[at] : 0;
            }
            if (p->da.data == NULL)
                continue;
            double m = mask != NULL ? mask[d] : 1;
            ref_real(&p->da)[at] = ref_real(&p->ds)[at] * m;
            ref_real(&t->da_t)[at] = ref_real(&t->ds_t)[at] * m;
        }
    }
}

void ref_weight_norm(struct backend *be, const struct tensor *w, const struct tensor *inv,
                     const struct tensor *v, const struct tensor *g)
{
    (void)be;
    int64_t width = v->dim[1];
    for (int64_t r = 0; r < v->dim[0]; r++) {
        const double *row = ref_real(v) + r * width;
        double sum = 0;
        for (int64_t c = 0; c < width; c++)
            sum += row[c] * row[c];
        double inverse = 1 / sqrt(sum);
        ref_real(inv)[r] = inverse;
        for (int64_t c = 0; c < width; c++)
            ref_real(w)[r * width + c] = ref_real(g)[r] * row[c] * inverse;
    }
}

void ref_weight_norm_vjp(struct backend *be, const struct weight_norm_vjp *p)
{
    (void)be;
    int64_t width = p->v.dim[1];
    for (int64_t r = 0; r < p->v.dim[0]; r++) {
        const double *row = ref_real(&p->v) + r * width, *grad = ref_real(&p->dw) + r * width;
        double inverse = ref_real(&p->inv)[r], dot = 0;
        for (int64_t c = 0; c < width; c++)
            dot += grad[c] * row[c];
        ref_real(&p->dg)[r] += dot * inverse;
        for (int64_t c = 0; c < width; c++) {
            double *to = &ref_real(&p->dv)[r * width + c];
            double part =
                ref_real(&p->g)[r] * inverse * (grad[c] - dot * inverse * inverse * row[c]);
            *to = p->dv.data == p->dw.data ? part : *to + part;
        }
    }
}
