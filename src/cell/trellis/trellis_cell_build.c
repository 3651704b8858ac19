#include "cell/trellis/trellis_cell_impl.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>

/* Names of the published code. */
static const char STATE[] = "trellisnet.func.full_conv";
static const char INJECT[] = "trellisnet.inject_conv";

static int64_t half_of(const struct config_model *m)
{
    return m->nhid + m->nout;
}

/* Weight (or v and g) and bias of one convolution [4H, taps * in], whose first values are as in
 * `like`. */
static enum status declare_conv(struct params *p, const struct config_model *m, const char *prefix,
                                int64_t in, const struct param_spec *like, struct error *err)
{
    char name[PARAM_NAME_MAX];
    struct param_spec weight = *like, gain = *like, bias = *like;
    int v, g;
    weight.name = gain.name = bias.name = name;
    weight.rows = gain.rows = bias.rows = 4 * half_of(m);
    weight.cols = m->ksize * in;
    weight.taps = m->ksize;
    gain.init = INIT_ROW_NORM;
    snprintf(name, sizeof name, "%s.weight%s", prefix, m->wnorm ? "_v" : "");
    TRY(params_add(p, &weight, &v, err));
    if (m->wnorm) {
        snprintf(name, sizeof name, "%s.weight_g", prefix);
        TRY(params_add(p, &gain, &g, err));
        p->list[g].norm_of = v;
    }
    snprintf(name, sizeof name, "%s.bias", prefix);
    return params_add(p, &bias, NULL, err);
}

static enum status declare(struct params *p, const struct config_model *m, struct error *err)
{
    /* as published: the injection keeps its framework's default */
    const struct param_spec f = {.part = "f", .init = INIT_NORMAL, .scale = m->init_std};
    const struct param_spec injection = {.part = "injection",
                                         .init = INIT_UNIFORM,
                                         .scale = 1.0 / sqrt((double)(m->d_embed * m->ksize))};
    TRY(declare_conv(p, m, STATE, half_of(m), &f, err));
    return declare_conv(p, m, INJECT, m->d_embed, &injection, err);
}

static struct cell_io io(const struct config_model *m)
{
    return (struct cell_io){.input = m->d_embed,
                            .state = 2 * half_of(m),
                            .output_start = m->nhid,
                            .output = m->nout,
                            .embed_scale = 1,
                            .dropout_in = m->dropouti,
                            .dropout_out = m->dropout};
}

static struct weight bound(const struct params *p, const char *prefix, const char *name)
{
    char full[PARAM_NAME_MAX];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    int index = params_find(p, full);
    assert(index >= 0);
    return params_weight(p, index);
}

static enum status bind_conv(struct trellis_cell *c, const struct params *p, const char *prefix,
                             struct causal_conv *conv, struct normed_weight *n, struct weight *bias,
                             struct error *err)
{
    *bias = bound(p, prefix, "bias");
    if (!c->wnorm) {
        n->v = conv->weight = bound(p, prefix, "weight");
        return STATUS_OK;
    }
    n->v = bound(p, prefix, "weight_v");
    n->g = bound(p, prefix, "weight_g");
    return normed_weight_create(n, &conv->weight, c->base.be, err);
}

static enum status plan_drop(struct trellis_cell *c, const struct config_model *m,
                             struct error *err)
{
    struct backend *be = c->base.be;
    struct dropped_weight *d = &c->drop;
    enum dtype real = be->ops->real;
    int64_t rows = c->state_norm.v.w.dim[0], cols = c->state_norm.v.w.dim[1];
    if (!c->plan.train || m->wdrop == 0)
        return STATUS_OK;
    d->rate = m->wdrop;
    d->without_norm = !c->wnorm;
    TRY(op_alloc(be, &d->mask, real, 2, rows, cols, 1, 1, err));
    TRY(op_alloc(be, &d->drawn, real, 2, rows, cols - c->half, 1, 1, err));
    TRY(op_alloc(be, &d->v.w, real, 2, rows, cols, 1, 1, err));
    TRY(op_alloc(be, &d->v.dw, real, 2, rows, cols, 1, 1, err));
    op_fill(be, &d->mask, 1.0);
    if (d->without_norm)
        c->state.weight = d->v;
    else
        c->state.weight.dw = d->v.dw; /* a segment's own, as the weight is */
    return STATUS_OK;
}

static enum status plan_buffers(struct trellis_cell *c, struct error *err)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    enum dtype real = be->ops->real;
    int64_t b = p->batch, pitch = p->length + c->pad, h = c->half;
    TRY(op_alloc(be, &c->e_rows, real, 3, b, pitch, c->embed, 1, err));
    TRY(op_alloc(be, &c->u, real, 3, b, pitch, 4 * h, 1, err));
    TRY(op_alloc(be, &c->h_rows, real, 3, b, pitch, h, 1, err));
    TRY(op_alloc(be, &c->c0, real, 2, b, h, 1, 1, err));
    TRY(mem_alloc((void **)&c->gates, (size_t)p->tapes, sizeof *c->gates, err));
    enum memory_part before = op_part(be, PART_TAPES);
    for (int i = 0; i < p->tapes; i++)
        TRY(op_alloc(be, &c->gates[i], real, 3, b, pitch, 4 * h, 1, err));
    op_part(be, before);
    if (!p->vjp)
        return STATUS_OK;
    TRY(op_alloc(be, &c->dpre, real, 3, b, pitch, 4 * h, 1, err));
    TRY(op_alloc(be, &c->dh, real, 3, b, pitch, h, 1, err));
    if (!p->train)
        return STATUS_OK;
    if (p->one_vjp)
        c->du = c->dpre;
    else
        TRY(op_alloc(be, &c->du, real, 3, b, pitch, 4 * h, 1, err));
    if (c->dropouth == 0)
        return STATUS_OK;
    return op_alloc(be, &c->mask_hidden, real, 2, b, h, 1, 1, err);
}

static enum status create_memories(struct trellis_cell *c, struct memory **list, int64_t rows,
                                   int64_t width, struct error *err)
{
    const struct cell_plan *p = &c->plan;
    TRY(mem_alloc((void **)list, (size_t)p->memories, sizeof **list, err));
    for (int i = 0; i < p->memories; i++)
        TRY(memory_create(&(*list)[i], c->base.be, p->batch, rows, width, err));
    return STATUS_OK;
}

static enum status plan_memory(struct trellis_cell *c, struct error *err)
{
    struct backend *be = c->base.be;
    bool any = c->plan.mem_len > 0;
    int64_t states = c->pad > 1 && !c->published ? c->pad : 1, embeds = c->inject.taps - 1;
    int64_t widest = states * 2 * c->half;
    TRY(create_memories(c, &c->states, any ? states : 0, 2 * c->half, err));
    if (!c->published && embeds > 0)
        TRY(create_memories(c, &c->embeds, any ? embeds : 0, c->embed, err));
    if (embeds * c->embed > widest)
        widest = embeds * c->embed;
    return op_alloc(be, &c->kept, be->ops->real, 1, c->plan.batch * widest, 1, 1, 1, err);
}

static void free_memories(struct trellis_cell *c, struct memory *list)
{
    for (int i = 0; list != NULL && i < c->plan.memories; i++)
        memory_free(&list[i], c->base.be);
    mem_free(list);
}

void trellis_cell_free(struct cell *base)
{
    struct trellis_cell *c = (struct trellis_cell *)base;
    struct backend *be = base->be;
    struct tensor *const owned[] = {&c->e_rows,    &c->u,        &c->h_rows,    &c->c0,
                                    &c->dpre,      &c->dh,       &c->kept,      &c->mask_hidden,
                                    &c->drop.mask, &c->drop.v.w, &c->drop.v.dw, &c->drop.drawn};
    if (c->wnorm) {
        normed_weight_free(&c->state_norm, &c->state.weight, be);
        normed_weight_free(&c->inject_norm, &c->inject.weight, be);
    }
    if (!c->plan.one_vjp)
        op_release(be, &c->du);
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        op_release(be, owned[i]);
    for (int i = 0; i < c->plan.tapes && c->gates != NULL; i++)
        op_release(be, &c->gates[i]);
    mem_free(c->gates);
    free_memories(c, c->states);
    free_memories(c, c->embeds);
    mem_free(c);
}

static enum status create(struct cell **out, const struct params *params,
                          const struct config_model *m, const struct cell_plan *plan,
                          struct error *err)
{
    struct trellis_cell *c = NULL;
    enum status status = STATUS_OK;
    *out = NULL;
    TRY(mem_alloc((void **)&c, 1, sizeof *c, err));
    c->base = (struct cell){
        .ops = &trellis_cell_ops, .be = params->be, .io = io(m), .width = 2 * half_of(m)};
    c->plan = *plan;
    c->half = half_of(m);
    c->embed = m->d_embed;
    c->published = m->compat;
    c->wnorm = m->wnorm;
    c->dropouth = m->dropouth;
    c->state = (struct causal_conv){.taps = m->ksize, .dilation = m->dilation};
    c->inject = (struct causal_conv){.taps = m->ksize, .dilation = 1};
    c->pad = causal_conv_history(&c->state);
    TRY_OUT(bind_conv(c, params, STATE, &c->state, &c->state_norm, &c->state_bias, err));
    TRY_OUT(bind_conv(c, params, INJECT, &c->inject, &c->inject_norm, &c->inject_bias, err));
    TRY_OUT(plan_drop(c, m, err));
    TRY_OUT(plan_buffers(c, err));
    TRY_OUT(plan_memory(c, err));
    *out = &c->base;
    return STATUS_OK;
out:
    trellis_cell_free(&c->base);
    return status;
}

/* As published. Narrower embeddings for rarer words never were, so that their names are ours. */
static const struct cell_vocabulary *vocabulary(const struct config_model *model)
{
    static const struct cell_vocabulary plain = {
        .table = "encoder.weight",
        .projection = "encoder.proj.%d.weight",
        .out_table = "decoder.weight",
        .out_bias = "decoder.bias",
        .out_projection = "decoder.proj.%d.weight",
        .cluster_rows = "tail_vectors",
        .cluster_bias = "tail_bias",
        .table_range = 0.1,
        .cluster_rows_start_at_zero = true,
    };
    static const struct cell_vocabulary narrowing = {
        .table = "encoder.%d.weight",
        .projection = "encoder.proj.%d.weight",
        .out_table = "decoder.%d.weight",
        .out_bias = "decoder.%d.bias",
        .out_projection = "decoder.proj.%d.weight",
        .cluster_rows = "tail_vectors",
        .cluster_bias = "tail_bias",
        .table_range = 0.1,
        .cluster_rows_start_at_zero = true,
    };
    return model->div_val > 1 ? &narrowing : &plain;
}

const struct cell_kind trellis_cell_kind = {
    .io = io, .vocabulary = vocabulary, .declare = declare, .create = create};
