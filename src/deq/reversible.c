/* Steps of two coupled states, and the way back along them. */
#include "deq/reversible.h"

static void declare(const struct reversible_plan *p, struct tensor *t, const char *name,
                    enum phase first)
{
    workspace_declare(p->ws, t,
                      &(struct buffer){.name = name,
                                       .dtype = p->ws->be->ops->real,
                                       .ndim = 3,
                                       .dim = {p->batch, p->length, p->width},
                                       .life = lives_on(PATH_LAYERS, first, PHASE_GRADIENTS),
                                       .part = PART_ACTIVATIONS});
}

void reversible_declare(struct reversible *r, const struct reversible_plan *plan)
{
    assert(plan->relaxation > 0 && plan->relaxation < 1);
    *r = (struct reversible){.plan = *plan};
    declare(plan, &r->pair, "reversible: second state", PHASE_FORWARD);
    declare(plan, &r->evaluated, "reversible: f of a state", PHASE_FORWARD);
    declare(plan, &r->undone, "reversible: state undone", PHASE_GRADIENTS);
    declare(plan, &r->dy, "reversible: second gradient", PHASE_GRADIENTS);
}

static struct tensor cut(const struct reversible *r, const struct tensor *planned)
{
    return tensor_cut(planned, &r->z);
}

/* to = (1 - b) to + b f(at) */
static void relax(struct reversible *r, const struct tensor *to, const struct tensor *at)
{
    r->cell->ops->eval(r->cell, 0, at, &r->f);
    op_axpby(r->cell->be, to, r->plan.relaxation, &r->f, 1 - r->plan.relaxation);
}

void reversible_run(struct reversible *r, int64_t batch, int64_t length, int64_t steps)
{
    assert(steps >= 1);
    r->steps = steps;
    r->z = tensor_prefix(r->plan.z, 3, batch, length, r->plan.width, 1);
    r->y = cut(r, &r->pair);
    r->f = cut(r, &r->evaluated);
    op_copy(r->cell->be, &r->y, &r->z);
    for (int64_t n = 0; n < steps; n++) {
        relax(r, &r->y, &r->z);
        relax(r, &r->z, &r->y);
    }
}

/* What half a step back does: `state` was relaxed to f of `at`, whose evaluation slot 0 holds. df
 * is b times the gradient of the state, and d_at b times that of `at`, which gets its part of df.
 */
struct half_step {
    const struct tensor *state, *at, *df, *d_at;
};

static void undo(struct reversible *r, const struct half_step *h, const struct tensor *dz)
{
    struct backend *be = r->cell->be;
    double b = r->plan.relaxation;
    r->cell->ops->vjp(r->cell, 0, h->at, &r->f, h->df, dz, true);
    op_axpby(be, h->d_at, b, dz, 1);
    op_axpby(be, h->state, -b / (1 - b), &r->f, 1 / (1 - b));
    op_axpby(be, h->df, 1 - b, h->df, 0);
}

void reversible_gradient(struct reversible *r)
{
    struct backend *be = r->cell->be;
    struct tensor z = cut(r, &r->undone), dy = cut(r, &r->dy);
    struct tensor dz = cut(r, r->plan.gradient[0]), work = cut(r, r->plan.gradient[1]);
    const struct half_step second = {&z, &r->y, &dz, &dy}, first = {&r->y, &z, &dy, &dz};
    op_copy(be, &z, &r->z);
    op_fill(be, &dy, 0);
    op_axpby(be, &dz, r->plan.relaxation, &dz, 0);
    for (int64_t n = r->steps - 1; n >= 0; n--) {
        undo(r, &second, &work);
        r->cell->ops->eval(r->cell, 0, &z, &r->f);
        undo(r, &first, &work);
        if (n > 0)
            r->cell->ops->eval(r->cell, 0, &r->y, &r->f);
    }
}
