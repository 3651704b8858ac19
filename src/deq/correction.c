#include "deq/correction.h"

#include "base/mem.h"
#include "deq/model.h"

enum status correction_create(struct correction *c, struct model *m, int spare_tape,
                              struct error *err)
{
    struct backend *be = m->be;
    enum dtype real = be->ops->real;
    int64_t b = m->plan.batch, l = m->plan.length, w = m->cell->width;
    *c = (struct correction){.wanted = m->plan.train && m->config.correction.weight > 0,
                             .tape = spare_tape,
                             .at = m->config.correction.at};
    if (!c->wanted)
        return STATUS_OK;
    TRY(mem_alloc((void **)&c->states, (size_t)c->at.count, sizeof *c->states, err));
    for (int64_t i = 0; i < c->at.count; i++)
        TRY(op_alloc(be, &c->states[i], real, 3, b, l, w, 1, err));
    struct tensor *const all[] = {&c->h, &c->dz};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        TRY(op_alloc(be, all[i], real, 3, b, l, w, 1, err));
    TRY(op_alloc(be, &c->nll, real, 1, b * l, 1, 1, 1, err));
    m->eq->keep_at = &c->at;
    m->eq->kept = c->states;
    return STATUS_OK;
}

void correction_free(struct correction *c, struct model *m)
{
    struct tensor *const all[] = {&c->h, &c->dz, &c->nll};
    for (int64_t i = 0; i < c->at.count && c->states != NULL; i++)
        op_release(m->be, &c->states[i]);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(m->be, all[i]);
    mem_free(c->states);
}

void correction_apply(struct correction *c, struct model *m, double scale)
{
    const struct equilibrium *eq = m->eq;
    struct cell *cell = m->cell;
    struct tensor h = tensor_cut(&c->h, &eq->z), dz = tensor_cut(&c->dz, &eq->z);
    double by = scale * m->config.correction.weight / (double)c->at.count;
    /* none in pre-training, which has no solve, and fewer if the solve was shorter */
    for (int64_t i = 0; i < eq->kept_count; i++) {
        struct tensor z = tensor_cut(&c->states[i], &eq->z);
        cell->ops->eval(cell, c->tape, &z, &h);
        model_output_loss(m, &h, &c->nll, by, true);
        struct tensor dh = model_state_gradient(m); /* the segment's own has been used */
        cell->ops->vjp(cell, c->tape, &z, &h, &dh, &dz, true);
    }
}
