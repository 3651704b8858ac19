#include "train/optimizer.h"

#include <math.h>

static const double CLIP_EPS = 1e-6; /* as in struct adam */

enum status optimizer_create(struct optimizer *o, struct params *params,
                             const struct config_train *train, struct error *err)
{
    struct backend *be = params->be;
    *o = (struct optimizer){
        .params = params,
        .decoupled_decay = train->optimizer == OPTIMIZER_ADAMW,
        .beta1 = train->beta1,
        .beta2 = train->beta2,
        .eps = train->eps,
        .decay = train->weight_decay,
        .clip = train->clip,
    };
    enum memory_part before = op_part(be, PART_OPTIMIZER);
    TRY(op_alloc(be, &o->m, be->ops->real, 1, params->total, 1, 1, 1, err));
    TRY(op_alloc(be, &o->v, be->ops->real, 1, params->total, 1, 1, 1, err));
    op_part(be, before);
    return op_alloc(be, &o->norm2, DTYPE_F64, 1, 1, 1, 1, 1, err);
}

void optimizer_free(struct optimizer *o)
{
    if (o->params == NULL)
        return;
    struct backend *be = o->params->be;
    op_release(be, &o->m);
    op_release(be, &o->v);
    op_release(be, &o->norm2);
    *o = (struct optimizer){0};
}

/* Whether decay pulls the parameter towards zero: matrices, not biases, gains and norms. */
static bool decays(const struct optimizer *o, const struct param *q)
{
    return o->decay > 0 && q->ndim == 2;
}

static struct tensor part(const struct tensor *flat, const struct param *q)
{
    return tensor_slice(flat, q->offset, param_count(q));
}

static void step_decoupled(const struct optimizer *o, const struct adam *all)
{
    const struct params *p = o->params;
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        struct adam one = *all;
        one.w = part(&all->w, q);
        one.g = part(&all->g, q);
        one.m = part(&all->m, q);
        one.v = part(&all->v, q);
        one.decay = decays(o, q) ? o->decay : 0;
        op_adam(p->be, &one);
    }
}

/* Plain Adam: the decay is a term of the (clipped) gradient. */
static void add_decay(const struct optimizer *o, struct adam *all, double norm)
{
    const struct params *p = o->params;
    double scale = o->clip == 0 ? 1 : fmin(1, o->clip / (norm + CLIP_EPS));
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        struct tensor g = part(&all->g, q), w = part(&all->w, q);
        op_axpby(p->be, &g, decays(o, q) ? o->decay : 0, &w, scale);
    }
    all->clip = 0;
}

void optimizer_step(struct optimizer *o, double lr, double *norm)
{
    struct params *p = o->params;
    double norm2 = 0;
    op_fill(p->be, &o->norm2, 0);
    op_sum_squares(p->be, &o->norm2, &p->g);
    op_download(p->be, &norm2, DTYPE_F64, &o->norm2);
    *norm = sqrt(norm2);
    if (!isfinite(norm2))
        return;
    o->updates++;
    struct adam all = {.w = p->w,
                       .g = p->g,
                       .m = o->m,
                       .v = o->v,
                       .norm2 = o->norm2,
                       .lr = lr,
                       .beta1 = o->beta1,
                       .beta2 = o->beta2,
                       .eps = o->eps,
                       .clip = o->clip,
                       .step = o->updates};
    bool coupled = o->decay > 0 && !o->decoupled_decay;
    if (coupled)
        add_decay(o, &all, *norm); /* reads the weights: before aliases are split */
    params_split_aliases(p);
    if (o->decay > 0 && !coupled)
        step_decoupled(o, &all);
    else
        op_adam(p->be, &all);
    params_join_aliases(p);
}
