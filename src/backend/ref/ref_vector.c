/* Products, elementwise operations, weight normalisation and the optimizer. */
#include "backend/ref/ref_ops.h"

#include <math.h>

/* A factor as products see it: to the nearest, a tie in TF32 away from zero (the conversion of the
 * devices that have it, cvt.rna.tf32 in PTX), in BF16 to the even neighbour. */
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
            /* op(b)[k,j] lies b_step apart in j: rows are read along, columns across */
            int64_t a_at = p->trans_a ? k * a_stride + i : i * a_stride + k;
            double a = p->alpha * rounded(be, ref_real(&p->a)[a_at]);
            const double *b = ref_real(&p->b) + (p->trans_b ? k : k * b_stride);
            int64_t b_step = p->trans_b ? b_stride : 1;
            for (int64_t j = 0; j < n; j++)
                c[j] += a * rounded(be, b[j * b_step]);
        }
    }
}

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

void ref_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    (void)be;
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(x); i++)
        sum += ref_real(x)[i] * ref_real(x)[i];
    *ref_real(acc) += sum;
}

void ref_adam(struct backend *be, const struct adam *p)
{
    (void)be;
    double norm2 = *ref_real(&p->norm2);
    if (!isfinite(norm2))
        return;
    double scale = p->clip == 0 ? 1 : fmin(1, p->clip / (sqrt(norm2) + 1e-6));
    double *w = ref_real(&p->w), *m = ref_real(&p->m), *v = ref_real(&p->v);
    double m_bias = 1 - pow(p->beta1, (double)p->step), v_bias = 1 - pow(p->beta2, (double)p->step);
    const uint8_t *decays = p->decays.data;
    for (int64_t i = 0; i < tensor_count(&p->w); i++) {
        double decay = decays == NULL || decays[i / ADAM_BLOCK] ? p->decay : 0;
        double g = scale * ref_real(&p->g)[i] + (p->coupled ? decay * w[i] : 0);
        m[i] = p->beta1 * m[i] + (1 - p->beta1) * g;
        v[i] = p->beta2 * v[i] + (1 - p->beta2) * g * g;
        double update = m[i] / m_bias / (sqrt(v[i] / v_bias) + p->eps);
        w[i] -= p->lr * (update + (p->coupled ? 0 : decay * w[i]));
    }
}
