/* Fixed-point correction (Bai, Geng, Savani, Kolter 2022): the loss is also taken at earlier
 * iterates of the solve, which teaches f to be near its fixed point after few evaluations. An
 * iterate z_k passes its gradient through f once, since the output is f(z_k) with z_k constant. */
#include "base/mem.h"
#include "deq/loss_term.h"

struct correction {
    int tape;              /* of the cell */
    struct config_list at; /* evaluations whose iterates are kept, ascending */
    struct tensor *states; /* owns: [at.count] of [B,L,W] */
    int64_t kept;          /* iterates kept of the current solve */
    struct tensor h, dz;   /* owns: [B,L,W] */
    struct tensor nll;     /* owns: [B*L] */
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
    return (struct loss_term_needs){.cell = true, .spare_tape = true};
}

static enum status create(struct loss_term *t, const struct loss_term_plan *plan, struct error *err)
{
    struct correction *c = NULL;
    enum dtype real = t->be->ops->real;
    int64_t b = plan->batch, l = plan->length, w = plan->cell->width;
    TRY(mem_alloc(&t->own, 1, sizeof *c, err));
    c = t->own;
    c->tape = plan->spare_tape;
    c->at = plan->config->correction.at;
    TRY(mem_alloc((void **)&c->states, (size_t)c->at.count, sizeof *c->states, err));
    for (int64_t i = 0; i < c->at.count; i++)
        TRY(op_alloc(t->be, &c->states[i], real, 3, b, l, w, 1, err));
    TRY(op_alloc(t->be, &c->h, real, 3, b, l, w, 1, err));
    TRY(op_alloc(t->be, &c->dz, real, 3, b, l, w, 1, err));
    return op_alloc(t->be, &c->nll, real, 1, b * l, 1, 1, 1, err);
}

static void release(struct loss_term *t)
{
    struct correction *c = t->own;
    if (c == NULL)
        return;
    for (int64_t i = 0; i < c->at.count && c->states != NULL; i++)
        op_release(t->be, &c->states[i]);
    op_release(t->be, &c->h);
    op_release(t->be, &c->dz);
    op_release(t->be, &c->nll);
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

/* A pre-training step has no solve and thus no iterates. A short solve has fewer than asked for. */
static void apply(struct loss_term *t, const struct loss_segment *s)
{
    struct correction *c = t->own;
    struct tensor last = equilibrium_state(s->eq);
    struct tensor h = tensor_cut(&c->h, &last), dz = tensor_cut(&c->dz, &last);
    double by = s->scale * t->weight / (double)c->at.count;
    int64_t count = equilibrium_is_solved(s->eq) ? c->kept : 0;
    for (int64_t i = 0; i < count; i++) {
        struct tensor z = tensor_cut(&c->states[i], &last);
        s->cell->ops->eval(s->cell, c->tape, &z, &h);
        struct tensor dh = s->loss_at(s->model, &h, &c->nll, by);
        s->cell->ops->vjp(s->cell, c->tape, &z, &h, &dh, &dz, true);
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
