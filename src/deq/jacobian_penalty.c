#include "deq/jacobian_penalty.h"

#include <math.h>

bool penalty_wanted(const struct config *config)
{
    return config->jacobian.weight > 0 || config->jacobian.ramp_every > 0;
}

enum status penalty_create(struct penalty *p, struct cell *cell, const struct config *config,
                           int64_t batch, int64_t length, int spare_tape, struct error *err)
{
    struct backend *be = cell->be;
    const struct config_jacobian *c = &config->jacobian;
    *p = (struct penalty){
        .wanted = penalty_wanted(config), .form = c->form, .step = c->step, .tape = spare_tape};
    if (!p->wanted)
        return STATUS_OK;
    struct tensor *const all[] = {&p->v, &p->w, &p->r};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        TRY(op_alloc(be, all[i], be->ops->real, 3, batch, length, cell->width, 1, err));
    if (p->form == PENALTY_DIFFERENCE)
        TRY(op_alloc(be, &p->dz, be->ops->real, 3, batch, length, cell->width, 1, err));
    return op_alloc(be, &p->sum, DTYPE_F64, 1, 1, 1, 1, 1, err);
}

void penalty_free(struct penalty *p, struct backend *be)
{
    struct tensor *const all[] = {&p->v, &p->w, &p->r, &p->dz, &p->sum};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
}

void penalty_skip(struct penalty *p)
{
    p->pending = false;
    p->numbers = 0;
}

/* |v^T J|^2 has the gradient of 2 v . (J w) at the constant w = J^T v. */
static void apply_exact(struct penalty *p, struct cell *cell, const struct equilibrium_point *at,
                        const struct tensor *v, const struct tensor *w, const struct tensor *r,
                        double scale)
{
    const struct tensor none = {0};
    cell->ops->vjp(cell, at->tape, &at->z, &at->f, v, w, false);
    op_sum_squares(cell->be, &p->sum, w);
    cell->ops->jvp(cell, at->tape, &at->z, &at->f, w, r);
    op_axpby(cell->be, r, 2 * scale, v, 0.0);
    cell->ops->vjp_tangent(cell, at->tape, &at->z, &at->f, w, r, &none);
}

/* With d = f(z + h v) - f(z): 2 d / h^2 passes through f at z + h v, and its opposite at z. */
static void apply_difference(struct penalty *p, struct cell *cell,
                             const struct equilibrium_point *at, const struct tensor *v,
                             const struct tensor *w, const struct tensor *r, double scale,
                             bool unrolled)
{
    struct backend *be = cell->be;
    double h2 = p->step * p->step;
    op_copy(be, w, v);
    op_axpby(be, w, 1.0, &at->z, p->step);
    cell->ops->eval(cell, p->tape, w, r);
    op_copy(be, v, r);
    op_axpby(be, v, -1.0, &at->f, 1.0);
    op_sum_squares(be, &p->sum, v);
    op_axpby(be, v, 0.0, v, 2 * scale / h2);
    struct tensor dz = tensor_cut(&p->dz, v);
    cell->ops->vjp(cell, p->tape, w, r, v, &dz, true);
    op_axpby(be, r, -1.0, v, 0.0);
    p->pending = !unrolled;
    if (unrolled)
        cell->ops->vjp(cell, at->tape, &at->z, &at->f, r, &dz, true);
}

void penalty_apply(struct penalty *p, const struct equilibrium *eq, double weight,
                   const struct rng_key *key)
{
    struct cell *cell = eq->cell;
    struct equilibrium_point at = equilibrium_last(eq);
    struct tensor v = tensor_cut(&p->v, &at.z), w = tensor_cut(&p->w, &at.z);
    struct tensor r = tensor_cut(&p->r, &at.z);
    assert(p->wanted);
    p->numbers = tensor_count(&at.z);
    double scale = weight / (double)p->numbers;
    if (key != NULL)
        op_fill_normal(cell->be, &v, 1.0, *key);
    op_fill(cell->be, &p->sum, 0.0);
    if (p->form == PENALTY_EXACT)
        apply_exact(p, cell, &at, &v, &w, &r, scale);
    else
        apply_difference(p, cell, &at, &v, &w, &r, scale, eq->unrolled > 0);
}

double penalty_read(struct penalty *p, struct backend *be)
{
    double sum = 0;
    if (p->numbers == 0)
        return NAN;
    op_download(be, &sum, DTYPE_F64, &p->sum);
    if (p->form == PENALTY_DIFFERENCE)
        sum /= p->step * p->step;
    return sum / (double)p->numbers;
}
