/* Segments, evaluations, vjps and memory of the trellis cell. */
#include "cell/trellis/trellis_cell.h"

/* Sub-streams of the dropout masks (the model has others, see model.c). */
enum { MASK_HIDDEN = 8, MASK_WEIGHT = 9 };

static struct trellis_cell *self(struct cell *c)
{
    return (struct trellis_cell *)c;
}

/* The planned buffer [B,pitch,C] cut to the pitch of the current segment. */
static struct tensor padded(const struct trellis_cell *c, const struct tensor *t)
{
    return tensor_prefix(t, 3, c->e.dim[0], c->pitch, t->dim[2], 1);
}

/* A block of columns and rows of t [B,T,C], that is rows [first, first + rows) of every sequence.
 */
static struct tensor block_of(const struct tensor *t, int64_t first, int64_t rows, int64_t column,
                              int64_t columns)
{
    size_t skip = (size_t)(first * t->dim[2] + column) * dtype_size(t->dtype);
    return tensor_make((char *)t->data + skip, t->dtype, 3, t->dim[0], rows, columns, 1);
}

/* --- weights ---------------------------------------------------------------------------------- */

static void refresh(struct cell *base)
{
    struct trellis_cell *c = self(base);
    if (!c->wnorm)
        return;
    normed_weight_refresh(&c->inject_norm, &c->inject.weight, base->be);
    if (c->drop.rate == 0)
        normed_weight_refresh(&c->state_norm, &c->state.weight, base->be);
}

static void finish_gradients(struct cell *base)
{
    struct trellis_cell *c = self(base);
    if (!c->wnorm)
        return;
    normed_weight_vjp(&c->inject_norm, &c->inject.weight, base->be);
    if (c->drop.rate == 0)
        normed_weight_vjp(&c->state_norm, &c->state.weight, base->be);
}

/* With weight drop the effective weight is the segment's own, made from v under a new mask. */
static void drop_weight(struct trellis_cell *c, const struct masks *m)
{
    struct backend *be = c->base.be;
    struct dropped_weight *d = &c->drop;
    const struct tensor *v = &c->state_norm.v.w;
    int64_t rows = v->dim[0], old = d->drawn.dim[1], all = v->dim[1];
    if (m->source == MASKS_DRAWN) {
        op_dropout_mask(be, &d->drawn, d->rate,
                        (struct rng_key){m->seed, rng_stream(RNG_DROPOUT, m->draw, MASK_WEIGHT)},
                        0);
        struct copy_block p = {.from = tensor_shape(&d->drawn, 3, 1, rows, old, 1), .to_row = all};
        p.to = tensor_make(d->mask.data, d->mask.dtype, 3, 1, rows, old, 1);
        p.to_batch = rows * all;
        op_copy_block(be, &p);
    }
    if (c->masked) {
        struct tensor from = tensor_shape(v, 3, 1, rows, all, 1);
        struct tensor to = tensor_shape(&d->v.w, 3, 1, rows, all, 1);
        struct tensor mask = tensor_shape(&d->mask, 3, 1, rows, all, 1);
        op_mul_bcast(be, &to, &from, &mask);
    } else {
        op_copy(be, &d->v.w, v);
    }
    op_fill(be, &d->v.dw, 0.0);
    if (!d->without_norm) {
        struct normed_weight n = c->state_norm;
        n.v = d->v;
        normed_weight_refresh(&n, &c->state.weight, be);
    }
}

/* Its gradient goes back the same way before the next one. */
static void drop_weight_vjp(struct trellis_cell *c)
{
    struct backend *be = c->base.be;
    struct dropped_weight *d = &c->drop;
    int64_t rows = d->mask.dim[0], all = d->mask.dim[1];
    if (!d->without_norm) {
        struct normed_weight n = c->state_norm;
        n.v = d->v;
        normed_weight_vjp(&n, &c->state.weight, be);
    }
    if (c->masked) {
        struct tensor dv = tensor_shape(&d->v.dw, 3, 1, rows, all, 1);
        struct tensor mask = tensor_shape(&d->mask, 3, 1, rows, all, 1);
        op_mul_bcast(be, &dv, &dv, &mask);
    }
    op_axpby(be, &c->state_norm.v.dw, 1.0, &d->v.dw, 1.0);
}

/* --- a segment -------------------------------------------------------------------------------- */

/* Columns [column, +C) of the last `count` rows of `from` [B,T,*] into the rows of `to` [B,pitch,C]
 * that end at row `end`, under a mask [B,C] or NULL. */
static void place_history(struct trellis_cell *c, const struct tensor *to, int64_t end,
                          const struct tensor *from, int64_t count, int64_t column,
                          const struct tensor *mask)
{
    int64_t columns = to->dim[2], stride = from->dim[2];
    struct copy_block p = {.to = block_of(to, end - count, count, 0, columns),
                           .to_batch = to->dim[1] * columns,
                           .to_row = columns,
                           .from_row = stride};
    p.from = block_of(from, from->dim[1] - count, count, column, columns);
    p.from_batch = from->dim[1] * stride;
    if (mask != NULL)
        p.mask = *mask;
    op_copy_block(c->base.be, &p);
}

/* us = conv(e) + b_x, with the last embeddings of the segment before in front. */
static void inject(struct trellis_cell *c)
{
    struct backend *be = c->base.be;
    struct tensor rows = padded(c, &c->e_rows), u = padded(c, &c->u), um = tensor_matrix(&u);
    int64_t history = causal_conv_history(&c->inject);
    op_fill(be, &rows, 0.0);
    struct tensor old = {0};
    if (c->embeds != NULL)
        old = memory_view(&c->embeds[c->now]);
    if (old.data != NULL)
        place_history(c, &rows, history, &old, old.dim[1], 0, NULL);
    place_history(c, &rows, history + c->length, &c->e, c->length, 0, NULL);
    causal_conv_eval(&c->inject, be, &rows, &u, c->length);
    struct residual_norm add_bias = {
        .a = um, .bias = c->inject_bias.w, .sum = um, .rows_per_mask = 1, .kind = NORM_NONE};
    op_residual_norm(be, &add_bias);
}

/* Places the states before the segment, h in front of the convolution's rows and c of the last one.
 */
static void begin_states(struct trellis_cell *c)
{
    struct backend *be = c->base.be;
    struct tensor rows = padded(c, &c->h_rows), old = memory_view(&c->states[c->now]);
    struct tensor *mask = c->masked && c->mask_hidden.data != NULL ? &c->mask_hidden : NULL;
    op_fill(be, &rows, 0.0);
    c->started = old.data != NULL;
    if (!c->started)
        return;
    struct tensor c0 = tensor_shape(&c->c0, 3, c->e.dim[0], 1, c->half, 1);
    place_history(c, &c0, 1, &old, 1, c->half, NULL);
    if (c->published) {
        for (int64_t end = 1; end <= c->pad; end++)
            place_history(c, &rows, end, &old, 1, 0, mask);
    } else {
        int64_t count = old.dim[1] < c->pad ? old.dim[1] : c->pad;
        place_history(c, &rows, c->pad, &old, count, 0, mask);
    }
}

static void begin(struct cell *base, const struct tensor *e, const struct masks *masks)
{
    struct trellis_cell *c = self(base);
    assert(e->dim[0] == c->plan.batch && e->dim[1] <= c->plan.length);
    c->e = *e;
    c->length = e->dim[1];
    c->pitch = c->pad + c->length;
    c->masked = masks->source != MASKS_NONE;
    if (masks->source == MASKS_DRAWN && c->mask_hidden.data != NULL)
        op_dropout_mask(
            base->be, &c->mask_hidden, c->dropouth,
            (struct rng_key){masks->seed, rng_stream(RNG_DROPOUT, masks->draw, MASK_HIDDEN)},
            (uint64_t)(masks->first * (tensor_count(&c->mask_hidden) / c->plan.batch)));
    if (c->drop.rate > 0)
        drop_weight(c, masks);
    inject(c);
    begin_states(c);
    c->gathered = false;
}

/* h of every position of z into the convolution's rows, under the mask. */
static void load_hidden(struct trellis_cell *c, const struct tensor *z)
{
    struct tensor rows = padded(c, &c->h_rows);
    place_history(c, &rows, c->pitch, z, c->length, 0,
                  c->masked && c->mask_hidden.data != NULL ? &c->mask_hidden : NULL);
}

static struct tensor start_c(const struct trellis_cell *c)
{
    return c->started ? c->c0 : (struct tensor){0};
}

static void eval(struct cell *base, int slot, const struct tensor *z, const struct tensor *f)
{
    struct trellis_cell *c = self(base);
    struct tensor rows = padded(c, &c->h_rows);
    load_hidden(c, z);
    struct lstm_cell gate = {.pre = padded(c, &c->gates[slot]),
                             .u = padded(c, &c->u),
                             .bias = c->state_bias.w,
                             .z = *z,
                             .c0 = start_c(c),
                             .out = *f};
    causal_conv_eval(&c->state, base->be, &rows, &gate.pre, c->length);
    op_lstm_cell(base->be, &gate);
}

static void vjp(struct cell *base, int slot, const struct tensor *z, const struct tensor *f,
                const struct tensor *df, const struct tensor *dz, bool full)
{
    struct trellis_cell *c = self(base);
    struct backend *be = base->be;
    bool first = full && !c->gathered; /* then the gradient of u is that of the gates itself */
    struct tensor dpre = padded(c, first ? &c->du : &c->dpre), dh = padded(c, &c->dh);
    struct lstm_cell_vjp gate = {.gates = padded(c, &c->gates[slot]),
                                 .z = *z,
                                 .c0 = start_c(c),
                                 .out = *f,
                                 .dout = *df,
                                 .dpre = dpre,
                                 .dz = *dz};
    op_lstm_cell_vjp(be, &gate);
    causal_conv_vjp(&c->state, be, &dpre, &dh, c->length);
    struct copy_block p = {.to = block_of(dz, 0, c->length, 0, c->half),
                           .to_batch = c->length * 2 * c->half,
                           .to_row = 2 * c->half,
                           .from = block_of(&dh, 0, c->length, 0, c->half),
                           .from_batch = c->pitch * c->half,
                           .from_row = c->half};
    if (c->masked && c->mask_hidden.data != NULL)
        p.mask = c->mask_hidden;
    op_copy_block(be, &p);
    if (!full)
        return;
    struct tensor rows = padded(c, &c->h_rows), du = padded(c, &c->du), dm = tensor_matrix(&dpre);
    load_hidden(c, z);
    causal_conv_gradient(&c->state, be, &dpre, &rows, c->length);
    op_col_sum(be, &c->state_bias.dw, &dm);
    c->gathered = true;
    if (!first)
        op_axpby(be, &du, 1.0, &dpre, 1.0);
}

static void end_backward(struct cell *base, const struct tensor *de)
{
    struct trellis_cell *c = self(base);
    struct backend *be = base->be;
    struct tensor du = padded(c, &c->du), dum = tensor_matrix(&du), rows = padded(c, &c->e_rows);
    causal_conv_gradient(&c->inject, be, &du, &rows, c->length);
    op_col_sum(be, &c->inject_bias.dw, &dum);
    causal_conv_vjp(&c->inject, be, &du, &rows, c->length); /* e itself is no longer needed there */
    struct copy_block p = {.to = *de,
                           .from = block_of(&rows, 0, c->length, 0, c->embed),
                           .from_batch = c->pitch * c->embed,
                           .from_row = c->embed};
    op_copy_block(be, &p);
    if (c->drop.rate > 0)
        drop_weight_vjp(c);
}

/* --- memory ----------------------------------------------------------------------------------- */

static void remember(struct cell *base, int slot, const struct tensor *h)
{
    struct trellis_cell *c = self(base);
    (void)slot;
    memory_push(&c->states[c->now], base->be, h, &c->kept);
    if (c->embeds != NULL)
        memory_push(&c->embeds[c->now], base->be, &c->e, &c->kept);
}

static struct memory *memory(struct cell *base, int index)
{
    struct trellis_cell *c = self(base);
    int kinds = c->embeds != NULL ? 2 : 1;
    if (index >= kinds * c->plan.memories)
        return NULL;
    return index % kinds == 0 ? &c->states[index / kinds] : &c->embeds[index / kinds];
}

static void select_memory(struct cell *base, int index)
{
    assert(index >= 0 && index < self(base)->plan.memories);
    self(base)->now = index;
}

static int64_t memory_length(const struct cell *base)
{
    const struct trellis_cell *c = (const struct trellis_cell *)base;
    return c->states[c->now].count;
}

const struct cell_ops trellis_cell_ops = {
    .init = trellis_cell_init,
    .refresh = refresh,
    .begin = begin,
    .eval = eval,
    .vjp = vjp,
    .end_backward = end_backward,
    .finish_gradients = finish_gradients,
    .remember = remember,
    .select_memory = select_memory,
    .memory_length = memory_length,
    .memory = memory,
    .free = trellis_cell_free,
};
