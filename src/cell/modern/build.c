/* Sizes and lives of the buffers of the modern cell. */
#include "cell/modern/modern_cell.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>

static enum phase later(enum phase a, enum phase b)
{
    return a > b ? a : b;
}

/* When blocks are evaluated, and when vjps are computed. The prelude runs as a segment begins, and
 * the coda where the loss is. */
static struct modern_lives lives_of(const struct modern_cell *c)
{
    const struct cell_plan *p = &c->plan;
    struct modern_lives l = {.vjp = cell_vjp_life(p),
                             .full = lives(PHASE_GRADIENTS, PHASE_GRADIENTS)};
    enum phase last = later(p->last_eval, PHASE_OUTPUT);
    l.eval = lives(c->prelude > 0 ? PHASE_BEGIN : PHASE_FORWARD, last);
    if (c->coda > 0) {
        l.eval.last = later(last, p->last_head);
        l.full.first = PHASE_LOSS;
        if (l.vjp.first > PHASE_LOSS)
            l.vjp.first = PHASE_LOSS;
    }
    return l;
}

/* When block i's saved activations are in use. */
static struct lifetime saved_life(const struct modern_cell *c, int64_t i, int slot)
{
    if (i < c->prelude)
        return lives(PHASE_BEGIN, PHASE_REMEMBER);
    if (i >= c->prelude + c->core)
        return lives(PHASE_OUTPUT, PHASE_REMEMBER);
    return cell_slot_life(&c->plan, slot);
}

static enum modern_entry entry_of(const struct modern_cell *c, int64_t i)
{
    if (c->layered || i != c->prelude)
        return ENTRY_PLAIN;
    switch (c->inject) {
    case INJECT_V:
    case INJECT_QKV:
        return ENTRY_QKV;
    case INJECT_LINEAR:
        return ENTRY_LINEAR;
    case INJECT_ADD:
    case INJECT_DECAY:
        break;
    }
    return ENTRY_ADD;
}

static void plan_slot(struct modern_cell *c, int slot)
{
    const struct cell_plan *p = &c->plan;
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, l = p->length, d = c->shape.d_model, core = c->layered ? 1 : c->core;
    struct lifetime life = cell_slot_life(p, slot);
    char of[BUFFER_NAME_MAX];
    for (int64_t j = 0; j < core; j++) {
        int64_t i = c->prelude + j;
        snprintf(of, sizeof of, core > 1 ? "slot %d, block %d" : "slot %d", slot, (int)j);
        modern_activations_declare(modern_saved(c, i, slot), p, &c->shape, entry_of(c, i), of,
                                   life);
        const struct cell_wish between[CELL_WISHES] = {
            {j + 1 < core, &c->outputs[slot * core + j], "output", real, 3, {b, l, d}}};
        cell_declare(p, between, of, life, PART_ACTIVATIONS);
    }
    const struct cell_wish rest[CELL_WISHES] = {
        {c->outer_norm, &c->rstd_f[slot], "1 / deviation of f", real, 1, {b * l}},
        {c->layered && p->mem_len > 0,
         &c->layer_mem[slot],
         "memory",
         real,
         3,
         {b, p->mem_len, 3 * c->shape.attn}},
    };
    snprintf(of, sizeof of, "slot %d", slot);
    cell_declare(p, rest, of, life, PART_ACTIVATIONS);
}

static enum status plan_saved(struct modern_cell *c, struct error *err)
{
    const struct cell_plan *p = &c->plan;
    size_t slots = (size_t)p->slots, core = c->layered ? 1 : (size_t)c->core;
    size_t count = slots * core + (size_t)(c->prelude + c->coda);
    TRY(mem_alloc((void **)&c->saved, count, sizeof *c->saved, err));
    TRY(mem_alloc((void **)&c->outputs, slots * core, sizeof *c->outputs, err));
    TRY(mem_alloc((void **)&c->rstd_f, slots, sizeof *c->rstd_f, err));
    TRY(mem_alloc((void **)&c->layer_mem, slots, sizeof *c->layer_mem, err));
    for (int slot = 0; slot < p->slots; slot++)
        plan_slot(c, slot);
    for (int64_t i = 0; i < modern_blocks(c); i++) {
        char of[BUFFER_NAME_MAX];
        if (c->layered || (i >= c->prelude && i < c->prelude + c->core))
            continue;
        bool before = i < c->prelude;
        snprintf(of, sizeof of, before ? "prelude %d" : "coda %d",
                 (int)(before ? i : i - c->prelude - c->core));
        modern_activations_declare(modern_saved(c, i, 0), p, &c->shape, ENTRY_PLAIN, of,
                                   saved_life(c, i, 0));
    }
    return STATUS_OK;
}

static enum status plan_block(struct modern_cell *c, int64_t i, struct error *err)
{
    struct modern_cell_block *block = &c->block[i];
    const struct cell_plan *p = &c->plan;
    const struct modern_shape *s = &c->shape;
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, d = s->d_model;
    bool around = i < c->prelude || i >= c->prelude + c->core;
    bool train = p->mode >= CELL_TRAIN, masked = train && s->dropout > 0;
    enum phase last = train ? PHASE_GRADIENTS : later(p->last_eval, PHASE_OUTPUT);
    const struct cell_wish memory[CELL_WISHES] = {{!c->layered && p->mem_len > 0,
                                                   &block->mem_qkv,
                                                   "memory",
                                                   real,
                                                   3,
                                                   {b, p->mem_len, 3 * s->attn}}};
    const struct cell_wish output[CELL_WISHES] = {
        {around, &block->output, "output around the core", real, 3, {b, p->length, d}}};
    const struct cell_wish masks[CELL_WISHES] = {
        {masked, &block->mask_attn, "attention half", real, 2, {b, d}},
        {masked, &block->mask_ff, "feed-forward half", real, 2, {b, d}},
        {train && s->dropatt > 0,
         &block->mask_weights,
         "attention",
         DTYPE_U8,
         4,
         {b, s->heads, p->length, p->mem_len + p->length}},
    };
    cell_declare(p, memory, "block", lives(PHASE_BEGIN, last), PART_ACTIVATIONS);
    cell_declare(p, output, "block", saved_life(c, i, 0), PART_ACTIVATIONS);
    cell_declare(p, masks, "dropout", lives_always(), PART_WORK);
    return cell_declare_memories(p, &block->mem, p->mem_len, s->wide - s->attn, err);
}

/* The injection, and what the segment's embedding becomes before it. */
static void plan_injection(struct modern_cell *c)
{
    const struct cell_plan *p = &c->plan;
    const struct modern_shape *s = &c->shape;
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, l = p->length, n = b * l, d = s->d_model;
    int64_t width = entry_of(c, c->prelude) == ENTRY_QKV ? s->wide : d;
    bool train = p->mode >= CELL_TRAIN, decays = c->inject == INJECT_DECAY && !c->layered;
    const struct cell_wish segment[CELL_WISHES] = {
        {true, &c->rstd_embed, "1 / deviation", real, 1, {n}},
        {c->prelude > 0, &c->e_in, "prelude's output", real, 3, {b, l, d}},
        {c->prelude > 0, &c->rstd_in, "its 1 / deviation", real, 1, {n}},
        {!c->layered && c->inject != INJECT_ADD, &c->u, "injection", real, 2, {n, width}},
    };
    const struct cell_wish gradients[CELL_WISHES] = {
        {train && !c->layered, &c->du, "gradient of the injection", real, 2, {n, width}},
        {train && decays, &c->dfactor, "gradient of the decay", real, 1, {d}},
        {train && c->prelude > 0, &c->dother[0], "gradient in the prelude", real, 3, {b, l, d}},
        {train && c->prelude > 0, &c->dprelude, "gradient of the prelude", real, 3, {b, l, d}},
    };
    const struct cell_wish constants[CELL_WISHES] = {
        {s->rope, &c->turn, "turns", real, 2, {p->mem_len + l, s->head}},
        {decays, &c->factor, "decay", real, 1, {d}},
    };
    cell_declare(p, segment, "embedding", lives(PHASE_BEGIN, PHASE_REMEMBER), PART_WORK);
    cell_declare(p, gradients, "vjp", lives(PHASE_GRADIENTS, PHASE_GRADIENTS), PART_WORK);
    cell_declare(p, constants, "positions", lives_always(), PART_WORK);
}

/* The head, and what passes on to the next segment. */
static void plan_ends(struct modern_cell *c)
{
    const struct cell_plan *p = &c->plan;
    const struct modern_shape *s = &c->shape;
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, l = p->length, n = b * l, d = s->d_model, kv = s->wide - s->attn;
    bool train = p->mode >= CELL_TRAIN, vjp = p->mode >= CELL_VJP;
    bool remembers = p->mem_len > 0;
    const struct cell_wish head[CELL_WISHES] = {
        {train, &c->head_x, "normalised output", real, 2, {n, d}},
        {train, &c->head_rstd, "its 1 / deviation", real, 1, {n}},
    };
    const struct cell_wish back[CELL_WISHES] = {
        {train && c->coda > 0, &c->dother[1], "gradient in the coda", real, 3, {b, l, d}}};
    const struct cell_wish between[CELL_WISHES] = {
        {vjp && c->core > 1 && !c->layered,
         &c->dstack,
         "gradient between blocks",
         real,
         3,
         {b, l, d}},
        {vjp && c->outer_norm, &c->douter, "gradient of the last block", real, 3, {b, l, d}},
    };
    const struct cell_wish remember[CELL_WISHES] = {
        {remembers, &c->remember_h, "input", real, 2, {n, d}},
        {remembers, &c->remember_kv, "keys and values", real, 2, {n, kv}},
        {remembers && b > 1, &c->kept, "rows kept", real, 1, {b * p->mem_len * kv}},
    };
    cell_declare(p, head, "head", lives(PHASE_OUTPUT, p->last_head), PART_ACTIVATIONS);
    cell_declare(p, back, "coda", lives(PHASE_LOSS, later(PHASE_LOSS, p->last_head)), PART_WORK);
    cell_declare(p, between, "vjp", cell_vjp_life(p), PART_WORK);
    cell_declare(p, remember, "memory", lives(PHASE_REMEMBER, PHASE_REMEMBER), PART_WORK);
}

/* For second derivatives. */
static void plan_tangents(struct modern_cell *c)
{
    const struct cell_plan *p = &c->plan;
    int64_t b = p->batch, l = p->length, d = c->shape.d_model;
    enum dtype real = p->ws->be->ops->real;
    if (p->mode < CELL_TANGENT)
        return;
    modern_tangent_scratch_declare(&c->more, p, &c->shape);
    for (int i = 0; i < 2; i++) {
        const struct cell_wish pair[CELL_WISHES] = {
            {true, &c->pair_d[i], "gradient between blocks", real, 3, {b, l, d}},
            {true, &c->pair_t[i], "its derivative", real, 3, {b, l, d}},
        };
        cell_declare(p, pair, "second derivatives", lives(PHASE_GRADIENTS, PHASE_GRADIENTS),
                     PART_WORK);
    }
    for (int64_t j = 0; j < c->core; j++)
        modern_tangent_declare(&c->block[c->prelude + j].tangent, p, &c->shape);
}

/* Cosines and sines of the positions' angles. */
enum status modern_cell_init(struct cell *base, struct error *err)
{
    struct modern_cell *c = modern_self(base);
    int64_t rows = c->turn.dim[0], h = c->shape.head, half = h / 2;
    double *host = NULL;
    if (!c->shape.rope)
        return STATUS_OK;
    TRY(mem_alloc((void **)&host, (size_t)(rows * h), sizeof *host, err));
    for (int64_t p = 0; p < rows; p++)
        for (int64_t i = 0; i < half; i++) {
            double angle = (double)p * pow(c->rope_base, -2.0 * (double)i / (double)h);
            host[p * h + i] = cos(angle);
            host[p * h + half + i] = sin(angle);
        }
    op_upload(base->be, &c->turn, host, DTYPE_F64);
    mem_free(host);
    return STATUS_OK;
}

void modern_cell_free(struct cell *base)
{
    struct modern_cell *c = modern_self(base);
    for (int64_t i = 0; i < modern_blocks(c) && c->block != NULL; i++)
        mem_free(c->block[i].mem);
    mem_free(c->block);
    mem_free(c->saved);
    mem_free(c->outputs);
    mem_free(c->rstd_f);
    mem_free(c->layer_mem);
    mem_free(c);
}

static struct modern_shape shape_of(const struct config_model *m)
{
    return (struct modern_shape){
        .d_model = m->d_model,
        .heads = m->n_head,
        .groups = m->n_kv_head,
        .head = m->d_head,
        .attn = m->n_head * m->d_head,
        .wide = (m->n_head + 2 * m->n_kv_head) * m->d_head,
        .inner = m->d_inner,
        .up = m->d_inner * activation_inputs(m->ffn),
        .span = m->local_size,
        .norm = m->norm,
        .place = m->norm_place,
        .activation = m->ffn,
        .eps = 1e-5,
        .dropout = m->dropout,
        .dropatt = m->dropatt,
        .qk_norm = m->qk_norm,
        .rope = m->rope_base > 0,
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
                            .head = true};
}

static enum status plan_cell(struct modern_cell *c, const struct params *params,
                             const struct config_model *model, struct error *err)
{
    struct modern_lives lives = lives_of(c);
    TRY(mem_alloc((void **)&c->block, (size_t)modern_blocks(c), sizeof *c->block, err));
    modern_cell_bind(c, params, model);
    modern_scratch_declare(&c->scratch, &c->plan, &c->shape, &lives);
    TRY(plan_saved(c, err));
    for (int64_t i = 0; i < modern_blocks(c); i++)
        TRY(plan_block(c, i, err));
    plan_injection(c);
    plan_ends(c);
    plan_tangents(c);
    return STATUS_OK;
}

static enum status create(struct cell **out, const struct params *params,
                          const struct config_model *m, const struct cell_plan *plan,
                          struct error *err)
{
    struct modern_cell *c = NULL;
    *out = NULL;
    TRY(mem_alloc((void **)&c, 1, sizeof *c, err));
    c->base = (struct cell){.ops = &modern_cell_ops,
                            .be = params->be,
                            .io = io(m),
                            .width = m->d_model,
                            /* Keys of a stacked block move while its own input stands still. */
                            .selects_rows = plan->rows && m->blocks == 1 && m->layers == 0,
                            .slot_remembers = m->blocks > 1};
    c->plan = *plan;
    c->plan.rows = c->base.selects_rows;
    c->shape = shape_of(m);
    c->rope_base = m->rope_base;
    c->inject = m->inject;
    c->layered = config_is_layered(m);
    c->outer_norm = m->outer_norm && !c->layered;
    c->takes_off = m->norm_place == NORM_PLACE_PRE && !m->outer_norm && !c->layered &&
                   m->inject != INJECT_LINEAR && m->inject != INJECT_DECAY;
    c->prelude = m->prelude;
    c->core = c->layered ? m->layers : m->blocks;
    c->coda = m->coda;
    enum status status = plan_cell(c, params, m, err);
    if (status == STATUS_OK)
        *out = &c->base;
    else
        modern_cell_free(&c->base);
    return status;
}

const struct cell_kind modern_cell_kind = {.io = io,
                                           .vocabulary = cell_transformer_xl_vocabulary,
                                           .declare = modern_cell_declare,
                                           .create = create};
