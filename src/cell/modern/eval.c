/* A segment of the modern cell begins, and f is evaluated. */
#include "cell/modern/modern_cell.h"

/* Sub-streams of the dropout masks. Those of block i follow at MASK_BLOCK + MASK_KINDS * i. */
enum { MASK_BLOCK = 8, MASK_KINDS = 3 };

struct modern_activations *modern_saved(const struct modern_cell *c, int64_t i, int slot)
{
    if (c->layered)
        return &c->saved[slot];
    if (i < c->prelude)
        return &c->saved[i];
    if (i < c->prelude + c->core)
        return &c->saved[i + slot * c->core];
    return &c->saved[i + (c->plan.slots - 1) * c->core];
}

struct modern_call modern_call_of(const struct modern_cell *c, int64_t i, int slot)
{
    return (struct modern_call){.be = c->base.be,
                                .shape = &c->shape,
                                .w = c->block[i].w,
                                .in = &c->block[i].input,
                                .saved = modern_saved(c, i, slot),
                                .scratch = &c->scratch};
}

/* The mask of attention's weights over `keys` keys. Its rows lie without gaps. */
static struct tensor weights_mask(const struct modern_cell *c, int64_t i, int64_t batch,
                                  int64_t keys)
{
    const struct tensor *mask = &c->block[i].mask_weights;
    if (mask->data == NULL)
        return *mask;
    return tensor_prefix(mask, 4, batch, c->shape.heads, c->length, keys);
}

static void draw_masks(struct modern_cell *c, const struct masks *m, int64_t keys)
{
    if (m->source != MASKS_DRAWN)
        return;
    for (int64_t i = 0; i < modern_blocks(c); i++) {
        struct tensor weights = weights_mask(c, i, c->plan.batch, keys);
        const struct tensor *const all[MASK_KINDS] = {&c->block[i].mask_attn, &c->block[i].mask_ff,
                                                      &weights};
        for (int k = 0; k < MASK_KINDS; k++) {
            uint64_t sub = (uint64_t)(MASK_BLOCK + MASK_KINDS * i + k);
            struct rng_key key = {m->seed, rng_stream(RNG_DROPOUT, m->draw, sub)};
            int64_t first = m->first * (tensor_count(all[k]) / c->plan.batch);
            double rate = k == MASK_KINDS - 1 ? c->shape.dropatt : c->shape.dropout;
            if (all[k]->data != NULL)
                op_dropout_mask(c->base.be, all[k], rate, key, (uint64_t)first);
        }
    }
}

/* What every block has of the segment. */
static void begin_block(struct modern_cell *c, int64_t i)
{
    struct modern_cell_block *b = &c->block[i];
    int64_t past = modern_cell_memory_length(&c->base);
    b->input = (struct modern_input){.first = past, .weights_scale = 1.0};
    if (c->shape.rope)
        b->input.turn = c->turn;
    if (c->masked) {
        b->input.mask_attn = b->mask_attn;
        b->input.mask_ff = b->mask_ff;
        b->input.mask_weights = weights_mask(c, i, c->e.dim[0], past + c->length);
        if (b->mask_weights.data != NULL)
            b->input.weights_scale = 1.0 / (1.0 - c->shape.dropatt);
    }
    if (!c->layered)
        modern_cell_begin_memory(c, i, &b->mem_qkv);
}

/* y <- norm(x), which may be the same. */
static void normalise(const struct modern_cell *c, const struct tensor *x, const struct tensor *y,
                      const struct tensor *rstd)
{
    struct tensor from = tensor_matrix(x);
    struct residual_norm p = {.a = from,
                              .y = tensor_matrix(y),
                              .rstd = modern_rows(rstd, from.dim[0]),
                              .kind = c->shape.norm,
                              .eps = c->shape.eps,
                              .rows_per_mask = 1};
    op_residual_norm(c->base.be, &p);
}

/* u <- W_e e, in the columns of v alone if it goes there. */
static void inject_columns(struct modern_cell *c, const struct tensor *e)
{
    const struct modern_shape *s = &c->shape;
    struct tensor em = tensor_matrix(e), u = modern_rows(&c->u, em.dim[0]);
    if (c->inject != INJECT_V) {
        weight_apply(c->base.be, &c->inject_w, &em, 0.0, &u);
        return;
    }
    int64_t kv = s->groups * s->head, skip = s->wide - kv;
    struct gemm p = {.trans_b = true,
                     .b_padded = true,
                     .alpha = 1,
                     .a = em,
                     .b = weight_factor(&c->inject_w),
                     .b_stride = c->inject_w.stride,
                     .c = u,
                     .c_stride = s->wide};
    op_fill(c->base.be, &u, 0.0);
    p.c.data = (char *)u.data + (size_t)skip * dtype_size(u.dtype);
    p.c.dim[1] = kv;
    op_gemm(c->base.be, &p);
}

/* What the core's first block sees of the injection, given e = norm(prelude). */
static void inject(struct modern_cell *c, const struct tensor *e)
{
    struct modern_input *in = &c->block[c->prelude].input;
    int64_t n = e->dim[0] * e->dim[1];
    if (c->layered)
        return;
    if (c->inject == INJECT_ADD) {
        in->entry = ENTRY_ADD;
        in->u = tensor_matrix(e);
        return;
    }
    inject_columns(c, e);
    in->u = modern_rows(&c->u, n);
    in->entry = c->inject == INJECT_LINEAR  ? ENTRY_LINEAR
                : c->inject == INJECT_DECAY ? ENTRY_ADD
                                            : ENTRY_QKV;
    in->state = &c->state_w;
    if (c->inject == INJECT_DECAY)
        in->factor = c->factor;
}

static void begin(struct cell *base, const struct tensor *e, const struct masks *masks)
{
    struct modern_cell *c = modern_self(base);
    assert(e->dim[0] <= c->plan.batch && e->dim[1] <= c->plan.length);
    c->e = *e;
    c->length = e->dim[1];
    c->masked = masks->source != MASKS_NONE;
    c->gathered = false;
    draw_masks(c, masks, modern_cell_memory_length(base) + c->length);
    normalise(c, e, e, &c->rstd_embed);
    for (int64_t i = 0; i < modern_blocks(c); i++)
        begin_block(c, i);
    struct tensor at = *e;
    for (int64_t i = 0; i < c->prelude; i++) {
        struct modern_call call = modern_call_of(c, i, 0);
        struct tensor out = tensor_cut(&c->block[i].output, e);
        modern_block_eval(&call, &at, &out);
        at = out;
    }
    if (c->prelude > 0) {
        struct tensor in = tensor_cut(&c->e_in, e);
        normalise(c, &at, &in, &c->rstd_in);
        at = in;
    }
    inject(c, &at);
}

struct tensor modern_core_in(const struct modern_cell *c, int64_t j, int slot,
                             const struct tensor *z)
{
    return j == 0 ? *z : tensor_cut(&c->outputs[slot * c->core + j - 1], z);
}

struct tensor modern_core_out(const struct modern_cell *c, int64_t j, int slot,
                              const struct tensor *f)
{
    return j == c->core - 1 ? *f : tensor_cut(&c->outputs[slot * c->core + j], f);
}

/* From the last block's output, where f is, to f. `z` holds the same rows. */
static void leave(struct modern_cell *c, int slot, const struct tensor *z, const struct tensor *f)
{
    if (c->takes_off)
        op_axpby(c->base.be, f, -1.0, z, 1.0);
    if (c->outer_norm)
        normalise(c, f, f, &c->rstd_f[slot]);
}

static void eval(struct cell *base, int slot, const struct tensor *z, const struct tensor *f)
{
    struct modern_cell *c = modern_self(base);
    for (int64_t j = 0; j < c->core; j++) {
        struct modern_call call = modern_call_of(c, c->prelude + j, slot);
        struct tensor in = modern_core_in(c, j, slot, z), out = modern_core_out(c, j, slot, f);
        modern_block_eval(&call, &in, &out);
    }
    leave(c, slot, z, f);
}

static void eval_rows(struct cell *base, int slot, const struct tensor *z, const struct tensor *f,
                      const struct tensor *rows)
{
    struct modern_cell *c = modern_self(base);
    struct modern_call call = modern_call_of(c, c->prelude, slot);
    assert(c->core == 1);
    struct tensor from, out, all = tensor_matrix(f), list = tensor_slice(rows, 0, 1);
    list = tensor_shape(&list, 1, rows->dim[1], 1, 1, 1);
    modern_block_eval_rows(&call, z, rows, &from, &out);
    leave(c, slot, &from, &out);
    op_scatter_rows(base->be, &all, &out, &list);
}

static void eval_layer(struct cell *base, int64_t j, int slot, const struct tensor *z,
                       const struct tensor *f)
{
    struct modern_cell *c = modern_self(base);
    modern_cell_begin_memory(c, j, &c->layer_mem[slot]);
    struct modern_call call = modern_call_of(c, j, slot);
    modern_block_eval(&call, z, f);
}

const struct cell_ops modern_cell_ops = {
    .init = modern_cell_init,
    .refresh = modern_cell_refresh,
    .begin = begin,
    .eval = eval,
    .eval_rows = eval_rows,
    .vjp = modern_cell_vjp,
    .jvp = modern_cell_jvp,
    .vjp_tangent = modern_cell_vjp_tangent,
    .eval_layer = eval_layer,
    .vjp_layer = modern_cell_vjp_layer,
    .remember_layer = modern_cell_remember_layer,
    .end_backward = modern_cell_end_backward,
    .finish_gradients = modern_cell_finish_gradients,
    .remember = modern_cell_remember,
    .head = modern_cell_head,
    .head_vjp = modern_cell_head_vjp,
    .select_memory = modern_cell_select_memory,
    .memory_length = modern_cell_memory_length,
    .memory = modern_cell_memory,
    .free = modern_cell_free,
};
