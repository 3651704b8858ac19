/* Sizes and lives of the buffers of the transformer cell. */
#include "cell/transformer/transformer_cell.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>

static enum status plan_memory(struct transformer_cell *c, struct transformer_cell_block *b,
                               struct error *err)
{
    const struct cell_plan *p = &c->plan;
    int64_t d = c->shape.d_model, rows = p->mem_len;
    if (p->memory == MEMORY_KEYS)
        return cell_declare_memories(p, &b->mem_kv, rows, 3 * d, err);
    TRY(cell_declare_memories(p, &b->mem_z, rows, d, err));
    return c->layered ? STATUS_OK : cell_declare_memories(p, &b->mem_u, rows, 3 * d, err);
}

/* Rows that a memory of several streams keeps pass through here. */
static void plan_kept(struct transformer_cell *c)
{
    const struct cell_plan *p = &c->plan;
    enum dtype real = p->ws->be->ops->real;
    int64_t rows = p->batch * p->mem_len, d = c->shape.d_model;
    bool early = transformer_cell_injects_early(c) && !c->layered;
    bool states_alone = p->memory == MEMORY_STATES && (early || c->layered);
    if (p->batch == 1 || p->mem_len == 0)
        return;
    const struct cell_wish injections[CELL_WISHES] = {
        {early, &c->kept_early, "injections kept", real, 1, {rows * 3 * d}}};
    const struct cell_wish states[CELL_WISHES] = {
        {true, &c->kept, "rows kept", real, 1, {rows * (states_alone ? d : 3 * d)}}};
    cell_declare(p, injections, "memory", lives(PHASE_OUTPUT, PHASE_OUTPUT), PART_WORK);
    cell_declare(p, states, "memory", lives(PHASE_REMEMBER, PHASE_REMEMBER), PART_WORK);
}

/* Whether the norm of memory states has a gain that is trained. */
static bool gains_memory(const struct transformer_cell *c)
{
    return c->plan.mode >= CELL_TRAIN && c->shape.pre_norm && c->shape.norm == NORM_RMS;
}

static enum status plan_memory_activations(struct transformer_cell *c, struct error *err)
{
    const struct cell_plan *p = &c->plan;
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, m = p->mem_len, d = c->shape.d_model, rows = b * m;
    int64_t count = c->layered ? p->slots : c->blocks;
    bool train = p->mode >= CELL_TRAIN;
    if (p->memory == MEMORY_KEYS || m == 0)
        return STATUS_OK;
    TRY(mem_alloc((void **)&c->memory_saved, (size_t)count, sizeof *c->memory_saved, err));
    for (int64_t i = 0; i < count; i++) {
        struct memory_activations *s = &c->memory_saved[i];
        struct lifetime life =
            c->layered ? cell_slot_life(p, (int)i) : lives(PHASE_BEGIN, PHASE_GRADIENTS);
        const struct cell_wish all[CELL_WISHES] = {
            {true, &s->qkv, "qkv", real, 3, {b, m, 3 * d}},
            {c->shape.pre_norm, &s->normed, "norm", real, 3, {b, m, d}},
            {gains_memory(c), &s->xhat, "normalised", real, 2, {rows, d}},
            {gains_memory(c), &s->rstd, "1 / deviation", real, 1, {rows}},
        };
        cell_declare(p, all, "memory", life, PART_ACTIVATIONS);
    }
    const struct cell_wish gradients[CELL_WISHES] = {
        {train, &c->dmem, "gradient of qkv", real, 2, {rows, 3 * d}},
        {train && gains_memory(c), &c->dmem_in, "gradient of its norm", real, 2, {rows, d}},
    };
    cell_declare(p, gradients, "memory", lives(PHASE_GRADIENTS, PHASE_GRADIENTS), PART_WORK);
    return STATUS_OK;
}

static enum status plan_activations(struct transformer_cell *c, struct error *err)
{
    const struct cell_plan *p = &c->plan;
    int64_t blocks = c->layered ? 1 : c->blocks;
    char of[BUFFER_NAME_MAX];
    TRY(mem_alloc((void **)&c->saved, (size_t)(p->slots * blocks), sizeof *c->saved, err));
    for (int i = 0; i < p->slots * blocks; i++) {
        snprintf(of, sizeof of, blocks > 1 ? "slot %d, block %d" : "slot %d", i / (int)blocks,
                 i % (int)blocks);
        block_activations_declare(&c->saved[i], p, &c->shape, of,
                                  cell_slot_life(p, i / (int)blocks));
    }
    return STATUS_OK;
}

/* For second derivatives. */
static void plan_tangents(struct transformer_cell *c)
{
    const struct cell_plan *p = &c->plan;
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, l = p->length, d = c->shape.d_model;
    struct lifetime life = lives(PHASE_GRADIENTS, PHASE_GRADIENTS);
    if (p->mode < CELL_TANGENT)
        return;
    tangent_scratch_declare(&c->more, p, &c->shape);
    for (int i = 0; i < 2; i++) {
        const struct cell_wish pair[CELL_WISHES] = {
            {true, &c->pair_d[i], "gradient between blocks", real, 3, {b, l, d}},
            {true, &c->pair_t[i], "its derivative", real, 3, {b, l, d}},
        };
        cell_declare(p, pair, "second derivatives", life, PART_WORK);
    }
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *block = &c->block[j];
        const struct cell_wish output[CELL_WISHES] = {
            {j + 1 < c->blocks, &block->output_t, "derivative of the output", real, 3, {b, l, d}}};
        block_tangent_declare(&block->tangent, p, &c->shape, "block");
        cell_declare(p, output, "block", life, PART_WORK);
    }
}

/* Masks last, since some are given by hand. */
static void plan_masks(struct transformer_cell *c, struct transformer_cell_block *block)
{
    const struct cell_plan *p = &c->plan;
    const struct block_shape *s = &c->shape;
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, l = p->length, k = p->mem_len + p->length;
    bool any = s->dropout > 0;
    const struct cell_wish all[CELL_WISHES] = {
        {c->dropatt > 0, &block->mask_attention, "attention", DTYPE_U8, 4, {b, s->n_head, l, k}},
        {any, &block->mask_attn_out, "attention half", real, 2, {b, s->d_model}},
        {any, &block->mask_ff1, "hidden layer", real, 2, {b, s->d_inner}},
        {any, &block->mask_ff2, "feed-forward half", real, 2, {b, s->d_model}},
    };
    if (p->mode >= CELL_TRAIN)
        cell_declare(p, all, "dropout", lives_always(), PART_WORK);
}

static enum status plan_block(struct transformer_cell *c, int64_t j, struct error *err)
{
    struct transformer_cell_block *block = &c->block[j];
    const struct cell_plan *p = &c->plan;
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, l = p->length, d = c->shape.d_model, r = c->positions.dim[0];
    bool train = p->mode >= CELL_TRAIN;
    enum phase last = transformer_cell_injects_early(c) ? PHASE_OUTPUT : PHASE_REMEMBER;
    const struct cell_wish injection[CELL_WISHES] = {
        {!c->layered, &block->u, "injection", real, 3, {b, l, 3 * d}}};
    const struct cell_wish positions[CELL_WISHES] = {
        {true, &block->rk, "positions", real, 2, {r, d}}};
    const struct cell_wish gradients[CELL_WISHES] = {
        {train && !c->layered, &block->du, "gradient of the injection", real, 2, {b * l, 3 * d}},
        {train, &block->drk, "gradient of the positions", real, 2, {r, d}},
    };
    cell_declare(p, injection, "block", lives(PHASE_BEGIN, last), PART_WORK);
    cell_declare(p, positions, "block",
                 train ? lives(PHASE_BEGIN, PHASE_GRADIENTS) : lives_always(), PART_WORK);
    cell_declare(p, gradients, "block", lives(PHASE_GRADIENTS, PHASE_GRADIENTS), PART_WORK);
    plan_masks(c, block);
    TRY(plan_memory(c, block, err));
    if (j == c->blocks - 1 || c->layered)
        return STATUS_OK;
    TRY(mem_alloc((void **)&block->outputs, (size_t)p->slots, sizeof *block->outputs, err));
    for (int i = 0; i < p->slots; i++) {
        const struct cell_wish output[CELL_WISHES] = {
            {true, &block->outputs[i], "output", real, 3, {b, l, d}}};
        cell_declare(p, output, "block", cell_slot_life(p, i), PART_ACTIVATIONS);
    }
    return STATUS_OK;
}

static void plan_positions(struct transformer_cell *c)
{
    const struct cell_plan *p = &c->plan;
    enum dtype real = p->ws->be->ops->real;
    int64_t d = c->shape.d_model, rows = p->mem_len + p->length;
    bool masked = p->mode >= CELL_TRAIN && c->shape.dropout > 0;
    if (c->shape.span > 0 && c->shape.span < rows)
        rows = c->shape.span;
    const struct cell_wish all[CELL_WISHES] = {
        {true, &c->positions, "sinusoids", real, 2, {rows, d}},
        {masked, &c->mask_pos, "mask", real, 1, {d}},
    };
    const struct cell_wish dropped[CELL_WISHES] = {
        {masked, &c->positions_in, "sinusoids under the mask", real, 2, {rows, d}}};
    cell_declare(p, all, "positions", lives_always(), PART_WORK);
    cell_declare(p, dropped, "positions", lives(PHASE_BEGIN, PHASE_GRADIENTS), PART_WORK);
}

/* Sinusoids of the distances, sines first. */
enum status transformer_cell_init(struct cell *base, struct error *err)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    int64_t d = c->shape.d_model, rows = c->positions.dim[0];
    double *host = NULL;
    TRY(mem_alloc((void **)&host, (size_t)(rows * d), sizeof *host, err));
    for (int64_t p = 0; p < rows; p++) {
        for (int64_t i = 0; i < d / 2; i++) {
            double angle = (double)p * pow(10000.0, -2.0 * (double)i / (double)d);
            host[p * d + i] = sin(angle);
            host[p * d + d / 2 + i] = cos(angle);
        }
    }
    op_upload(base->be, &c->positions, host, DTYPE_F64);
    mem_free(host);
    return STATUS_OK;
}

void transformer_cell_free(struct cell *base)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    for (int64_t j = 0; j < c->blocks && c->block != NULL; j++) {
        mem_free(c->block[j].mem_z);
        mem_free(c->block[j].mem_u);
        mem_free(c->block[j].mem_kv);
        mem_free(c->block[j].outputs);
    }
    mem_free(c->block);
    mem_free(c->saved);
    mem_free(c->memory_saved);
    mem_free(c);
}

/* Distances beyond which the published code masks keys when no local size is given. */
enum { PUBLISHED_SPAN = 1000 };

static struct block_shape shape_of(const struct config_model *m)
{
    return (struct block_shape){
        .d_model = m->d_model,
        .n_head = m->n_head,
        .d_inner = m->d_inner,
        .span = m->local_size == 0 && m->compat ? PUBLISHED_SPAN : m->local_size,
        .norm = m->norm,
        .norm_eps = 1e-5,
        .dropout = m->dropout,
        .pre_norm = m->pre_lnorm,
        .published_residual = m->compat,
    };
}

static struct cell_io io(const struct config_model *m)
{
    return (struct cell_io){.input = m->d_model,
                            .state = m->d_model,
                            .output = m->d_model,
                            .embed_scale = sqrt((double)m->d_model),
                            .dropout_in = m->dropout,
                            .dropout_out = m->dropout,
                            .drops_positions = m->compat};
}

static enum status plan_cell(struct transformer_cell *c, const struct params *params,
                             const struct config_model *model, struct error *err)
{
    const struct cell_plan *p = &c->plan;
    const struct cell_wish between[CELL_WISHES] = {{p->mode >= CELL_VJP && model->blocks > 1,
                                                    &c->dstack,
                                                    "gradient between blocks",
                                                    p->ws->be->ops->real,
                                                    3,
                                                    {p->batch, p->length, c->shape.d_model}}};
    plan_positions(c);
    block_scratch_declare(&c->scratch, p, &c->shape);
    TRY(plan_activations(c, err));
    TRY(plan_memory_activations(c, err));
    plan_kept(c);
    cell_declare(p, between, "vjp", cell_vjp_life(p), PART_WORK);
    for (int64_t j = 0; j < c->blocks; j++) {
        transformer_cell_bind(c, params, model, j);
        TRY(plan_block(c, j, err));
    }
    plan_tangents(c);
    return STATUS_OK;
}

static enum status create(struct cell **out, const struct params *params,
                          const struct config_model *model, const struct cell_plan *plan,
                          struct error *err)
{
    struct transformer_cell *c = NULL;
    enum status status = STATUS_OK;
    *out = NULL;
    TRY(mem_alloc((void **)&c, 1, sizeof *c, err));
    c->base =
        (struct cell){.ops = &transformer_cell_ops,
                      .be = params->be,
                      .io = io(model),
                      .width = model->d_model,
                      /* Keys of a stacked block move while its own input stands still. A
                       * low-precision hidden layer takes few masks (op_ffn_up_padding). */
                      .selects_rows = plan->rows && model->blocks == 1 && model->layers == 0 &&
                                      op_low_precision(params->be) == params->be->ops->real,
                      .slot_remembers = model->blocks > 1};
    c->plan = *plan;
    c->plan.rows = c->base.selects_rows;
    c->dropatt = model->dropatt;
    c->shape = shape_of(model);
    c->wnorm = model->wnorm;
    c->blocks = transformer_cell_blocks(model);
    c->layered = config_is_layered(model);
    TRY_OUT(mem_alloc((void **)&c->block, (size_t)c->blocks, sizeof *c->block, err));
    TRY_OUT(plan_cell(c, params, model, err));
    *out = &c->base;
    return STATUS_OK;
out:
    transformer_cell_free(&c->base);
    return status;
}

const struct cell_kind transformer_cell_kind = {.io = io,
                                                .vocabulary = cell_transformer_xl_vocabulary,
                                                .declare = transformer_cell_declare,
                                                .create = create};
