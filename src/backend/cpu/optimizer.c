/* The optimizer: sums of squares, Adam, and the elementwise parts of Muon. */
#include "backend/cpu/cpu_impl.h"

#include <math.h>

void cpu_sum_squares(struct backend *be, const struct tensor *acc, const struct tensor *x)
{
    /* Blocks of a fixed size keep the order of summation, whatever the number of threads. */
    enum { BLOCKS = 256, SMALLEST = 4096 };
    double part[BLOCKS] = {0}, sum = 0;
    int64_t count = tensor_count(x), block = (count + BLOCKS - 1) / BLOCKS;
    block = block < SMALLEST ? SMALLEST : block;
    int64_t blocks = (count + block - 1) / block;
    const float *xd = cpu_f32(x);
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(count))
    for (int64_t k = 0; k < blocks; k++) {
        int64_t end = (k + 1) * block < count ? (k + 1) * block : count;
        double s = 0;
#pragma omp simd reduction(+ : s)
        for (int64_t i = k * block; i < end; i++)
            s += (double)xd[i] * (double)xd[i];
        part[k] = s;
    }
    for (int64_t k = 0; k < blocks; k++)
        sum += part[k];
    *(double *)acc->data += sum;
}

/* What a group's numbers need, in float. */
struct rates {
    float rate, v_scale, keep, pull, b2, c2;
};

static void find_rates(const struct adam *p, struct rates rates[ADAM_GROUPS])
{
    double m_bias = 1 - pow(p->beta1, (double)p->step);
    for (int i = 0; i < ADAM_GROUPS; i++) {
        const struct adam_group *group = &p->group[i];
        rates[i] = (struct rates){
            .rate = (float)(group->lr / m_bias),
            .v_scale = (float)(1 / sqrt(1 - pow(group->beta2, (double)p->step))),
            .keep = p->coupled ? 1 : (float)(1 - group->lr * group->decay),
            .pull = p->coupled ? (float)group->decay : 0,
            .b2 = (float)group->beta2,
            .c2 = (float)(1 - group->beta2),
        };
    }
}

/* The factor of the gradient that clips it. */
static float clip_scale(double clip, double norm2)
{
    return clip == 0 ? 1.0f : (float)fmin(1.0, clip / (sqrt(norm2) + 1e-6));
}

void cpu_adam(struct backend *be, const struct adam *p)
{
    double norm2 = *(const double *)p->norm2.data;
    if (!isfinite(norm2))
        return;
    struct rates rates[ADAM_GROUPS];
    find_rates(p, rates);
    int64_t count = tensor_count(&p->w);
    float scale = clip_scale(p->clip, norm2);
    float b1 = (float)p->beta1, c1 = (float)(1 - p->beta1), eps = (float)p->eps;
    float *w = cpu_f32(&p->w), *m = cpu_f32(&p->m), *v = cpu_f32(&p->v);
    const float *gd = cpu_f32(&p->g);
    const uint8_t *groups = p->groups.data;
    bool cautious = p->cautious;
#pragma omp parallel for schedule(static) num_threads(be->threads) if (cpu_worth(count))
    for (int64_t first = 0; first < count; first += ADAM_BLOCK) {
        int64_t end = count - first < ADAM_BLOCK ? count : first + ADAM_BLOCK;
        const struct rates r = rates[groups == NULL ? 0 : groups[first / ADAM_BLOCK]];
#pragma omp simd
        for (int64_t i = first; i < end; i++) {
            float g = scale * gd[i] + r.pull * w[i];
            m[i] = b1 * m[i] + c1 * g;
            v[i] = r.b2 * v[i] + r.c2 * g * g;
            float keep = !cautious || m[i] * w[i] >= 0 ? r.keep : 1;
            w[i] = keep * w[i] - r.rate * m[i] / (sqrtf(v[i]) * r.v_scale + eps);
        }
    }
}

void cpu_momentum(struct backend *be, const struct momentum *p)
{
    double norm2 = *(const double *)p->norm2.data;
    if (!isfinite(norm2))
        return;
    int64_t count = tensor_count(&p->g);
    float beta = (float)p->beta, rest = (float)(1 - p->beta), scale = clip_scale(p->clip, norm2);
    float *g = cpu_f32(&p->g), *m = cpu_f32(&p->m);
#pragma omp parallel for simd schedule(static) num_threads(be->threads) if (cpu_worth(count))
    for (int64_t i = 0; i < count; i++) {
        float add = rest * (scale * g[i]);
        m[i] = beta * m[i] + add;
        g[i] = beta * m[i] + add;
    }
}

void cpu_unit_norm(struct backend *be, const struct tensor *y, const struct tensor *x,
                   const struct tensor *norm2, double least)
{
    int64_t count = tensor_count(y);
    float scale = (float)(1 / fmax(sqrt(*(const double *)norm2->data), least));
    float *to = cpu_f32(y);
    const float *from = cpu_f32(x);
#pragma omp parallel for simd schedule(static) num_threads(be->threads) if (cpu_worth(count))
    for (int64_t i = 0; i < count; i++)
        to[i] = scale * from[i];
}

void cpu_descend(struct backend *be, const struct descend *p)
{
    if (!isfinite(*(const double *)p->norm2.data))
        return;
    int64_t count = tensor_count(&p->w);
    float rate = (float)p->rate, keep = (float)(1 - p->shrink);
    float *w = cpu_f32(&p->w);
    const float *u = cpu_f32(&p->u);
    bool cautious = p->cautious;
#pragma omp parallel for simd schedule(static) num_threads(be->threads) if (cpu_worth(count))
    for (int64_t i = 0; i < count; i++)
        w[i] = (!cautious || u[i] * w[i] >= 0 ? keep : 1) * w[i] - rate * u[i];
}
