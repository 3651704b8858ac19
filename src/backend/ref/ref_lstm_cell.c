/* The gates of the trellis cell. */
#include "backend/ref/ref_ops.h"

#include <math.h>

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

/* Returns c of position t - 1 of sequence b, number d. */
static double previous_c(const struct tensor *z, const struct tensor *c0, int64_t b, int64_t t,
                         int64_t d)
{
    int64_t h = z->dim[2] / 2;
    if (t > 0)
        return ref_real(z)[(b * z->dim[1] + t - 1) * 2 * h + h + d];
    return c0->data != NULL ? ref_real(c0)[b * h + d] : 0;
}

void ref_lstm_cell(struct backend *be, const struct lstm_cell *p)
{
    (void)be;
    int64_t len = p->z.dim[1], h = p->z.dim[2] / 2, rows = p->pre.dim[1];
    for (int64_t b = 0; b < p->z.dim[0]; b++)
        for (int64_t t = 0; t < len; t++)
            for (int64_t d = 0; d < h; d++) {
                int64_t at = (b * rows + t) * 4 * h + d;
                double *pre = ref_real(&p->pre) + at, *out = ref_real(&p->out);
                for (int k = 0; k < 4; k++) {
                    double x = pre[k * h] + ref_real(&p->u)[at + k * h];
                    x += ref_real(&p->bias)[k * h + d];
                    pre[k * h] = k == 2 ? tanh(x) : logistic(x);
                }
                double c = pre[3 * h] * previous_c(&p->z, &p->c0, b, t, d) + pre[0] * pre[2 * h];
                out[(b * len + t) * 2 * h + d] = pre[h] * tanh(c);
                out[(b * len + t) * 2 * h + h + d] = c;
            }
}

static void gate_vjp_one(const struct lstm_cell_vjp *p, int64_t b, int64_t t, int64_t d)
{
    int64_t len = p->z.dim[1], h = p->z.dim[2] / 2, rows = p->gates.dim[1];
    int64_t at = (b * rows + t) * 4 * h + d, row = (b * len + t) * 2 * h + d;
    const double *gates = ref_real(&p->gates) + at, *dout = ref_real(&p->dout) + row;
    double *dpre = ref_real(&p->dpre) + at;
    double i = gates[0], o = gates[h], g = gates[2 * h], f = gates[3 * h];
    double tc = tanh(ref_real(&p->out)[row + h]);
    double dc = dout[h] + dout[0] * o * (1 - tc * tc);
    dpre[0] = dc * g * i * (1 - i);
    dpre[h] = dout[0] * tc * o * (1 - o);
    dpre[2 * h] = dc * i * (1 - g * g);
    dpre[3 * h] = dc * previous_c(&p->z, &p->c0, b, t, d) * f * (1 - f);
    double *dz = ref_real(&p->dz) + row + h;
    if (t > 0)
        dz[-2 * h] = dc * f;
    else if (p->dc0.data != NULL)
        ref_real(&p->dc0)[b * h + d] = dc * f;
    if (t == len - 1)
        *dz = 0;
}

void ref_lstm_cell_vjp(struct backend *be, const struct lstm_cell_vjp *p)
{
    (void)be;
    int64_t len = p->z.dim[1], h = p->z.dim[2] / 2, rows = p->gates.dim[1];
    for (int64_t b = 0; b < p->z.dim[0]; b++) {
        for (int64_t t = 0; t < len; t++)
            for (int64_t d = 0; d < h; d++)
                gate_vjp_one(p, b, t, d);
        for (int64_t k = (b * rows + len) * 4 * h; k < (b + 1) * rows * 4 * h; k++)
            ref_real(&p->dpre)[k] = 0;
    }
}
