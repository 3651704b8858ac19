/* The parameters and buffers of the trellis cell. */
#include "cell/trellis/trellis_cell.h"

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
    weight.matrices = 4; /* of the gates */
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
    /* As published, the injection keeps its framework's default. */
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

static void bind_conv(struct trellis_cell *c, const struct params *p, const char *prefix,
                      struct causal_conv *conv, struct normed_weight *n, struct weight *bias)
{
    *bias = bound(p, prefix, "bias");
    if (!c->wnorm) {
        n->v = conv->weight = bound(p, prefix, "weight");
        return;
    }
    n->v = bound(p, prefix, "weight_v");
    n->g = bound(p, prefix, "weight_g");
    normed_weight_declare(n, &conv->weight, c->plan.ws);
}

static void declare_buffer(struct trellis_cell *c, struct tensor *t, const char *name,
                           struct lifetime life, const struct tensor *shape)
{
    struct buffer b = {.name = name,
                       .dtype = c->plan.ws->be->ops->real,
                       .ndim = shape->ndim,
                       .dim = {shape->dim[0], shape->dim[1], shape->dim[2]},
                       .life = life};
    workspace_declare(c->plan.ws, t, &b);
}

static struct tensor matrix(int64_t rows, int64_t cols)
{
    return tensor_make(NULL, DTYPE_F32, 2, rows, cols, 1, 1);
}

static void plan_drop(struct trellis_cell *c, const struct config_model *m)
{
    struct dropped_weight *d = &c->drop;
    int64_t rows = c->state_norm.v.w.dim[0], cols = c->state_norm.v.w.dim[1];
    struct tensor all = matrix(rows, cols), old = matrix(rows, cols - c->half);
    if (c->plan.mode < CELL_TRAIN || m->wdrop == 0)
        return;
    d->rate = m->wdrop;
    d->without_norm = !c->wnorm;
    declare_buffer(c, &d->mask, "weight drop: mask", lives_always(), &all);
    declare_buffer(c, &d->drawn, "weight drop: draw", lives(PHASE_BEGIN, PHASE_BEGIN), &old);
    declare_buffer(c, &d->v.w, "weight drop: v", lives(PHASE_BEGIN, PHASE_GRADIENTS), &all);
    declare_buffer(c, &d->v.dw, "weight drop: gradient", lives(PHASE_BEGIN, PHASE_GRADIENTS), &all);
}

static enum status plan_buffers(struct trellis_cell *c, struct error *err)
{
    const struct cell_plan *p = &c->plan;
    int64_t b = p->batch, pitch = p->length + c->pad, h = c->half;
    struct tensor embed = tensor_make(NULL, DTYPE_F32, 3, b, pitch, c->embed, 1);
    struct tensor hidden = embed, four = embed, one = matrix(b, h);
    struct lifetime segment = lives(PHASE_BEGIN, PHASE_GRADIENTS);
    struct lifetime gradients = lives(PHASE_GRADIENTS, PHASE_GRADIENTS);
    hidden.dim[2] = h;
    four.dim[2] = 4 * h;
    declare_buffer(c, &c->e_rows, "padded embeddings", segment, &embed);
    declare_buffer(c, &c->u, "injection", lives(PHASE_BEGIN, p->last_eval), &four);
    declare_buffer(c, &c->h_rows, "padded states", segment, &hidden);
    declare_buffer(c, &c->c0, "c before the segment", segment, &one);
    TRY(mem_alloc((void **)&c->gates, (size_t)p->slots, sizeof *c->gates, err));
    for (int i = 0; i < p->slots; i++)
        workspace_declare(p->ws, &c->gates[i],
                          &(struct buffer){.name = "gates",
                                           .dtype = p->ws->be->ops->real,
                                           .ndim = 3,
                                           .dim = {b, pitch, 4 * h},
                                           .life = cell_slot_life(p, i),
                                           .part = PART_ACTIVATIONS});
    if (p->mode < CELL_VJP)
        return STATUS_OK;
    declare_buffer(c, &c->dpre, "gradient of gates", cell_vjp_life(p), &four);
    declare_buffer(c, &c->dh, "gradient of states", cell_vjp_life(p), &hidden);
    if (p->mode < CELL_TRAIN)
        return STATUS_OK;
    declare_buffer(c, &c->du, "gradient of the injection", gradients, &four);
    if (c->dropouth > 0)
        declare_buffer(c, &c->mask_hidden, "dropout of states", lives_always(), &one);
    return STATUS_OK;
}

static enum status plan_memory(struct trellis_cell *c, struct error *err)
{
    bool any = c->plan.mem_len > 0;
    int64_t states = c->pad > 1 && !c->published ? c->pad : 1, embeds = c->inject.taps - 1;
    int64_t widest = states * 2 * c->half;
    TRY(cell_declare_memories(&c->plan, &c->states, any ? states : 0, 2 * c->half, err));
    if (!c->published && embeds > 0)
        TRY(cell_declare_memories(&c->plan, &c->embeds, any ? embeds : 0, c->embed, err));
    if (embeds * c->embed > widest)
        widest = embeds * c->embed;
    struct tensor kept = matrix(c->plan.batch, widest);
    declare_buffer(c, &c->kept, "rows kept", lives(PHASE_REMEMBER, PHASE_REMEMBER), &kept);
    return STATUS_OK;
}

enum status trellis_cell_init(struct cell *base, struct error *err)
{
    struct trellis_cell *c = (struct trellis_cell *)base;
    struct dropped_weight *d = &c->drop;
    (void)err;
    if (d->rate == 0)
        return STATUS_OK;
    op_fill(base->be, &d->mask, 1.0);
    if (d->without_norm)
        c->state.weight = d->v;
    else
        c->state.weight.dw = d->v.dw; /* a segment's own, as the weight is */
    return STATUS_OK;
}

void trellis_cell_free(struct cell *base)
{
    struct trellis_cell *c = (struct trellis_cell *)base;
    mem_free(c->gates);
    mem_free(c->states);
    mem_free(c->embeds);
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
    bind_conv(c, params, STATE, &c->state, &c->state_norm, &c->state_bias);
    bind_conv(c, params, INJECT, &c->inject, &c->inject_norm, &c->inject_bias);
    plan_drop(c, m);
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
