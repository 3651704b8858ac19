#include "model/transformer_cell_impl.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Distances beyond which the published code masks keys when no local size is given. */
enum { PUBLISHED_SPAN = 1000 };

static const char *const matrix_names[NORMED_WEIGHTS] = {
    "dec_attn.qkv_net.weight", "dec_attn.r_net.weight", "dec_attn.o_net.weight",
    "pos_ff.ff1_net.weight",   "pos_ff.ff2_net.weight",
};

/* The name of a parameter of block j: "func.NAME" for a single block, as published, else
 * "func.blocks.j.NAME"; `suffix` is appended. */
static void block_name(char *out, const struct config_model *m, int64_t j, const char *name,
                       const char *suffix)
{
    if (m->blocks == 1)
        snprintf(out, PARAM_NAME_MAX, "func.%s%s", name, suffix);
    else
        snprintf(out, PARAM_NAME_MAX, "func.blocks.%d.%s%s", (int)j, name, suffix);
}

static void inject_name(char *out, const struct config_model *m, int64_t j, const char *name)
{
    if (m->blocks == 1)
        snprintf(out, PARAM_NAME_MAX, "inject_conv.%s", name);
    else
        snprintf(out, PARAM_NAME_MAX, "inject_conv.%d.%s", (int)j, name);
}

static void matrix_sizes(const struct config_model *m, int which, int64_t size[2])
{
    const int64_t d = m->d_model, i = m->d_inner;
    const int64_t sizes[NORMED_WEIGHTS][2] = {{3 * d, d}, {d, d}, {d, d}, {i, d}, {d, i}};
    size[0] = sizes[which][0];
    size[1] = sizes[which][1];
}

static enum status declare_matrix(struct params *p, const struct config_model *m, int64_t j,
                                  int which, struct error *err)
{
    char name[PARAM_NAME_MAX];
    int64_t size[2];
    int v, g;
    matrix_sizes(m, which, size);
    if (!m->wnorm) {
        block_name(name, m, j, matrix_names[which], "");
        return params_add(p, name, "f", 2, size[0], size[1], INIT_NORMAL, m->init_std, &v, err);
    }
    /* Published quirk (model-spec 1.6): normalised matrices keep the framework's default. */
    enum param_init init = m->compat ? INIT_UNIFORM : INIT_NORMAL;
    double scale = m->compat ? 1.0 / sqrt((double)size[1]) : m->init_std;
    block_name(name, m, j, matrix_names[which], "_v");
    TRY(params_add(p, name, "f", 2, size[0], size[1], init, scale, &v, err));
    block_name(name, m, j, matrix_names[which], "_g");
    TRY(params_add(p, name, "f", 1, size[0], 1, INIT_ROW_NORM, 0, &g, err));
    p->list[g].norm_of = v;
    return STATUS_OK;
}

/* The vectors of a block: name, sizes (in units of d_model, d_inner or heads), first values. */
struct vector_spec {
    const char *name;
    int64_t d0, d1;
    enum param_init init;
    bool only_rms;
};

enum {
    VECTORS = 7,
    VEC_O_BIAS = 0,
    VEC_FF1_BIAS,
    VEC_FF2_BIAS,
    VEC_R_W,
    VEC_R_R,
    VEC_ATTN_GAIN,
    VEC_FF_GAIN
};

static void vector_specs(const struct config_model *m, struct vector_spec spec[VECTORS])
{
    const struct vector_spec all[VECTORS] = {
        {"dec_attn.o_net.bias", m->d_model, 1, INIT_ZERO, false},
        {"pos_ff.ff1_net.bias", m->d_inner, 1, INIT_ZERO, false},
        {"pos_ff.ff2_net.bias", m->d_model, 1, INIT_ZERO, false},
        {"dec_attn.r_w_bias", m->n_head, m->d_head, INIT_NORMAL, false},
        {"dec_attn.r_r_bias", m->n_head, m->d_head, INIT_NORMAL, false},
        {"dec_attn.norm.gain", m->d_model, 1, INIT_ONE, true},
        {"pos_ff.norm.gain", m->d_model, 1, INIT_ONE, true},
    };
    memcpy(spec, all, sizeof all);
}

enum status transformer_cell_declare(struct params *p, const struct config_model *m,
                                     struct error *err)
{
    struct vector_spec spec[VECTORS];
    char name[PARAM_NAME_MAX];
    int index;
    vector_specs(m, spec);
    for (int64_t j = 0; j < m->blocks; j++) {
        for (int i = 0; i < NORMED_WEIGHTS; i++)
            TRY(declare_matrix(p, m, j, i, err));
        for (int i = 0; i < VECTORS; i++) {
            if (spec[i].only_rms && m->norm != CONFIG_NORM_RMS)
                continue;
            block_name(name, m, j, spec[i].name, "");
            TRY(params_add(p, name, "f", spec[i].d1 == 1 ? 1 : 2, spec[i].d0, spec[i].d1,
                           spec[i].init, m->init_std, &index, err));
        }
        inject_name(name, m, j, "weight");
        TRY(params_add(p, name, "injection", 2, 3 * m->d_model, m->d_model, INIT_NORMAL,
                       m->init_std, &index, err));
        inject_name(name, m, j, "bias");
        TRY(params_add(p, name, "injection", 1, 3 * m->d_model, 1, INIT_ZERO, 0, &index, err));
    }
    return STATUS_OK;
}

static struct weight bound(const struct params *p, const char *name)
{
    int index = params_find(p, name);
    assert(index >= 0);
    return params_weight(p, index);
}

static enum status bind_matrix(struct transformer_cell *c, struct transformer_cell_block *b,
                               const struct params *p, const struct config_model *m, int64_t j,
                               int which, struct error *err)
{
    struct weight *const target[NORMED_WEIGHTS] = {&b->w.qkv, &b->w.r, &b->w.o, &b->w.ff1,
                                                   &b->w.ff2};
    char name[PARAM_NAME_MAX];
    if (!m->wnorm) {
        block_name(name, m, j, matrix_names[which], "");
        *target[which] = bound(p, name);
        return STATUS_OK;
    }
    struct backend *be = c->base.be;
    struct normed_weight *n = &b->normed[which];
    int64_t size[2];
    matrix_sizes(m, which, size);
    block_name(name, m, j, matrix_names[which], "_v");
    n->v = bound(p, name);
    block_name(name, m, j, matrix_names[which], "_g");
    n->g = bound(p, name);
    TRY(op_alloc(be, &n->inv, be->ops->real, 1, size[0], 1, 1, 1, err));
    TRY(op_alloc(be, &target[which]->w, be->ops->real, 2, size[0], size[1], 1, 1, err));
    if (c->plan.train)
        TRY(op_alloc(be, &target[which]->dw, be->ops->real, 2, size[0], size[1], 1, 1, err));
    return STATUS_OK;
}

static enum status bind_block(struct transformer_cell *c, const struct params *p,
                              const struct config_model *m, int64_t j, struct error *err)
{
    struct transformer_cell_block *b = &c->block[j];
    struct weight *const target[VECTORS] = {&b->w.o_bias, &b->w.ff1_bias, &b->w.ff2_bias,
                                            &b->w.r_w,    &b->w.r_r,      &b->w.attn_gain,
                                            &b->w.ff_gain};
    struct vector_spec spec[VECTORS];
    char name[PARAM_NAME_MAX];
    vector_specs(m, spec);
    for (int i = 0; i < NORMED_WEIGHTS; i++)
        TRY(bind_matrix(c, b, p, m, j, i, err));
    for (int i = 0; i < VECTORS; i++) {
        if (spec[i].only_rms && m->norm != CONFIG_NORM_RMS)
            continue;
        block_name(name, m, j, spec[i].name, "");
        *target[i] = bound(p, name);
    }
    inject_name(name, m, j, "weight");
    b->inject = bound(p, name);
    inject_name(name, m, j, "bias");
    b->inject_bias = bound(p, name);
    return STATUS_OK;
}

static enum status create_memories(struct transformer_cell *c, struct memory **list, int64_t width,
                                   struct error *err)
{
    const struct cell_plan *p = &c->plan;
    TRY(mem_alloc((void **)list, (size_t)p->memories, sizeof **list, err));
    for (int i = 0; i < p->memories; i++)
        TRY(memory_create(&(*list)[i], c->base.be, p->batch, p->mem_len, width, err));
    return STATUS_OK;
}

static void free_memories(struct transformer_cell *c, struct memory *list)
{
    for (int i = 0; list != NULL && i < c->plan.memories; i++)
        memory_free(&list[i], c->base.be);
    mem_free(list);
}

static enum status plan_memory(struct transformer_cell *c, struct transformer_cell_block *b,
                               struct error *err)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    int64_t d = c->shape.d_model;
    if (!p->keep_states)
        return create_memories(c, &b->mem_kv, 3 * d, err);
    TRY(create_memories(c, &b->mem_z, d, err));
    TRY(create_memories(c, &b->mem_u, 3 * d, err));
    if (p->mem_len == 0)
        return STATUS_OK;
    TRY(op_alloc(be, &b->mem_qkv, be->ops->real, 3, p->batch, p->mem_len, 3 * d, 1, err));
    if (c->shape.pre_norm)
        TRY(op_alloc(be, &b->mem_normed, be->ops->real, 3, p->batch, p->mem_len, d, 1, err));
    if (!p->train)
        return STATUS_OK;
    int64_t rows = p->batch * p->mem_len;
    TRY(op_alloc(be, &b->dmem, be->ops->real, 2, rows, 3 * d, 1, 1, err));
    if (!c->shape.pre_norm || b->w.attn_gain.w.data == NULL)
        return STATUS_OK;
    TRY(op_alloc(be, &b->mem_xhat, be->ops->real, 2, rows, d, 1, 1, err));
    TRY(op_alloc(be, &b->mem_rstd, be->ops->real, 1, rows, 1, 1, 1, err));
    return op_alloc(be, &b->dmem_in, be->ops->real, 2, rows, d, 1, 1, err);
}

static enum status plan_masks(struct transformer_cell *c, struct transformer_cell_block *b,
                              struct error *err)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    const struct block_shape *s = &c->shape;
    if (p->dropatt > 0)
        TRY(op_alloc(be, &b->mask_attention, DTYPE_U8, 4, p->batch, s->n_head, p->length,
                     p->mem_len + p->length, err));
    if (p->dropout == 0)
        return STATUS_OK;
    TRY(op_alloc(be, &b->mask_attn_out, be->ops->real, 2, p->batch, s->d_model, 1, 1, err));
    TRY(op_alloc(be, &b->mask_ff1, be->ops->real, 2, p->batch, s->d_inner, 1, 1, err));
    return op_alloc(be, &b->mask_ff2, be->ops->real, 2, p->batch, s->d_model, 1, 1, err);
}

/* For second derivatives. */
static enum status plan_tangents(struct transformer_cell *c, struct error *err)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    enum dtype real = be->ops->real;
    int64_t d = c->shape.d_model;
    if (!p->tangents)
        return STATUS_OK;
    TRY(tangent_scratch_create(&c->more, be, &c->shape, p->batch, p->length, err));
    for (int i = 0; i < 2; i++) {
        TRY(op_alloc(be, &c->pair_d[i], real, 3, p->batch, p->length, d, 1, err));
        TRY(op_alloc(be, &c->pair_t[i], real, 3, p->batch, p->length, d, 1, err));
    }
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        TRY(block_tangent_create(&b->tangent, be, &c->shape, p->batch, p->length, err));
        if (j + 1 < c->blocks)
            TRY(op_alloc(be, &b->output_t, real, 3, p->batch, p->length, d, 1, err));
    }
    return STATUS_OK;
}

static enum status plan_block(struct transformer_cell *c, int64_t j, struct error *err)
{
    struct transformer_cell_block *b = &c->block[j];
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    enum dtype real = be->ops->real;
    int64_t d = c->shape.d_model, n = p->batch * p->length, r = c->positions.dim[0];
    TRY(op_alloc(be, &b->u, real, 3, p->batch, p->length, 3 * d, 1, err));
    TRY(op_alloc(be, &b->rk, real, 2, r, d, 1, 1, err));
    if (p->train) {
        TRY(op_alloc(be, &b->du, real, 2, n, 3 * d, 1, 1, err));
        TRY(op_alloc(be, &b->drk, real, 2, r, d, 1, 1, err));
        TRY(plan_masks(c, b, err));
    }
    TRY(plan_memory(c, b, err));
    TRY(mem_alloc((void **)&b->tapes, (size_t)p->tapes, sizeof *b->tapes, err));
    TRY(mem_alloc((void **)&b->outputs, (size_t)p->tapes, sizeof *b->outputs, err));
    for (int i = 0; i < p->tapes; i++) {
        TRY(block_tape_create(&b->tapes[i], be, &c->shape, p->batch, p->length, err));
        if (j + 1 < c->blocks)
            TRY(op_alloc(be, &b->outputs[i], real, 3, p->batch, p->length, d, 1, err));
    }
    return STATUS_OK;
}

/* Sinusoids of the distances, sines first (model-spec 1, step 4). */
static enum status plan_positions(struct transformer_cell *c, struct error *err)
{
    struct backend *be = c->base.be;
    int64_t d = c->shape.d_model, rows = c->plan.mem_len + c->plan.length;
    if (c->shape.span > 0 && c->shape.span < rows)
        rows = c->shape.span;
    TRY(op_alloc(be, &c->positions, be->ops->real, 2, rows, d, 1, 1, err));
    if (c->plan.train && c->plan.dropout > 0) {
        TRY(op_alloc(be, &c->positions_in, be->ops->real, 2, rows, d, 1, 1, err));
        TRY(op_alloc(be, &c->mask_pos, be->ops->real, 1, d, 1, 1, 1, err));
    }
    double *host = NULL;
    TRY(mem_alloc((void **)&host, (size_t)(rows * d), sizeof *host, err));
    for (int64_t p = 0; p < rows; p++) {
        for (int64_t i = 0; i < d / 2; i++) {
            double angle = (double)p * pow(10000.0, -2.0 * (double)i / (double)d);
            host[p * d + i] = sin(angle);
            host[p * d + d / 2 + i] = cos(angle);
        }
    }
    op_upload(be, &c->positions, host, DTYPE_F64);
    mem_free(host);
    return STATUS_OK;
}

static void free_block(struct transformer_cell *c, struct transformer_cell_block *b)
{
    struct backend *be = c->base.be;
    struct weight *const matrix[NORMED_WEIGHTS] = {&b->w.qkv, &b->w.r, &b->w.o, &b->w.ff1,
                                                   &b->w.ff2};
    struct tensor *const owned[] = {&b->u,
                                    &b->du,
                                    &b->mem_normed,
                                    &b->mem_qkv,
                                    &b->dmem,
                                    &b->rk,
                                    &b->drk,
                                    &b->mask_ff1,
                                    &b->mask_attention,
                                    &b->mask_ff2,
                                    &b->mask_attn_out,
                                    &b->mem_xhat,
                                    &b->mem_rstd,
                                    &b->dmem_in,
                                    &b->output_t};
    for (int i = 0; i < NORMED_WEIGHTS && c->wnorm; i++) {
        op_release(be, &b->normed[i].inv);
        op_release(be, &matrix[i]->w);
        op_release(be, &matrix[i]->dw);
    }
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        op_release(be, owned[i]);
    free_memories(c, b->mem_z);
    free_memories(c, b->mem_u);
    free_memories(c, b->mem_kv);
    for (int i = 0; i < c->plan.tapes && b->tapes != NULL && b->outputs != NULL; i++) {
        block_tape_free(&b->tapes[i], be);
        op_release(be, &b->outputs[i]);
    }
    block_tangent_free(&b->tangent, be);
    mem_free(b->tapes);
    mem_free(b->outputs);
}

void transformer_cell_free(struct cell *base)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    struct backend *be = base->be;
    for (int64_t j = 0; j < c->blocks && c->block != NULL; j++)
        free_block(c, &c->block[j]);
    mem_free(c->block);
    block_scratch_free(&c->scratch, be);
    tangent_scratch_free(&c->more, be);
    for (int i = 0; i < 2; i++) {
        op_release(be, &c->pair_d[i]);
        op_release(be, &c->pair_t[i]);
    }
    op_release(be, &c->positions);
    op_release(be, &c->positions_in);
    op_release(be, &c->mask_pos);
    op_release(be, &c->dstack);
    if (!c->kept_borrowed)
        op_release(be, &c->kept);
    mem_free(c);
}

/* Room for rows that a memory keeps: a gradient's scratch, which is idle then, if it is large
 * enough. */
static enum status plan_kept(struct transformer_cell *c, struct error *err)
{
    const struct cell_plan *p = &c->plan;
    int64_t numbers = p->batch * p->mem_len * 3 * c->shape.d_model;
    if (p->batch == 1 || p->mem_len == 0)
        return STATUS_OK;
    c->kept_borrowed = p->vjp && tensor_count(&c->scratch.dqkv) >= numbers;
    if (c->kept_borrowed) {
        c->kept = c->scratch.dqkv;
        return STATUS_OK;
    }
    return op_alloc(c->base.be, &c->kept, c->base.be->ops->real, 1, numbers, 1, 1, 1, err);
}

static struct block_shape shape_of(const struct config_model *m)
{
    return (struct block_shape){
        .d_model = m->d_model,
        .n_head = m->n_head,
        .d_inner = m->d_inner,
        .span = m->local_size == 0 && m->compat ? PUBLISHED_SPAN : m->local_size,
        .norm = m->norm == CONFIG_NORM_RMS ? NORM_RMS : NORM_LAYER,
        .norm_eps = 1e-5,
        .pre_norm = m->pre_lnorm,
        .published_residual = m->compat,
    };
}

enum status transformer_cell_create(struct cell **out, const struct params *params,
                                    const struct config_model *model, const struct cell_plan *plan,
                                    struct error *err)
{
    struct transformer_cell *c = NULL;
    enum status status = STATUS_OK;
    *out = NULL;
    TRY(mem_alloc((void **)&c, 1, sizeof *c, err));
    c->base = (struct cell){&transformer_cell_ops, params->be, model->d_model, model->blocks > 1};
    c->plan = *plan;
    assert(plan->vjp || !plan->train);
    c->shape = shape_of(model);
    c->wnorm = model->wnorm;
    c->blocks = model->blocks;
    TRY_OUT(mem_alloc((void **)&c->block, (size_t)c->blocks, sizeof *c->block, err));
    TRY_OUT(plan_positions(c, err));
    TRY_OUT(block_scratch_create(&c->scratch, params->be, &c->shape, plan->batch, plan->length,
                                 plan->vjp, err));
    TRY_OUT(plan_kept(c, err));
    if (plan->vjp && c->blocks > 1)
        TRY_OUT(op_alloc(params->be, &c->dstack, params->be->ops->real, 3, plan->batch,
                         plan->length, model->d_model, 1, err));
    for (int64_t j = 0; j < c->blocks; j++) {
        TRY_OUT(bind_block(c, params, model, j, err));
        TRY_OUT(plan_block(c, j, err));
    }
    TRY_OUT(plan_tangents(c, err));
    *out = &c->base;
    return STATUS_OK;
out:
    transformer_cell_free(&c->base);
    return status;
}
