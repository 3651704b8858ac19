#include "model/transformer_cell_impl.h"

#include "solve/solver.h"

/* Sub-streams of the dropout masks; those of block j follow at MASK_BLOCK + MASK_KINDS * j. */
enum { MASK_POS = 1, MASK_BLOCK = 8, MASK_KINDS = 4 };

static struct transformer_cell *self(struct cell *c)
{
    return (struct transformer_cell *)c;
}

static struct weight *matrix_of(struct transformer_cell_block *b, int which)
{
    struct weight *const all[NORMED_WEIGHTS] = {&b->w.qkv, &b->w.r, &b->w.o, &b->w.ff1, &b->w.ff2};
    return all[which];
}

/* rk = W_r R for the first `rows` distances. */
static void map_positions(struct transformer_cell *c, const struct tensor *positions, int64_t rows)
{
    struct tensor r = tensor_slice(positions, 0, rows);
    for (int64_t j = 0; j < c->blocks; j++) {
        struct tensor rk = tensor_slice(&c->block[j].rk, 0, rows);
        weight_apply(c->base.be, &c->block[j].w.r, &r, 0.0, &rk);
    }
}

static void refresh(struct cell *base)
{
    struct transformer_cell *c = self(base);
    struct backend *be = base->be;
    for (int64_t j = 0; j < c->blocks && c->wnorm; j++) {
        struct transformer_cell_block *b = &c->block[j];
        for (int i = 0; i < NORMED_WEIGHTS; i++) {
            struct weight *w = matrix_of(b, i);
            const struct normed_weight *n = &b->normed[i];
            op_weight_norm(be, &w->w, &n->inv, &n->v.w, &n->g.w);
            if (c->plan.train)
                op_fill(be, &w->dw, 0.0);
        }
    }
    /* without dropout on the positions and with constant weights, once is enough */
    if (!c->plan.train)
        map_positions(c, &c->positions, c->positions.dim[0]);
}

static void finish_gradients(struct cell *base)
{
    struct transformer_cell *c = self(base);
    for (int64_t j = 0; j < c->blocks && c->wnorm; j++) {
        struct transformer_cell_block *b = &c->block[j];
        for (int i = 0; i < NORMED_WEIGHTS; i++) {
            const struct normed_weight *n = &b->normed[i];
            op_weight_norm_vjp(base->be, &n->v.dw, &n->g.dw, &matrix_of(b, i)->dw, &n->v.w, &n->g.w,
                               &n->inv);
        }
    }
}

static void draw_masks(struct transformer_cell *c, const struct masks *m)
{
    struct backend *be = c->base.be;
    const struct cell_plan *p = &c->plan;
    if (m->source != MASKS_DRAWN)
        return;
    if (c->mask_pos.data != NULL)
        op_dropout_mask(be, &c->mask_pos, p->dropout,
                        (struct rng_key){m->seed, rng_stream(RNG_DROPOUT, m->draw, MASK_POS)});
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        struct tensor *const all[MASK_KINDS] = {&b->mask_attention, &b->mask_attn_out, &b->mask_ff1,
                                                &b->mask_ff2};
        for (int i = 0; i < MASK_KINDS; i++) {
            uint64_t sub = (uint64_t)(MASK_BLOCK + MASK_KINDS * j + i);
            struct rng_key key = {m->seed, rng_stream(RNG_DROPOUT, m->draw, sub)};
            if (all[i]->data != NULL)
                op_dropout_mask(be, all[i], i == 0 ? p->dropatt : p->dropout, key);
        }
    }
}

static struct block_masks masks_view(const struct transformer_cell *c,
                                     const struct transformer_cell_block *b, int64_t batch,
                                     int64_t keys)
{
    struct block_masks m = {.attention_scale = 1.0};
    if (!c->masked)
        return m;
    m.attn_out = b->mask_attn_out;
    m.ff1 = b->mask_ff1;
    m.ff2 = b->mask_ff2;
    if (b->mask_attention.data != NULL) {
        m.attention = tensor_prefix(&b->mask_attention, 4, batch, c->shape.n_head, c->length, keys);
        m.attention_scale = 1.0 / (1.0 - c->plan.dropatt);
    }
    return m;
}

/* y = norm(x) as the block's attention sees its input, for memory states. */
static void normalise(struct transformer_cell *c, const struct transformer_cell_block *b,
                      const struct tensor *x, const struct tensor *y)
{
    struct residual_norm norm = {.a = tensor_matrix(x),
                                 .gain = b->w.attn_gain.w,
                                 .y = tensor_matrix(y),
                                 .rows_per_mask = 1,
                                 .kind = c->shape.norm,
                                 .eps = c->shape.norm_eps};
    if (b->mem_xhat.data != NULL) {
        norm.xhat = tensor_slice(&b->mem_xhat, 0, norm.a.dim[0]);
        norm.rstd = tensor_slice(&b->mem_rstd, 0, norm.a.dim[0]);
    }
    op_residual_norm(c->base.be, &norm);
}

/* The gain of a norm over memory states is a parameter too: its gradient, given dmem. */
static void memory_gain_gradient(struct transformer_cell *c, struct transformer_cell_block *b,
                                 const struct tensor *dmem)
{
    int64_t rows = dmem->dim[0];
    struct tensor dnormed = tensor_slice(&b->dmem_in, 0, rows);
    weight_vjp(c->base.be, &b->w.qkv, dmem, 0.0, &dnormed);
    struct residual_norm_vjp norm = {.kind = c->shape.norm,
                                     .dy = dnormed,
                                     .xhat = tensor_slice(&b->mem_xhat, 0, rows),
                                     .rstd = tensor_slice(&b->mem_rstd, 0, rows),
                                     .gain = b->w.attn_gain.w,
                                     .ds = dnormed,
                                     .dgain = b->w.attn_gain.dw,
                                     .rows_per_mask = 1};
    op_residual_norm_vjp(c->base.be, &norm);
}

/* Queries, keys and values of the memory do not change during a solve: computed here, once. */
static void begin_memory(struct transformer_cell *c, struct transformer_cell_block *b)
{
    struct backend *be = c->base.be;
    if (!c->plan.keep_states) {
        b->input.mem_qkv = memory_view(&b->mem_kv[c->now]);
        return;
    }
    struct tensor z = memory_view(&b->mem_z[c->now]), u = memory_view(&b->mem_u[c->now]);
    b->input.mem_z = z;
    b->input.mem_qkv = (struct tensor){0};
    if (z.data == NULL)
        return;
    if (c->shape.pre_norm) {
        b->input.mem_z = tensor_prefix(&b->mem_normed, 3, z.dim[0], z.dim[1], z.dim[2], 1);
        normalise(c, b, &z, &b->input.mem_z);
    }
    b->input.mem_qkv = tensor_prefix(&b->mem_qkv, 3, u.dim[0], u.dim[1], u.dim[2], 1);
    struct tensor in = tensor_matrix(&b->input.mem_z), qkv = tensor_matrix(&b->input.mem_qkv);
    op_copy(be, &b->input.mem_qkv, &u);
    weight_apply(be, &b->w.qkv, &in, 1.0, &qkv);
}

static void begin_block(struct transformer_cell *c, struct transformer_cell_block *b,
                        const struct tensor *e, int64_t keys, int64_t rows)
{
    struct backend *be = c->base.be;
    struct tensor em = tensor_matrix(e);
    b->input.u = tensor_prefix(&b->u, 3, e->dim[0], e->dim[1], b->u.dim[2], 1);
    struct tensor u = tensor_matrix(&b->input.u);
    weight_apply(be, &b->inject, &em, 0.0, &u);
    struct residual_norm add_bias = {
        .a = u, .bias = b->inject_bias.w, .sum = u, .rows_per_mask = 1, .kind = NORM_NONE};
    op_residual_norm(be, &add_bias);
    begin_memory(c, b);
    b->input.rk = tensor_slice(&b->rk, 0, rows);
    b->input.masks = masks_view(c, b, e->dim[0], keys);
    if (c->plan.train) {
        op_fill(be, &b->du, 0.0);
        op_fill(be, &b->drk, 0.0);
    }
}

static int64_t memory_length(const struct cell *base)
{
    const struct transformer_cell *c = (const struct transformer_cell *)base;
    return c->plan.keep_states ? c->block[0].mem_z[c->now].count : c->block[0].mem_kv[c->now].count;
}

static void begin(struct cell *base, const struct tensor *e, const struct masks *masks)
{
    struct transformer_cell *c = self(base);
    assert(e->dim[0] <= c->plan.batch && e->dim[1] <= c->plan.length);
    c->e = *e;
    c->length = e->dim[1];
    c->masked = masks->source != MASKS_NONE;
    draw_masks(c, masks);
    int64_t keys = memory_length(base) + c->length;
    int64_t rows = keys < c->positions.dim[0] ? keys : c->positions.dim[0];
    for (int64_t j = 0; j < c->blocks; j++)
        begin_block(c, &c->block[j], e, keys, rows);
    if (!c->plan.train)
        return;
    struct tensor positions = tensor_slice(&c->positions, 0, rows);
    if (c->masked && c->mask_pos.data != NULL) {
        struct tensor in = tensor_slice(&c->positions_in, 0, rows);
        struct tensor in3 = tensor_shape(&in, 3, 1, rows, in.dim[1], 1);
        struct tensor from = tensor_shape(&positions, 3, 1, rows, in.dim[1], 1);
        struct tensor mask = tensor_shape(&c->mask_pos, 3, 1, 1, in.dim[1], 1);
        op_mul_bcast(base->be, &in3, &from, &mask);
        positions = in;
    }
    map_positions(c, &positions, rows);
}

/* Input of block j in tape `tape`, given the cell's own input and output; likewise its output. */
static struct tensor block_in(const struct transformer_cell *c, int64_t j, int tape,
                              const struct tensor *z)
{
    if (j == 0)
        return *z;
    return tensor_prefix(&c->block[j - 1].outputs[tape], 3, z->dim[0], z->dim[1], z->dim[2], 1);
}

static struct tensor block_out(const struct transformer_cell *c, int64_t j, int tape,
                               const struct tensor *f)
{
    if (j == c->blocks - 1)
        return *f;
    return tensor_prefix(&c->block[j].outputs[tape], 3, f->dim[0], f->dim[1], f->dim[2], 1);
}

static void eval(struct cell *base, int tape, const struct tensor *z, const struct tensor *f)
{
    struct transformer_cell *c = self(base);
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        struct tensor in = block_in(c, j, tape, z), out = block_out(c, j, tape, f);
        block_eval(base->be, &c->shape, &b->w, &b->input, &b->tapes[tape], &c->scratch, &in, &out);
    }
}

static void vjp(struct cell *base, int tape, const struct tensor *z, const struct tensor *f,
                const struct tensor *df, const struct tensor *dz, bool full)
{
    struct transformer_cell *c = self(base);
    struct tensor from = *df;
    for (int64_t j = c->blocks - 1; j >= 0; j--) {
        struct transformer_cell_block *b = &c->block[j];
        struct tensor in = block_in(c, j, tape, z), out = block_out(c, j, tape, f);
        struct tensor to = *dz; /* alternate, so that the first block's gradient lands in dz */
        if (j % 2 == 1)
            to = tensor_prefix(&c->dstack, 3, dz->dim[0], dz->dim[1], dz->dim[2], 1);
        struct block_grads grads = {.drk = tensor_slice(&b->drk, 0, b->input.rk.dim[0])};
        grads.du = tensor_slice(&b->du, 0, z->dim[0] * z->dim[1]);
        if (b->input.mem_qkv.data != NULL)
            grads.dmem = tensor_slice(&b->dmem, 0, z->dim[0] * b->input.mem_qkv.dim[1]);
        block_vjp(base->be, &c->shape, &b->w, &b->input, &b->tapes[tape], &c->scratch, &in, &out,
                  &from, &to, full ? &grads : NULL);
        if (full && grads.dmem.data != NULL && b->mem_xhat.data != NULL)
            memory_gain_gradient(c, b, &grads.dmem);
        from = to;
    }
}

static uint64_t map_key(const struct cell *base)
{
    const struct transformer_cell *c = (const struct transformer_cell *)base;
    uint64_t key = solver_key_add(SOLVER_KEY, c->masked);
    for (int64_t j = 0; j < c->blocks; j++) {
        const struct block_input *in = &c->block[j].input;
        key = solver_key_add(key, (uint64_t)(uintptr_t)in->mem_qkv.data);
        key = solver_key_add(key, in->mem_qkv.data == NULL ? 0 : (uint64_t)in->mem_qkv.dim[1]);
        key = solver_key_add(key, (uint64_t)in->rk.dim[0]);
    }
    return key;
}

static void end_backward(struct cell *base, const struct tensor *de)
{
    struct transformer_cell *c = self(base);
    struct backend *be = base->be;
    struct tensor e = tensor_matrix(&c->e), dem = tensor_matrix(de);
    bool masked = c->masked && c->mask_pos.data != NULL;
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        struct tensor du = tensor_slice(&b->du, 0, e.dim[0]);
        weight_gradient(be, &b->inject, &du, &e);
        op_col_sum(be, &b->inject_bias.dw, &du);
        weight_vjp(be, &b->inject, &du, j == 0 ? 0.0 : 1.0, &dem);
        int64_t rows = b->input.rk.dim[0];
        struct tensor drk = tensor_slice(&b->drk, 0, rows);
        struct tensor r = tensor_slice(masked ? &c->positions_in : &c->positions, 0, rows);
        weight_gradient(be, &b->w.r, &drk, &r);
    }
}

static void remember(struct cell *base, int tape, const struct tensor *h)
{
    struct transformer_cell *c = self(base);
    struct backend *be = base->be;
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        struct tensor state = block_in(c, j, tape, h);
        if (c->plan.keep_states) {
            memory_push(&b->mem_z[c->now], be, &state, &c->kept);
            memory_push(&b->mem_u[c->now], be, &b->input.u, &c->kept);
            continue;
        }
        /* the tape's own rows are free once the segment is done */
        const struct tensor *u = &b->input.u;
        struct tensor kv =
            tensor_prefix(&b->tapes[tape].qkv, 3, u->dim[0], u->dim[1], u->dim[2], 1);
        struct tensor in = tensor_matrix(&state), kvm = tensor_matrix(&kv);
        if (c->shape.pre_norm) {
            struct tensor normed =
                tensor_prefix(&b->tapes[tape].norm_in, 2, in.dim[0], in.dim[1], 1, 1);
            normalise(c, b, &in, &normed);
            in = normed;
        }
        op_copy(be, &kv, u);
        weight_apply(be, &b->w.qkv, &in, 1.0, &kvm);
        memory_push(&b->mem_kv[c->now], be, &kv, &c->kept);
    }
}

static void reset_memory(struct cell *base)
{
    struct memory *m;
    for (int i = 0; (m = base->ops->memory(base, i)) != NULL; i++)
        memory_reset(m);
}

static void select_memory(struct cell *base, int index)
{
    assert(index >= 0 && index < self(base)->plan.memories);
    self(base)->now = index;
}

/* Of the first memory: states and injections (or keys and values) of block 0, of block 1, ...;
 * then those of the second. */
static struct memory *memory(struct cell *base, int index)
{
    struct transformer_cell *c = self(base);
    int kinds = c->plan.keep_states ? 2 : 1, each = kinds * (int)c->blocks;
    if (index >= each * c->plan.memories)
        return NULL;
    struct transformer_cell_block *b = &c->block[index % each / kinds];
    int which = index / each;
    if (!c->plan.keep_states)
        return &b->mem_kv[which];
    return index % kinds == 0 ? &b->mem_z[which] : &b->mem_u[which];
}

const struct cell_ops transformer_cell_ops = {
    .name = "transformer",
    .refresh = refresh,
    .begin = begin,
    .eval = eval,
    .vjp = vjp,
    .map_key = map_key,
    .end_backward = end_backward,
    .finish_gradients = finish_gradients,
    .remember = remember,
    .reset_memory = reset_memory,
    .select_memory = select_memory,
    .memory_length = memory_length,
    .memory = memory,
    .free = transformer_cell_free,
};
