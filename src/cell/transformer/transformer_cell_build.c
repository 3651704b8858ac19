#include "cell/transformer/transformer_cell_impl.h"

#include "base/mem.h"
#include <math.h>

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
    int64_t d = c->shape.d_model;
    if (!c->plan.keep_states)
        return create_memories(c, &b->mem_kv, 3 * d, err);
    TRY(create_memories(c, &b->mem_z, d, err));
    return c->layered ? STATUS_OK : create_memories(c, &b->mem_u, 3 * d, err);
}

static int64_t memory_tape_count(const struct transformer_cell *c)
{
    return c->layered ? c->plan.tapes : c->blocks;
}

static int64_t tape_count(const struct transformer_cell *c)
{
    return c->layered ? c->plan.tapes : c->plan.tapes * c->blocks;
}

/* Whether the norm of memory states has a gain that is trained. */
static bool gains_memory(const struct transformer_cell *c)
{
    return c->plan.train && c->shape.pre_norm && c->shape.norm == NORM_RMS;
}

static enum status plan_memory_tape(struct transformer_cell *c, struct memory_tape *t,
                                    struct error *err)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    int64_t d = c->shape.d_model, rows = p->batch * p->mem_len;
    TRY(op_alloc(be, &t->qkv, be->ops->real, 3, p->batch, p->mem_len, 3 * d, 1, err));
    if (c->shape.pre_norm)
        TRY(op_alloc(be, &t->normed, be->ops->real, 3, p->batch, p->mem_len, d, 1, err));
    if (!gains_memory(c))
        return STATUS_OK;
    TRY(op_alloc(be, &t->xhat, be->ops->real, 2, rows, d, 1, 1, err));
    return op_alloc(be, &t->rstd, be->ops->real, 1, rows, 1, 1, 1, err);
}

/* Gradients of the memory come when those of the feed-forward half are done with: behind [N,D] in
 * their place, where there is room, or in idle memory. */
static enum status plan_dmem(struct transformer_cell *c, struct error *err)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    const struct tensor *work = &c->scratch.work;
    int64_t d = c->shape.d_model, rows = p->batch * p->mem_len, before = p->batch * p->length * d;
    c->dmem = tensor_make(NULL, be->ops->real, 2, rows, 3 * d, 1, 1);
    c->dmem_lent = true;
    if (before + rows * 3 * d <= tensor_count(work))
        c->dmem.data = tensor_slice(work, before, rows * 3 * d).data;
    else
        c->dmem_lent = idle_take(p->idle, &c->dmem, false);
    return c->dmem_lent ? STATUS_OK
                        : op_alloc(be, &c->dmem, be->ops->real, 2, rows, 3 * d, 1, 1, err);
}

static enum status plan_tapes(struct transformer_cell *c, const struct block_plan *plan,
                              struct error *err)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    int64_t d = c->shape.d_model, rows = p->batch * p->mem_len, count = tape_count(c);
    enum memory_part before = op_part(be, PART_TAPES);
    TRY(mem_alloc((void **)&c->tapes, (size_t)count, sizeof *c->tapes, err));
    for (int64_t i = 0; i < count; i++)
        TRY(block_tape_create(&c->tapes[i], be, &c->shape, plan, err));
    op_part(be, before);
    if (!p->keep_states || p->mem_len == 0)
        return STATUS_OK;
    op_part(be, PART_TAPES);
    count = memory_tape_count(c);
    TRY(mem_alloc((void **)&c->memory_tapes, (size_t)count, sizeof *c->memory_tapes, err));
    for (int64_t i = 0; i < count; i++)
        TRY(plan_memory_tape(c, &c->memory_tapes[i], err));
    op_part(be, before);
    if (!p->train)
        return STATUS_OK;
    TRY(plan_dmem(c, err));
    if (!gains_memory(c))
        return STATUS_OK;
    return op_alloc(be, &c->dmem_in, be->ops->real, 2, rows, d, 1, 1, err);
}

static void free_tapes(struct transformer_cell *c)
{
    struct backend *be = c->base.be;
    for (int64_t i = 0; i < tape_count(c) && c->tapes != NULL; i++)
        block_tape_free(&c->tapes[i], be);
    for (int64_t i = 0; i < memory_tape_count(c) && c->memory_tapes != NULL; i++) {
        op_release(be, &c->memory_tapes[i].qkv);
        op_release(be, &c->memory_tapes[i].normed);
        op_release(be, &c->memory_tapes[i].xhat);
        op_release(be, &c->memory_tapes[i].rstd);
    }
    mem_free(c->tapes);
    mem_free(c->memory_tapes);
    if (!c->dmem_lent)
        op_release(be, &c->dmem);
    op_release(be, &c->dmem_in);
}

static enum status plan_masks(struct transformer_cell *c, struct transformer_cell_block *b,
                              struct error *err)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    const struct block_shape *s = &c->shape;
    if (c->dropatt > 0)
        TRY(op_alloc(be, &b->mask_attention, DTYPE_U8, 4, p->batch, s->n_head, p->length,
                     p->mem_len + p->length, err));
    if (c->dropout == 0)
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
    if (!c->layered)
        TRY(op_alloc(be, &b->u, real, 3, p->batch, p->length, 3 * d, 1, err));
    if (j == 0 && p->vjp && c->scratch.dqkv.data == NULL)
        c->scratch.dqkv = tensor_matrix(&b->u);
    TRY(op_alloc(be, &b->rk, real, 2, r, d, 1, 1, err));
    if (p->train) {
        b->du_lent = p->one_vjp && c->blocks == 1; /* where the product leaves it anyway */
        if (b->du_lent)
            b->du = c->scratch.dqkv;
        else if (!c->layered)
            TRY(op_alloc(be, &b->du, real, 2, n, 3 * d, 1, 1, err));
        b->drk = tensor_make(NULL, real, 2, r, d, 1, 1);
        b->drk_lent = p->one_vjp && c->blocks == 1 && idle_take(p->idle, &b->drk, false);
        if (!b->drk_lent)
            TRY(op_alloc(be, &b->drk, real, 2, r, d, 1, 1, err));
        TRY(plan_masks(c, b, err));
    }
    TRY(plan_memory(c, b, err));
    if (c->layered || j + 1 == c->blocks)
        return STATUS_OK;
    TRY(mem_alloc((void **)&b->outputs, (size_t)p->tapes, sizeof *b->outputs, err));
    for (int i = 0; i < p->tapes; i++)
        TRY(op_alloc(be, &b->outputs[i], real, 3, p->batch, p->length, d, 1, err));
    return STATUS_OK;
}

/* Sinusoids of the distances, sines first. */
static enum status plan_positions(struct transformer_cell *c, struct error *err)
{
    struct backend *be = c->base.be;
    int64_t d = c->shape.d_model, rows = c->plan.mem_len + c->plan.length;
    if (c->shape.span > 0 && c->shape.span < rows)
        rows = c->shape.span;
    TRY(op_alloc(be, &c->positions, be->ops->real, 2, rows, d, 1, 1, err));
    if (c->plan.train && c->dropout > 0) {
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
    struct tensor *const owned[] = {
        &b->u,       &b->rk, &b->mask_ff1, &b->mask_attention, &b->mask_ff2, &b->mask_attn_out,
        &b->output_t};
    for (int i = 0; i < NORMED_WEIGHTS && c->wnorm; i++)
        normed_weight_free(&b->normed[i], matrix[i], be);
    for (int i = 0; i < NORMED_WEIGHTS; i++)
        op_release(be, &matrix[i]->low);
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        op_release(be, owned[i]);
    if (!b->drk_lent)
        op_release(be, &b->drk);
    if (!b->du_lent)
        op_release(be, &b->du);
    free_memories(c, b->mem_z);
    free_memories(c, b->mem_u);
    free_memories(c, b->mem_kv);
    for (int i = 0; i < c->plan.tapes && b->outputs != NULL; i++)
        op_release(be, &b->outputs[i]);
    block_tangent_free(&b->tangent, be);
    mem_free(b->outputs);
}

void transformer_cell_free(struct cell *base)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    struct backend *be = base->be;
    for (int64_t j = 0; j < c->blocks && c->block != NULL; j++)
        free_block(c, &c->block[j]);
    mem_free(c->block);
    free_tapes(c);
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
    if (!c->kept_lent)
        op_release(be, &c->kept);
    mem_free(c);
}

/* Room for rows that a memory keeps: that of a gradient, which is idle then, if it is large
 * enough. */
static enum status plan_kept(struct transformer_cell *c, struct error *err)
{
    const struct cell_plan *p = &c->plan;
    const struct tensor *room = c->dmem.data != NULL ? &c->dmem : &c->scratch.dqkv;
    int64_t numbers = p->batch * p->mem_len * 3 * c->shape.d_model;
    if (p->batch == 1 || p->mem_len == 0)
        return STATUS_OK;
    c->kept_lent = room->data != NULL && tensor_count(room) >= numbers;
    if (c->kept_lent) {
        c->kept = tensor_prefix(room, 1, numbers, 1, 1, 1);
        return STATUS_OK;
    }
    return op_alloc(c->base.be, &c->kept, c->base.be->ops->real, 1, numbers, 1, 1, 1, err);
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

static struct block_plan block_plan_of(const struct transformer_cell *c)
{
    const struct cell_plan *p = &c->plan;
    return (struct block_plan){.batch = p->batch,
                               .length = p->length,
                               .vjp = p->vjp,
                               .train = p->train,
                               .tangents = p->tangents,
                               .masked = p->train && c->dropout > 0,
                               .rows = c->base.selects_rows,
                               .keep_hidden = p->keep_all,
                               .dqkv_lent = p->evals_end && !c->layered};
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
                      /* keys of a stacked block move while its own input stands still;
                       * a low-precision hidden layer takes few masks (op_ffn_up_padding) */
                      .selects_rows = plan->rows && model->blocks == 1 && model->layers == 0 &&
                                      op_low_precision(params->be) == params->be->ops->real,
                      .tape_remembers = model->blocks > 1};
    c->plan = *plan;
    assert(plan->vjp || !plan->train);
    c->dropout = model->dropout;
    c->dropatt = model->dropatt;
    c->shape = shape_of(model);
    c->wnorm = model->wnorm;
    c->blocks = transformer_cell_blocks(model);
    c->layered = config_is_layered(model);
    TRY_OUT(mem_alloc((void **)&c->block, (size_t)c->blocks, sizeof *c->block, err));
    TRY_OUT(plan_positions(c, err));
    struct block_plan blocks = block_plan_of(c);
    TRY_OUT(block_scratch_create(&c->scratch, params->be, &c->shape, &blocks, plan->idle, err));
    TRY_OUT(plan_tapes(c, &blocks, err));
    TRY_OUT(plan_kept(c, err));
    if (plan->vjp && model->blocks > 1)
        TRY_OUT(op_alloc(params->be, &c->dstack, params->be->ops->real, 3, plan->batch,
                         plan->length, model->d_model, 1, err));
    for (int64_t j = 0; j < c->blocks; j++) {
        TRY_OUT(transformer_cell_bind(c, params, model, j, err));
        TRY_OUT(plan_block(c, j, err));
    }
    TRY_OUT(plan_tangents(c, err));
    *out = &c->base;
    return STATUS_OK;
out:
    transformer_cell_free(&c->base);
    return status;
}

const struct cell_kind transformer_cell_kind = {
    .io = io, .declare = transformer_cell_declare, .create = create};
