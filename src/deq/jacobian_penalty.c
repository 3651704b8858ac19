/* The Jacobian penalty in both its forms. */
#include "deq/jacobian_penalty.h"

#include "base/mem.h"

struct penalty {
    enum config_penalty form;
    double step; /* h */
    int slot;    /* of the cell, for the difference's second evaluation */
    /* In the workspace. */
    struct tensor v;   /* [B,L,W] direction, then the difference of f */
    struct tensor w;   /* [B,L,W] v^T J, or z + h v */
    struct tensor r;   /* [B,L,W] J w, or f(z + h v) and then the gradient at f(z) */
    struct tensor dz;  /* [B,L,W] with form difference, gradients of z that nobody wants */
    struct tensor sum; /* F64 [1], the squared norm of the last call */
    int64_t numbers;   /* n of the last call */
};

/* What apply works on, cut to the segment. */
struct penalty_views {
    struct equilibrium_point at;
    struct tensor v, w, r, dz;
    double scale; /* weight / n */
};

static bool wanted(const struct config *config)
{
    return config_has_penalty(config);
}

static double weight(const struct config *config)
{
    (void)config;
    return 0;
}

static struct loss_term_needs needs(const struct config *config)
{
    bool exact = config->jacobian.form == PENALTY_EXACT;
    return (struct loss_term_needs){.spare_slot = !exact, .tangents = exact};
}

static enum status create(struct loss_term *t, const struct loss_term_plan *plan, struct error *err)
{
    const struct config_jacobian *c = &plan->config->jacobian;
    struct lifetime life = lives(PHASE_GRADIENTS, PHASE_GRADIENTS);
    TRY(mem_alloc(&t->own, 1, sizeof(struct penalty), err));
    struct penalty *p = t->own;
    *p = (struct penalty){.form = c->form, .step = c->step, .slot = plan->spare_slot};
    loss_term_declare_state(plan, &p->v, "penalty: direction", lives_always());
    loss_term_declare_state(plan, &p->w, "penalty: v J, or z + h v", life);
    loss_term_declare_state(plan, &p->r, "penalty: J w, or f", life);
    if (p->form == PENALTY_DIFFERENCE)
        loss_term_declare_state(plan, &p->dz, "penalty: gradient of z", life);
    workspace_declare(plan->ws, &p->sum,
                      &(struct buffer){.name = "penalty: sum",
                                       .dtype = DTYPE_F64,
                                       .ndim = 1,
                                       .dim = {1},
                                       .life = lives(PHASE_GRADIENTS, PHASE_UPDATE)});
    return STATUS_OK;
}

static void release(struct loss_term *t)
{
    mem_free(t->own);
}

/* |v^T J|^2 has the gradient of 2 v . (J w) at the constant w = J^T v. */
static void apply_exact(struct penalty *p, struct cell *cell, const struct penalty_views *x)
{
    const struct tensor none = {0};
    const struct equilibrium_point *at = &x->at;
    cell->ops->vjp(cell, at->slot, &at->z, &at->f, &x->v, &x->w, false);
    op_sum_squares(cell->be, &p->sum, &x->w);
    cell->ops->jvp(cell, at->slot, &at->z, &at->f, &x->w, &x->r);
    op_axpby(cell->be, &x->r, 2 * x->scale, &x->v, 0.0);
    cell->ops->vjp_tangent(cell, at->slot, &at->z, &at->f, &x->w, &x->r, &none);
}

/* With d = f(z + h v) - f(z), 2 d / h^2 passes through f at z + h v, and its opposite at z. */
static void apply_difference(struct penalty *p, struct equilibrium *eq, struct cell *cell,
                             const struct penalty_views *x)
{
    struct backend *be = cell->be;
    double h2 = p->step * p->step;
    op_copy(be, &x->w, &x->v);
    op_axpby(be, &x->w, 1.0, &x->at.z, p->step);
    cell->ops->eval(cell, p->slot, &x->w, &x->r);
    op_copy(be, &x->v, &x->r);
    op_axpby(be, &x->v, -1.0, &x->at.f, 1.0);
    op_sum_squares(be, &p->sum, &x->v);
    op_axpby(be, &x->v, 0.0, &x->v, 2 * x->scale / h2);
    cell->ops->vjp(cell, p->slot, &x->w, &x->r, &x->v, &x->dz, true);
    op_axpby(be, &x->r, -1.0, &x->v, 0.0);
    equilibrium_add_cotangent(eq, &x->r, &x->dz);
}

static void apply(struct loss_term *t, const struct loss_segment *s)
{
    struct penalty *p = t->own;
    struct penalty_views x = {.at = equilibrium_last(s->eq)};
    x.v = tensor_cut(&p->v, &x.at.z);
    x.w = tensor_cut(&p->w, &x.at.z);
    x.r = tensor_cut(&p->r, &x.at.z);
    p->numbers = tensor_count(&x.at.z);
    x.scale = t->weight / (double)p->numbers;
    if (t->draws)
        op_fill_normal(t->be, &x.v, 1.0, t->key);
    op_fill(t->be, &p->sum, 0.0);
    if (p->form == PENALTY_EXACT) {
        apply_exact(p, s->cell, &x);
        return;
    }
    x.dz = tensor_cut(&p->dz, &x.at.z);
    apply_difference(p, s->eq, s->cell, &x);
}

static double read(struct loss_term *t)
{
    struct penalty *p = t->own;
    double sum = 0;
    op_download(t->be, &sum, DTYPE_F64, &p->sum);
    if (p->form == PENALTY_DIFFERENCE)
        sum /= p->step * p->step;
    return sum / (double)p->numbers;
}

struct tensor jacobian_penalty_direction(const struct loss_terms *terms)
{
    const struct loss_term *t = &terms->term[TERM_JACOBIAN_PENALTY];
    assert(t->kind != NULL);
    return ((const struct penalty *)t->own)->v;
}

const struct loss_term_kind jacobian_penalty_term = {
    .wanted = wanted,
    .weight = weight,
    .needs = needs,
    .create = create,
    .apply = apply,
    .read = read,
    .free = release,
};
