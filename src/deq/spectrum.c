/* The power method on the Jacobian. */
#include "deq/spectrum.h"

#include "base/mem.h"
#include <math.h>

struct power {
    struct cell *cell;
    const struct equilibrium_point *at;
    int64_t batch, length, width;
    struct tensor v[2];  /* owns [B,L,W] */
    struct tensor dots;  /* owns [B*L,1] */
    struct tensor scale; /* owns [B,1,1] */
    double *host;        /* owns [B*L] */
};

/* <a, b> of every sequence into out[B]. */
static void sequence_dots(struct power *p, const struct tensor *a, const struct tensor *b,
                          double *out)
{
    struct backend *be = p->cell->be;
    struct tensor rows = tensor_matrix(a);
    struct tensor hist = tensor_shape(b, 3, 1, p->batch * p->length, p->width, 1);
    struct row_dots with_b = {.dots = p->dots, .x = rows, .hist = hist, .count = 1};
    op_row_dots(be, &with_b);
    op_download(be, p->host, DTYPE_F64, &p->dots);
    for (int64_t s = 0; s < p->batch; s++) {
        out[s] = 0;
        for (int64_t t = 0; t < p->length; t++)
            out[s] += p->host[s * p->length + t];
    }
}

static enum status plan(struct power *p, struct error *err)
{
    struct backend *be = p->cell->be;
    enum dtype real = be->ops->real;
    for (int i = 0; i < 2; i++)
        TRY(op_alloc(be, &p->v[i], real, 3, p->batch, p->length, p->width, 1, err));
    TRY(op_alloc(be, &p->dots, real, 2, p->batch * p->length, 1, 1, 1, err));
    TRY(op_alloc(be, &p->scale, real, 3, p->batch, 1, 1, 1, err));
    return mem_alloc((void **)&p->host, (size_t)(p->batch * p->length), sizeof *p->host, err);
}

/* One step from v[0], of length 1, with the Rayleigh quotients and |v J|. */
static void step(struct power *p, double *rayleigh, double *norm)
{
    struct backend *be = p->cell->be;
    const struct equilibrium_point *at = p->at;
    p->cell->ops->vjp(p->cell, at->slot, &at->z, &at->f, &p->v[0], &p->v[1], false);
    sequence_dots(p, &p->v[0], &p->v[0], norm);
    sequence_dots(p, &p->v[1], &p->v[0], rayleigh);
    for (int64_t s = 0; s < p->batch; s++)
        rayleigh[s] = fabs(rayleigh[s] / norm[s]);
    sequence_dots(p, &p->v[1], &p->v[1], norm);
    for (int64_t s = 0; s < p->batch; s++) {
        norm[s] = sqrt(norm[s]);
        p->host[s] = norm[s] > 0 ? 1 / norm[s] : norm[s]; /* a NaN stays one */
    }
    op_upload(be, &p->scale, p->host, DTYPE_F64);
    op_mul_bcast(be, &p->v[0], &p->v[1], &p->scale);
}

enum status spectral_radius(struct cell *cell, const struct equilibrium_point *at,
                            int64_t iterations, uint64_t seed, double *rayleigh, double *growth,
                            struct error *err)
{
    enum status status = STATUS_OK;
    struct power p = {cell, at, at->z.dim[0], at->z.dim[1], at->z.dim[2], {{0}}, {0}, {0}, NULL};
    struct rng_key key = {seed, rng_stream(RNG_PENALTY, 0, 0)};
    int64_t half = iterations / 2;
    double *norm = NULL;
    TRY_OUT(plan(&p, err));
    TRY_OUT(mem_alloc((void **)&norm, (size_t)p.batch, sizeof *norm, err));
    op_fill_normal(cell->be, &p.v[0], 1.0, key);
    for (int64_t i = 0; i < iterations; i++) {
        step(&p, rayleigh, norm);
        for (int64_t s = 0; s < p.batch; s++)
            growth[s] = (i > half ? growth[s] : 0) + (i >= half ? log(norm[s]) : 0);
    }
    for (int64_t s = 0; s < p.batch; s++)
        growth[s] = exp(growth[s] / (double)(iterations - half));
    TRY_OUT(backend_check(cell->be, err));
out:
    op_release(cell->be, &p.v[0]);
    op_release(cell->be, &p.v[1]);
    op_release(cell->be, &p.dots);
    op_release(cell->be, &p.scale);
    mem_free(p.host);
    mem_free(norm);
    return status;
}
