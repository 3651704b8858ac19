/* Queries, keys and values of heads, one number after the other. */
#include "backend/ref/ref_ops.h"

#include <math.h>

/* The numbers of one head in a row, their place in x and that of their first copy in qkv. */
struct head {
    const double *x, *turn;
    int64_t h, x_at, to, copies;
    bool norm; /* q and k, which are turned too */
};

static struct head head_of(const struct heads *p, int64_t h, int64_t n, int64_t k)
{
    int64_t width = p->x.dim[1], skip = width == 2 * p->groups * h ? p->heads : 0;
    int64_t each = p->heads / p->groups, at = k - p->heads, part = at >= p->groups ? 2 : 1;
    int64_t row = p->rows.data != NULL ? ref_int(&p->rows)[n] : n;
    struct head r = {.h = h, .x_at = n * width + (k - skip) * h, .copies = 1};
    r.norm = k < p->heads + p->groups;
    r.to = n * 3 * p->heads * h + k * h;
    if (k >= p->heads) {
        r.copies = each;
        r.to = n * 3 * p->heads * h + (part * p->heads + at % p->groups * each) * h;
    }
    r.x = ref_real(&p->x) + r.x_at;
    if (p->turn.data != NULL && r.norm)
        r.turn = ref_real(&p->turn) + (p->first + row % p->length) * h;
    return r;
}

/* Number e of a turned vector, or of one turned back. */
static double turned(const struct head *k, const double *u, int64_t e, bool back)
{
    int64_t half = k->h / 2, i = e % half;
    if (k->turn == NULL)
        return u[e];
    double c = k->turn[i], s = back ? -k->turn[i + half] : k->turn[i + half];
    return e < half ? c * u[i] - s * u[i + half] : s * u[i] + c * u[i + half];
}

static double scale_of(const struct heads *p, const struct head *k)
{
    double sum = 0;
    if (!p->norm || !k->norm)
        return 1;
    for (int64_t e = 0; e < k->h; e++)
        sum += k->x[e] * k->x[e];
    return 1 / sqrt(sum / (double)k->h + p->eps);
}

static double mean_of(const double *a, const double *b, int64_t h)
{
    double sum = 0;
    for (int64_t e = 0; e < h; e++)
        sum += a[e] * b[e];
    return sum / (double)h;
}

void ref_heads(struct backend *be, const struct heads *p)
{
    (void)be;
    int64_t h = p->qkv.dim[1] / (3 * p->heads), q = p->x.dim[1] == 2 * p->groups * h ? 0 : p->heads;
    for (int64_t n = 0; n < p->x.dim[0]; n++) {
        double *row = ref_real(&p->qkv) + n * p->qkv.dim[1];
        for (int64_t e = 0; q == 0 && e < p->heads * h; e++)
            row[e] = 0;
        for (int64_t i = q > 0 ? 0 : p->heads; i < p->heads + 2 * p->groups; i++) {
            struct head k = head_of(p, h, n, i);
            double scale = scale_of(p, &k);
            for (int64_t copy = 0; copy < k.copies; copy++)
                for (int64_t e = 0; e < h; e++)
                    ref_real(&p->qkv)[k.to + copy * h + e] = scale * turned(&k, k.x, e, false);
        }
    }
}

/* dx = the sum of what reaches the copies of a head, turned back. */
static void gather(const struct head *k, const double *dqkv, double *dx)
{
    for (int64_t e = 0; e < k->h; e++) {
        dx[e] = 0;
        for (int64_t copy = 0; copy < k->copies; copy++)
            dx[e] += turned(k, dqkv + k->to + copy * k->h, e, true);
    }
}

void ref_heads_vjp(struct backend *be, const struct heads_vjp *p)
{
    (void)be;
    int64_t h = p->dqkv.dim[1] / (3 * p->fwd.heads);
    for (int64_t n = 0; n < p->fwd.x.dim[0]; n++)
        for (int64_t i = 0; i < p->fwd.heads + 2 * p->fwd.groups; i++) {
            struct head k = head_of(&p->fwd, h, n, i);
            double *dx = ref_real(&p->dx) + k.x_at, r = scale_of(&p->fwd, &k);
            gather(&k, ref_real(&p->dqkv), dx);
            if (!p->fwd.norm || !k.norm)
                continue;
            double along = r * r * mean_of(k.x, dx, h);
            for (int64_t e = 0; e < h; e++)
                dx[e] = r * (dx[e] - k.x[e] * along);
        }
}

/* The derivative of u = r x with respect to the direction x_t, number e. */
static double unit_t(const struct head *k, const double *x_t, double r, double along, int64_t e)
{
    return r * (x_t[e] - k->x[e] * along);
}

static void head_tangent(const struct heads_tangent *p, const struct head *k)
{
    int64_t h = k->h;
    bool norm = p->fwd.norm && k->norm;
    const double *x_t = ref_real(&p->x_t) + k->x_at;
    double r = scale_of(&p->fwd, k), along = norm ? r * r * mean_of(k->x, x_t, h) : 0;
    if (p->qkv_t.data != NULL)
        for (int64_t copy = 0; copy < k->copies; copy++)
            for (int64_t e = 0; e < h; e++)
                ref_real(&p->qkv_t)[k->to + copy * h + e] =
                    r * (turned(k, x_t, e, false) - turned(k, k->x, e, false) * along);
    if (p->dqkv.data == NULL)
        return;
    double *dx = ref_real(&p->dx) + k->x_at, *dx_t = ref_real(&p->dx_t) + k->x_at;
    gather(k, ref_real(&p->dqkv), dx);
    gather(k, ref_real(&p->dqkv_t), dx_t);
    if (!norm)
        return;
    double mean = r * mean_of(k->x, dx, h), mean_t = r * mean_of(k->x, dx_t, h);
    for (int64_t e = 0; e < h; e++)
        mean_t += unit_t(k, x_t, r, along, e) * dx[e] / (double)h;
    for (int64_t e = 0; e < h; e++) {
        double u = r * k->x[e], u_t = unit_t(k, x_t, r, along, e);
        double d = r * (dx[e] - u * mean);
        dx_t[e] = -along * d + r * (dx_t[e] - u_t * mean - u * mean_t);
        dx[e] = d;
    }
}

void ref_heads_tangent(struct backend *be, const struct heads_tangent *p)
{
    (void)be;
    int64_t wide = p->dqkv.data != NULL ? p->dqkv.dim[1] : p->qkv_t.dim[1];
    for (int64_t n = 0; n < p->fwd.x.dim[0]; n++)
        for (int64_t i = 0; i < p->fwd.heads + 2 * p->fwd.groups; i++) {
            struct head k = head_of(&p->fwd, wide / (3 * p->fwd.heads), n, i);
            head_tangent(p, &k);
        }
}
