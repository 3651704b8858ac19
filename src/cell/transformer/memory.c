/* The segment memory of the transformer cell, what attention sees of it and how it grows. */
#include "cell/transformer/transformer_cell.h"

/* y = norm(x) as the block's attention sees its input, for memory states. */
static void normalise(struct transformer_cell *c, const struct transformer_cell_block *b,
                      const struct memory_activations *slot, const struct tensor *x,
                      const struct tensor *y)
{
    struct residual_norm norm = {.a = tensor_matrix(x),
                                 .gain = b->w.attn_gain.w,
                                 .y = tensor_matrix(y),
                                 .rows_per_mask = 1,
                                 .kind = c->shape.norm,
                                 .eps = c->shape.norm_eps};
    if (slot != NULL && slot->xhat.data != NULL) {
        norm.xhat = tensor_slice(&slot->xhat, 0, norm.a.dim[0]);
        norm.rstd = tensor_slice(&slot->rstd, 0, norm.a.dim[0]);
    }
    op_residual_norm(c->base.be, &norm);
}

void transformer_cell_gain_gradient(struct transformer_cell *c, int64_t j, int slot,
                                    const struct tensor *dmem)
{
    struct transformer_cell_block *b = &c->block[j];
    if (dmem->data == NULL)
        return;
    const struct memory_activations *t = &c->memory_saved[c->layered ? slot : j];
    if (t->xhat.data == NULL)
        return;
    int64_t rows = dmem->dim[0];
    struct tensor dnormed = tensor_slice(&c->dmem_in, 0, rows);
    weight_vjp(c->base.be, &b->w.qkv, dmem, 0.0, &dnormed);
    struct residual_norm_vjp norm = {.kind = c->shape.norm,
                                     .dy = dnormed,
                                     .xhat = tensor_slice(&t->xhat, 0, rows),
                                     .rstd = tensor_slice(&t->rstd, 0, rows),
                                     .gain = b->w.attn_gain.w,
                                     .ds = dnormed,
                                     .dgain = b->w.attn_gain.dw,
                                     .rows_per_mask = 1};
    op_residual_norm_vjp(c->base.be, &norm);
}

/* y = x W_qkv^T + u, where u [B,T,3D] has no data without an injection. */
static void map_qkv(struct transformer_cell *c, const struct transformer_cell_block *b,
                    const struct tensor *x, const struct tensor *u, const struct tensor *y)
{
    struct tensor in = tensor_matrix(x), qkv = tensor_matrix(y);
    weight_apply_to(c->base.be, &b->w.qkv, &in, u, &qkv);
}

/* Queries, keys and values of the memory do not change during a solve. They are computed here once,
 * or of a layer once for each of its evaluations. */
void transformer_cell_begin_memory(struct transformer_cell *c, struct transformer_cell_block *b,
                                   int64_t slot)
{
    if (c->plan.memory == MEMORY_KEYS) {
        b->input.mem_qkv = memory_view(&b->mem_kv[c->now]);
        return;
    }
    struct tensor z = memory_view(&b->mem_z[c->now]), u = {0};
    b->input.mem_z = z;
    b->input.mem_qkv = (struct tensor){0};
    if (z.data == NULL)
        return;
    const struct memory_activations *t = &c->memory_saved[slot];
    if (!c->layered)
        u = memory_view(&b->mem_u[c->now]);
    if (c->shape.pre_norm) {
        b->input.mem_z = tensor_cut(&t->normed, &z);
        normalise(c, b, t, &z, &b->input.mem_z);
    }
    b->input.mem_qkv = tensor_cut(&t->qkv, &z);
    map_qkv(c, b, &b->input.mem_z, &u, &b->input.mem_qkv);
}

void transformer_cell_remember_injections(struct transformer_cell *c, const struct tensor *kept)
{
    if (c->injected || c->layered || c->plan.memory == MEMORY_KEYS)
        return;
    for (int64_t j = 0; j < c->blocks; j++)
        memory_push(&c->block[j].mem_u[c->now], c->base.be, &c->block[j].input.u, kept);
    c->injected = true;
}

/* Appends a block's input states to its memory. What `slot` holds may be overwritten. */
static void remember_block(struct transformer_cell *c, int64_t j, int slot,
                           const struct tensor *state)
{
    struct backend *be = c->base.be;
    struct transformer_cell_block *b = &c->block[j];
    struct block_activations *t = transformer_cell_saved(c, j, slot);
    if (c->plan.memory == MEMORY_STATES) {
        memory_push(&b->mem_z[c->now], be, state, &c->kept);
        return;
    }
    struct tensor kv = tensor_cut(&t->qkv, state), in = tensor_matrix(state);
    if (c->shape.pre_norm) {
        struct tensor normed = tensor_prefix(&t->norm_in, 2, in.dim[0], in.dim[1], 1, 1);
        normalise(c, b, NULL, &in, &normed);
        in = normed;
    }
    map_qkv(c, b, &in, &b->input.u, &kv);
    memory_push(&b->mem_kv[c->now], be, &kv, &c->kept);
}

/* Injections go to their memories, so that their buffer is free for what follows. */
void transformer_cell_end_evals(struct cell *base)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    if (transformer_cell_injects_early(c))
        transformer_cell_remember_injections(c, &c->kept_early);
}

void transformer_cell_remember(struct cell *base, int slot, const struct tensor *h)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    transformer_cell_remember_injections(c, &c->kept);
    c->injected = false;
    for (int64_t j = 0; j < c->blocks; j++) {
        struct tensor state = transformer_cell_block_in(c, j, slot, h);
        remember_block(c, j, slot, &state);
    }
}

void transformer_cell_remember_layer(struct cell *base, int64_t j, const struct tensor *z)
{
    remember_block((struct transformer_cell *)base, j, 0, z);
}

void transformer_cell_select_memory(struct cell *base, int index)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    assert(index >= 0 && index < c->plan.memories);
    c->now = index;
}

int64_t transformer_cell_memory_length(const struct cell *base)
{
    const struct transformer_cell *c = (const struct transformer_cell *)base;
    return c->plan.memory == MEMORY_STATES ? c->block[0].mem_z[c->now].count
                                           : c->block[0].mem_kv[c->now].count;
}

/* The first memory has states and injections (or keys and values) of block 0, of block 1 and so on.
 * Those of the second follow. */
struct memory *transformer_cell_memory(struct cell *base, int index)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    int kinds = c->plan.memory == MEMORY_STATES && !c->layered ? 2 : 1,
        each = kinds * (int)c->blocks;
    if (index >= each * c->plan.memories)
        return NULL;
    struct transformer_cell_block *b = &c->block[index % each / kinds];
    int which = index / each;
    if (c->plan.memory == MEMORY_KEYS)
        return &b->mem_kv[which];
    return index % kinds == 0 ? &b->mem_z[which] : &b->mem_u[which];
}
