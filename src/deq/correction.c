/* Fixed-point correction (Bai, Geng, Savani, Kolter 2022). The loss is also taken at earlier
 * iterates of the solve, which teaches f to be near its fixed point after few evaluations. An
 * iterate z_k passes its gradient through f once, since the output is f(z_k) with z_k constant. */
#include "base/mem.h"
#include "deq/loss_term.h"

struct correction {
    int slot;              /* of the cell */
    struct config_list at; /* evaluations whose iterates are kept, ascending */
    struct tensor *states; /* owns the list [at.count] of [B,L,W] */
    int64_t kept;          /* iterates kept of the current solve */
    struct tensor h, dz;   /* [B,L,W] */
    struct tensor nll;     /* [B*L] */
};

static bool wanted(const struct config *config)
{
    return config->correction.weight > 0;
}

static double weight(const struct config *config)
{
    return config->correction.weight;
}

static struct loss_term_needs needs(const struct config *config)
{
    (void)config;
    return (struct loss_term_needs){.spare_slot = true, .losses = true};
}

static enum status create(struct loss_term *t, const struct loss_term_plan *plan, struct error *err)
{
    struct correction *c = NULL;
    struct lifetime life = lives(PHASE_GRADIENTS, PHASE_GRADIENTS);
    struct lifetime kept = lives_on(PATH_SOLVE, PHASE_FORWARD, PHASE_GRADIENTS);
    TRY(mem_alloc(&t->own, 1, sizeof *c, err));
    c = t->own;
    c->slot = plan->spare_slot;
    c->at = plan->config->correction.at;
    TRY(mem_alloc((void **)&c->states, (size_t)c->at.count, sizeof *c->states, err));
    for (int64_t i = 0; i < c->at.count; i++)
        loss_term_declare_state(plan, &c->states[i], "correction: iterate", kept);
    loss_term_declare_state(plan, &c->h, "correction: f", life);
    loss_term_declare_state(plan, &c->dz, "correction: gradient of z", life);
    workspace_declare(plan->ws, &c->nll,
                      &(struct buffer){.name = "correction: losses",
                                       .dtype = plan->ws->be->ops->real,
                                       .ndim = 1,
                                       .dim = {plan->batch * plan->length},
                                       .life = life});
    return STATUS_OK;
}

static void release(struct loss_term *t)
{
    struct correction *c = t->own;
    if (c == NULL)
        return;
    mem_free(c->states);
    mem_free(c);
}

static void observe(struct loss_term *t, int64_t evaluation, const struct tensor *z)
{
    struct correction *c = t->own;
    if (evaluation == 0)
        c->kept = 0;
    if (c->kept == c->at.count || evaluation != c->at.value[c->kept])
        return;
    struct tensor to = tensor_cut(&c->states[c->kept++], z);
    op_copy(t->be, &to, z);
}

/* A pre-training step has no solve and no iterates. A short solve has fewer than asked for. */
static void apply(struct loss_term *t, const struct loss_segment *s)
{
    struct correction *c = t->own;
    struct tensor last = equilibrium_state(s->eq);
    struct tensor h = tensor_cut(&c->h, &last), dz = tensor_cut(&c->dz, &last);
    double by = s->scale * t->weight / (double)c->at.count;
    int64_t count = equilibrium_is_solved(s->eq) ? c->kept : 0;
    for (int64_t i = 0; i < count; i++) {
        struct tensor z = tensor_cut(&c->states[i], &last);
        s->cell->ops->eval(s->cell, c->slot, &z, &h);
        struct tensor dh = s->loss_at(s->model, &h, &c->nll, by);
        s->cell->ops->vjp(s->cell, c->slot, &z, &h, &dh, &dz, true);
    }
}

const struct loss_term_kind correction_term = {
    .wanted = wanted,
    .weight = weight,
    .needs = needs,
    .create = create,
    .observe = observe,
    .apply = apply,
    .free = release,
};
