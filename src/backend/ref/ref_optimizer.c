/* The optimizer: sums of squares, Adam, and the elementwise parts of Muon. */
#include "backend/ref/ref_ops.h"

#include <math.h>

void ref_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    (void)be;
    double sum = 0;
    for (int64_t i = 0; i < tensor_count(x); i++)
        sum += ref_real(x)[i] * ref_real(x)[i];
    *ref_real(acc) += sum;
}

/* The factor of the gradient that clips it. */
static double clip_scale(double clip, double norm2)
{
    return clip == 0 ? 1 : fmin(1, clip / (sqrt(norm2) + 1e-6));
}

void ref_adam(struct backend *be, const struct adam *p)
{
    (void)be;
    double norm2 = *ref_real(&p->norm2);
    if (!isfinite(norm2))
        return;
    double scale = clip_scale(p->clip, norm2);
    double *w = ref_real(&p->w), *m = ref_real(&p->m), *v = ref_real(&p->v);
    double m_bias = 1 - pow(p->beta1, (double)p->step), v_bias[ADAM_GROUPS];
    for (int k = 0; k < ADAM_GROUPS; k++)
        v_bias[k] = 1 - pow(p->group[k].beta2, (double)p->step);
    const uint8_t *groups = p->groups.data;
    for (int64_t i = 0; i < tensor_count(&p->w); i++) {
        int k = groups == NULL ? 0 : groups[i / ADAM_BLOCK];
        const struct adam_group *r = &p->group[k];
        double g = scale * ref_real(&p->g)[i] + (p->coupled ? r->decay * w[i] : 0);
        m[i] = p->beta1 * m[i] + (1 - p->beta1) * g;
        v[i] = r->beta2 * v[i] + (1 - r->beta2) * g * g;
        bool decays = !p->coupled && (!p->cautious || m[i] * w[i] >= 0);
        double update = m[i] / m_bias / (sqrt(v[i] / v_bias[k]) + p->eps);
        w[i] -= r->lr * (update + (decays ? r->decay * w[i] : 0));
    }
}

void ref_momentum(struct backend *be, const struct momentum *p)
{
    (void)be;
    double norm2 = *ref_real(&p->norm2), scale = clip_scale(p->clip, norm2);
    double *g = ref_real(&p->g), *m = ref_real(&p->m);
    if (!isfinite(norm2))
        return;
    for (int64_t i = 0; i < tensor_count(&p->g); i++) {
        double add = (1 - p->beta) * scale * g[i];
        m[i] = p->beta * m[i] + add;
        g[i] = p->beta * m[i] + add;
    }
}

void ref_unit_norm(struct backend *be, const struct tensor *y, const struct tensor *x,
                   const struct tensor *norm2, double least)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(y); i++)
        ref_real(y)[i] = ref_real(x)[i] / fmax(sqrt(*ref_real(norm2)), least);
}

void ref_descend(struct backend *be, const struct descend *p)
{
    (void)be;
    double *w = ref_real(&p->w);
    if (!isfinite(*ref_real(&p->norm2)))
        return;
    for (int64_t i = 0; i < tensor_count(&p->w); i++) {
        double u = ref_real(&p->u)[i];
        double shrink = !p->cautious || u * w[i] >= 0 ? p->shrink : 0;
        w[i] -= shrink * w[i] + p->rate * u;
    }
}
