#include "cell/transformer/transformer_cell_impl.h"

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
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        for (int i = 0; i < NORMED_WEIGHTS; i++) {
            if (c->wnorm)
                normed_weight_refresh(&b->normed[i], matrix_of(b, i), base->be);
            weight_round(base->be, matrix_of(b, i));
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
        for (int i = 0; i < NORMED_WEIGHTS; i++)
            normed_weight_vjp(&b->normed[i], matrix_of(b, i), base->be);
    }
}

/* The attention mask of a segment over `keys` keys: its rows lie without gaps. */
static struct tensor attention_mask(const struct transformer_cell *c,
                                    const struct transformer_cell_block *b, int64_t batch,
                                    int64_t keys)
{
    if (b->mask_attention.data == NULL)
        return (struct tensor){0};
    return tensor_prefix(&b->mask_attention, 4, batch, c->shape.n_head, c->length, keys);
}

/* One mask of plan.batch streams, from stream number m->first on. */
static void draw_mask(struct transformer_cell *c, const struct masks *m, const struct tensor *mask,
                      double p, int64_t sub)
{
    struct rng_key key = {m->seed, rng_stream(RNG_DROPOUT, m->draw, (uint64_t)sub)};
    int64_t first = m->first * (tensor_count(mask) / c->plan.batch);
    if (mask->data != NULL)
        op_dropout_mask(c->base.be, mask, p, key, (uint64_t)first);
}

static void draw_masks(struct transformer_cell *c, const struct masks *m, int64_t keys)
{
    if (m->source != MASKS_DRAWN)
        return;
    if (c->mask_pos.data != NULL) /* one for all streams */
        op_dropout_mask(c->base.be, &c->mask_pos, c->dropout,
                        (struct rng_key){m->seed, rng_stream(RNG_DROPOUT, m->draw, MASK_POS)}, 0);
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        struct tensor attention = attention_mask(c, b, c->plan.batch, keys);
        const struct tensor *const all[MASK_KINDS] = {&attention, &b->mask_attn_out, &b->mask_ff1,
                                                      &b->mask_ff2};
        for (int i = 0; i < MASK_KINDS; i++)
            draw_mask(c, m, all[i], i == 0 ? c->dropatt : c->dropout,
                      MASK_BLOCK + MASK_KINDS * j + i);
    }
}

static struct block_masks masks_view(const struct transformer_cell *c,
                                     const struct transformer_cell_block *b, int64_t batch,
                                     int64_t keys)
{
    struct block_masks m = {.attention_scale = 1.0, .ff1_scale = 1.0};
    if (!c->masked)
        return m;
    m.attn_out = b->mask_attn_out;
    m.ff1 = b->mask_ff1;
    m.ff1_scale = 1.0 / (1.0 - c->dropout);
    m.ff2 = b->mask_ff2;
    if (b->mask_attention.data != NULL) {
        m.attention = attention_mask(c, b, batch, keys);
        m.attention_scale = 1.0 / (1.0 - c->dropatt);
    }
    return m;
}

static void inject(struct transformer_cell *c, struct transformer_cell_block *b,
                   const struct tensor *e)
{
    struct backend *be = c->base.be;
    struct tensor em = tensor_matrix(e);
    b->input.u = tensor_cut(&b->u, e);
    struct tensor u = tensor_matrix(&b->input.u);
    weight_apply(be, &b->inject, &em, 0.0, &u);
    struct residual_norm add_bias = {
        .a = u, .bias = b->inject_bias.w, .sum = u, .rows_per_mask = 1, .kind = NORM_NONE};
    op_residual_norm(be, &add_bias);
    if (c->plan.train && !b->du_lent)
        op_fill(be, &b->du, 0.0);
}

static void begin_block(struct transformer_cell *c, int64_t j, const struct tensor *e, int64_t keys,
                        int64_t rows)
{
    struct transformer_cell_block *b = &c->block[j];
    if (!c->layered) {
        inject(c, b, e);
        transformer_cell_begin_memory(c, b, j);
    }
    b->input.rk = tensor_slice(&b->rk, 0, rows);
    b->input.masks = masks_view(c, b, e->dim[0], keys);
    if (c->plan.train && !b->drk_lent)
        op_fill(c->base.be, &b->drk, 0.0);
}

static void begin(struct cell *base, const struct tensor *e, const struct masks *masks)
{
    struct transformer_cell *c = self(base);
    assert(e->dim[0] <= c->plan.batch && e->dim[1] <= c->plan.length);
    assert(!c->injected || transformer_cell_memory_length(base) == 0);
    c->injected = false;
    c->e = *e;
    c->length = e->dim[1];
    c->masked = masks->source != MASKS_NONE;
    int64_t keys = transformer_cell_memory_length(base) + c->length;
    draw_masks(c, masks, keys);
    int64_t rows = keys < c->positions.dim[0] ? keys : c->positions.dim[0];
    for (int64_t j = 0; j < c->blocks; j++)
        begin_block(c, j, e, keys, rows);
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

struct tensor transformer_cell_block_in(const struct transformer_cell *c, int64_t j, int tape,
                                        const struct tensor *z)
{
    if (j == 0)
        return *z;
    return tensor_cut(&c->block[j - 1].outputs[tape], z);
}

struct tensor transformer_cell_block_out(const struct transformer_cell *c, int64_t j, int tape,
                                         const struct tensor *f)
{
    if (j == c->blocks - 1)
        return *f;
    return tensor_cut(&c->block[j].outputs[tape], f);
}

struct block_call transformer_cell_call(const struct transformer_cell *c, int64_t j, int tape)
{
    const struct transformer_cell_block *b = &c->block[j];
    return (struct block_call){.be = c->base.be,
                               .shape = &c->shape,
                               .w = &b->w,
                               .in = &b->input,
                               .tape = transformer_cell_tape(c, j, tape),
                               .scratch = &c->scratch};
}

static void eval_one(struct transformer_cell *c, int64_t j, int tape, const struct tensor *in,
                     const struct tensor *out)
{
    struct block_call call = transformer_cell_call(c, j, tape);
    block_eval(&call, in, out);
}

struct block_grads transformer_cell_grads(const struct transformer_cell *c, int64_t j,
                                          const struct tensor *z)
{
    const struct transformer_cell_block *b = &c->block[j];
    struct block_grads grads = {.drk = tensor_slice(&b->drk, 0, b->input.rk.dim[0])};
    if (!c->layered)
        grads.du = tensor_slice(&b->du, 0, z->dim[0] * z->dim[1]);
    if (b->input.mem_qkv.data != NULL)
        grads.dmem = tensor_slice(&c->dmem, 0, z->dim[0] * b->input.mem_qkv.dim[1]);
    return grads;
}

static void vjp_one(struct transformer_cell *c, int64_t j, int tape, const struct tensor *in,
                    const struct tensor *out, const struct tensor *df, const struct tensor *dz,
                    bool full)
{
    struct transformer_cell_block *b = &c->block[j];
    struct block_call call = transformer_cell_call(c, j, tape);
    struct block_grads grads = {0};
    if (full)
        grads = transformer_cell_grads(c, j, in);
    if (full && b->drk_lent)
        op_fill(c->base.be, &b->drk, 0.0);
    block_vjp(&call, in, out, df, dz, full ? &grads : NULL);
    transformer_cell_gain_gradient(c, j, tape, &grads.dmem);
}

static void eval(struct cell *base, int tape, const struct tensor *z, const struct tensor *f)
{
    struct transformer_cell *c = self(base);
    for (int64_t j = 0; j < c->blocks; j++) {
        struct tensor in = transformer_cell_block_in(c, j, tape, z),
                      out = transformer_cell_block_out(c, j, tape, f);
        eval_one(c, j, tape, &in, &out);
    }
}

static void eval_rows(struct cell *base, int tape, const struct tensor *z, const struct tensor *f,
                      const struct tensor *rows)
{
    struct transformer_cell *c = self(base);
    assert(c->blocks == 1);
    struct block_call call = transformer_cell_call(c, 0, tape);
    block_eval_rows(&call, z, f, rows);
}

/* Injections go to their memories, so that gradients may take their place. */
static void end_evals(struct cell *base)
{
    struct transformer_cell *c = self(base);
    if (c->plan.evals_end)
        transformer_cell_remember_injections(c);
}

static void vjp(struct cell *base, int tape, const struct tensor *z, const struct tensor *f,
                const struct tensor *df, const struct tensor *dz, bool full)
{
    struct transformer_cell *c = self(base);
    struct tensor from = *df;
    for (int64_t j = c->blocks - 1; j >= 0; j--) {
        struct tensor in = transformer_cell_block_in(c, j, tape, z),
                      out = transformer_cell_block_out(c, j, tape, f);
        struct tensor to = *dz; /* alternate, so that the first block's gradient lands in dz */
        if (j % 2 == 1)
            to = tensor_cut(&c->dstack, dz);
        vjp_one(c, j, tape, &in, &out, &from, &to, full);
        from = to;
    }
}

static void eval_layer(struct cell *base, int64_t j, int tape, const struct tensor *z,
                       const struct tensor *f)
{
    transformer_cell_begin_memory(self(base), &self(base)->block[j], tape);
    eval_one(self(base), j, tape, z, f);
}

static void vjp_layer(struct cell *base, int64_t j, int tape, const struct tensor *z,
                      const struct tensor *f, const struct tensor *df, const struct tensor *dz)
{
    vjp_one(self(base), j, tape, z, f, df, dz, true);
}

static void end_backward(struct cell *base, const struct tensor *de)
{
    struct transformer_cell *c = self(base);
    struct backend *be = base->be;
    struct tensor e = tensor_matrix(&c->e), dem = tensor_matrix(de);
    bool masked = c->masked && c->mask_pos.data != NULL;
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        if (!c->layered) {
            struct tensor du = tensor_slice(&b->du, 0, e.dim[0]);
            weight_gradient(be, &b->inject, &du, &e);
            op_col_sum(be, &b->inject_bias.dw, &du);
            weight_vjp(be, &b->inject, &du, j == 0 ? 0.0 : 1.0, &dem);
        }
        int64_t rows = b->input.rk.dim[0];
        struct tensor drk = tensor_slice(&b->drk, 0, rows);
        struct tensor r = tensor_slice(masked ? &c->positions_in : &c->positions, 0, rows);
        weight_gradient(be, &b->w.r, &drk, &r);
    }
}

static void remember(struct cell *base, int tape, const struct tensor *h)
{
    struct transformer_cell *c = self(base);
    transformer_cell_remember_injections(c);
    c->injected = false;
    for (int64_t j = 0; j < c->blocks; j++) {
        struct tensor state = transformer_cell_block_in(c, j, tape, h);
        transformer_cell_remember(c, j, tape, &state);
    }
}

static void remember_layer(struct cell *base, int64_t j, const struct tensor *z)
{
    transformer_cell_remember(self(base), j, 0, z);
}

static void select_memory(struct cell *base, int index)
{
    assert(index >= 0 && index < self(base)->plan.memories);
    self(base)->now = index;
}

const struct cell_ops transformer_cell_ops = {
    .refresh = refresh,
    .begin = begin,
    .eval = eval,
    .eval_rows = eval_rows,
    .end_evals = end_evals,
    .vjp = vjp,
    .jvp = transformer_cell_jvp,
    .vjp_tangent = transformer_cell_vjp_tangent,
    .eval_layer = eval_layer,
    .vjp_layer = vjp_layer,
    .remember_layer = remember_layer,
    .end_backward = end_backward,
    .finish_gradients = finish_gradients,
    .remember = remember,
    .select_memory = select_memory,
    .memory_length = transformer_cell_memory_length,
    .memory = transformer_cell_memory,
    .free = transformer_cell_free,
};
