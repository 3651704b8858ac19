/* Activations and the logistic function. */
#include "backend/ref/ref_ops.h"

#include <math.h>

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

/* silu(a) and its first two derivatives. */
struct silu {
    double value, slope, bend;
};

static struct silu silu_of(double a)
{
    double s = logistic(a), d = s * (1 - s);
    return (struct silu){a * s, s + a * d, d * (2 + a * (1 - 2 * s))};
}

/* A rectifier's value, slope and the slope's derivative. */
static struct silu rectifier_of(double x, enum activation kind)
{
    if (x <= 0)
        return (struct silu){0, 0, 0};
    if (kind == ACTIVATION_RELU)
        return (struct silu){x, 1, 0};
    return (struct silu){x * x, 2 * x, 2};
}

void ref_activate(struct backend *be, const struct activate *p)
{
    (void)be;
    int64_t width = p->h.dim[1], wide = p->x.dim[1];
    for (int64_t i = 0; i < tensor_count(&p->h); i++) {
        const double *x = ref_real(&p->x) + i / width * wide + i % width;
        double value = p->kind == ACTIVATION_SWIGLU ? silu_of(x[0]).value * x[width]
                                                    : rectifier_of(x[0], p->kind).value;
        ref_real(&p->h)[i] = value;
    }
}

void ref_activate_vjp(struct backend *be, const struct activate_vjp *p)
{
    (void)be;
    int64_t width = p->dh.dim[1], wide = p->x.dim[1];
    for (int64_t i = 0; i < tensor_count(&p->dh); i++) {
        int64_t at = i / width * wide + i % width;
        const double *x = ref_real(&p->x) + at;
        double *dx = ref_real(&p->dx) + at, dh = ref_real(&p->dh)[i];
        if (p->kind == ACTIVATION_SWIGLU) {
            struct silu g = silu_of(x[0]);
            dx[0] = dh * x[width] * g.slope;
            dx[width] = dh * g.value;
        } else {
            dx[0] = x[0] <= 0 ? 0 : dh * rectifier_of(x[0], p->kind).slope;
        }
    }
}

void ref_activate_tangent(struct backend *be, const struct activate_tangent *p)
{
    (void)be;
    int64_t wide = p->x.dim[1], width = wide / activation_inputs(p->kind);
    bool gated = p->kind == ACTIVATION_SWIGLU;
    for (int64_t i = 0; i < p->x.dim[0] * width; i++) {
        int64_t at = i / width * wide + i % width, other = gated ? width : 0;
        const double *x = ref_real(&p->x) + at, *x_t = ref_real(&p->x_t) + at;
        struct silu g = gated ? silu_of(x[0]) : rectifier_of(x[0], p->kind);
        double b = gated ? x[other] : 1, b_t = gated ? x_t[other] : 0;
        if (p->h_t.data != NULL)
            ref_real(&p->h_t)[i] = g.slope * x_t[0] * b + (gated ? g.value * b_t : 0);
        if (p->dh.data == NULL)
            continue;
        double dh = ref_real(&p->dh)[i], dh_t = ref_real(&p->dh_t)[i];
        double *dx = ref_real(&p->dx) + at, *dx_t = ref_real(&p->dx_t) + at;
        dx[0] = dh * b * g.slope;
        dx_t[0] = dh_t * b * g.slope + dh * (b_t * g.slope + b * g.bend * x_t[0]);
        if (!gated)
            continue;
        dx[other] = dh * g.value;
        dx_t[other] = dh_t * g.value + dh * g.slope * x_t[0];
    }
}

void ref_sigmoid(struct backend *be, const struct tensor *y, const struct tensor *x)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(y); i++)
        ref_real(y)[i] = logistic(ref_real(x)[i]);
}

void ref_sigmoid_vjp(struct backend *be, const struct tensor *dx, const struct tensor *y,
                     const struct tensor *dy)
{
    (void)be;
    for (int64_t i = 0; i < tensor_count(dx); i++) {
        double s = ref_real(y)[i];
        ref_real(dx)[i] += ref_real(dy)[i] * s * (1 - s);
    }
}
