#include "train/optimizer.h"

#include <math.h>

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
    TRY(op_alloc(be, &o->m, be->ops->real, 1, params->total, 1, 1, 1, err));
    TRY(op_alloc(be, &o->v, be->ops->real, 1, params->total, 1, 1, 1, err));
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

/* Decay pulls matrices towards zero; biases, gains and norms of weight normalisation are left. */
static void step_with_decay(const struct optimizer *o, struct adam all)
{
    const struct params *p = o->params;
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        struct adam one = all;
        one.w = tensor_slice(&all.w, q->offset, param_count(q));
        one.g = tensor_slice(&all.g, q->offset, param_count(q));
        one.m = tensor_slice(&all.m, q->offset, param_count(q));
        one.v = tensor_slice(&all.v, q->offset, param_count(q));
        one.decay = q->ndim == 2 ? o->decay : 0;
        op_adam(p->be, &one);
    }
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
    params_split_aliases(p);
    if (o->decoupled_decay && o->decay > 0)
        step_with_decay(o, all);
    else
        op_adam(p->be, &all);
    params_join_aliases(p);
}
