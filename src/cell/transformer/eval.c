/* Evaluations of a block, at all positions or at some, and of the cell. */
#include "cell/transformer/transformer_cell.h"

/* --- a block ---------------------------------------------------------------------------------- */

struct attention block_attention(const struct block_call *c, const struct tensor *z)
{
    int64_t b = z->dim[0], l = z->dim[1], d = c->shape->d_model, heads = c->shape->n_head;
    return (struct attention){
        .qkv = tensor_prefix(&c->saved->qkv, 3, b, l, 3 * d, 1),
        .mem = c->in->mem_qkv,
        .rk = c->in->rk,
        .r_w = c->w->r_w.w,
        .r_r = c->w->r_r.w,
        .mask = c->in->masks.attention,
        .mask_scale = c->in->masks.attention_scale,
        .out = tensor_prefix(&c->saved->attn, 3, b, l, d, 1),
        .lse = tensor_prefix(&c->saved->lse, 3, b, heads, l, 1),
        .heads = heads,
        .span = c->shape->span,
    };
}

/* What comes before attention, row by row, is qkv [n,3D] <- W_qkv (z or norm(z)) + u, for z [n,D].
 * u [n,3D] or NULL may be qkv itself. */
static void project(const struct block_call *c, const struct tensor *u, const struct tensor *zm,
                    const struct tensor *qkv)
{
    int64_t n = zm->dim[0];
    struct tensor input = *zm;
    if (c->shape->pre_norm) {
        struct residual_norm norm = {
            .rows_per_mask = 1, .eps = c->shape->norm_eps, .kind = c->shape->norm};
        norm.a = *zm;
        norm.gain = c->w->attn_gain.w;
        norm.y = input = block_rows(&c->saved->norm_in, n);
        norm.xhat = block_rows(&c->saved->xhat_in, n);
        norm.rstd = block_rows(&c->saved->rstd_in, n);
        op_residual_norm(c->be, &norm);
    }
    if (u->data == qkv->data)
        weight_apply(c->be, &c->w->qkv, &input, 1.0, qkv);
    else
        weight_apply_to(c->be, &c->w->qkv, &input, u, qkv);
}

int64_t block_rows_at_once(const struct block_scratch *s, int64_t n, int64_t length)
{
    int64_t whole = s->rows / length * length;
    return whole < n ? whole : n;
}

void block_hidden(const struct block_call *c, int64_t length, const struct tensor *mid,
                  int64_t first, const struct tensor *h, const struct tensor *relu_mask)
{
    int64_t count = h->dim[0];
    struct tensor mask = c->in->masks.ff1;
    if (mask.data != NULL && c->in->sequence.data != NULL) {
        struct tensor list = tensor_slice(&c->in->sequence, first, count);
        struct tensor spread = tensor_prefix(&c->scratch->row_mask, 2, count, mask.dim[1], 1, 1);
        op_gather_rows(c->be, &spread, &mask, &list, 1.0);
        mask = spread;
    } else {
        mask = block_part(&mask, first / length, count / length);
    }
    struct ffn_up hidden = {.x = tensor_slice(mid, first, count),
                            .w = weight_factor(&c->w->ff1),
                            .bias = c->w->ff1_bias.w,
                            .mask = mask,
                            .h = *h,
                            .w_stride = c->w->ff1.stride,
                            .rows_per_mask = length,
                            .mask_scale = c->in->masks.ff1_scale};
    if (relu_mask != NULL)
        hidden.relu_mask = *relu_mask;
    op_ffn_up(c->be, &hidden);
}

/* out <- W_2 h(mid), both [n,D]. */
static void feed_forward(const struct block_call *c, int64_t length, const struct tensor *mid,
                         const struct tensor *out)
{
    int64_t n = mid->dim[0], inner = c->w->ff1.w.dim[0];
    bool kept = c->saved->h.data != NULL;
    int64_t step = kept ? n : block_rows_at_once(c->scratch, n, length);
    for (int64_t first = 0; first < n; first += step) {
        int64_t count = n - first < step ? n - first : step;
        struct tensor h =
            kept ? block_rows(&c->saved->h, n)
                 : block_work(&c->scratch->work, op_low_precision(c->be), count, inner);
        struct tensor relu_mask = block_part(&c->saved->relu_mask, first, count);
        struct tensor to = tensor_slice(out, first, count);
        block_hidden(c, length, mid, first, &h, &relu_mask);
        weight_apply(c->be, &c->w->ff2, &h, 0.0, &to);
    }
}

/* What comes after it, row by row, gives f [n,D] from attn and z [n,D]. Row n uses row n / l of the
 * masks. */
static void finish(const struct block_call *c, int64_t l, const struct tensor *attn,
                   const struct tensor *z, const struct tensor *f)
{
    const struct block_shape *shape = c->shape;
    const struct block_weights *w = c->w;
    const struct block_activations *t = c->saved;
    int64_t n = z->dim[0];
    struct tensor y = block_rows(&t->y, n), mid = block_rows(&t->mid, n);
    struct residual_norm common = {.rows_per_mask = l, .eps = shape->norm_eps, .kind = shape->norm};
    weight_apply(c->be, &w->o, attn, 0.0, &y);

    struct residual_norm half = common;
    half.a = y;
    half.bias = w->o_bias.w;
    half.mask = c->in->masks.attn_out;
    half.res = *z;
    half.xhat = block_rows(&t->xhat1, n);
    half.rstd = block_rows(&t->rstd1, n);
    if (shape->pre_norm) {
        half.gain = w->ff_gain.w;
        half.sum = y;
        half.y = mid;
    } else {
        half.gain = w->attn_gain.w;
        half.y = mid = y;
    }
    op_residual_norm(c->be, &half);
    feed_forward(c, l, &mid, f);

    struct residual_norm out = common;
    out.a = *f;
    out.bias = w->ff2_bias.w;
    out.mask = c->in->masks.ff2;
    if (shape->pre_norm) {
        out.kind = NORM_NONE;
        out.res = shape->published_residual ? mid : y;
        out.sum = *f;
    } else {
        out.res = y;
        out.gain = w->ff_gain.w;
        out.y = *f;
        out.xhat = block_rows(&t->xhat2, n);
        out.rstd = block_rows(&t->rstd2, n);
    }
    op_residual_norm(c->be, &out);
}

void block_eval(const struct block_call *c, const struct tensor *z, const struct tensor *f)
{
    int64_t l = z->dim[1], n = z->dim[0] * l;
    struct tensor zm = tensor_matrix(z), fm = tensor_matrix(f);
    struct tensor attn = block_rows(&c->saved->attn, n), qkv = block_rows(&c->saved->qkv, n);
    project(c, &c->in->u, &zm, &qkv);
    struct attention att = block_attention(c, z);
    op_attention(c->be, &att);
    finish(c, l, &attn, &zm, &fm);
}

/* --- a block at some positions ------------------------------------------------------------------
 *
 * Everything but attention works row by row, on the chosen rows brought together. Attention lets
 * their queries see the keys and values of all. */

/* Part `i` of a buffer [N,3D], as n rows of D numbers. */
static struct tensor third_of(const struct tensor *t, int64_t i, int64_t n)
{
    int64_t d = t->dim[1] / 3;
    struct tensor parts = tensor_prefix(t, 3, 3, n, d, 1), part = tensor_slice(&parts, i, 1);
    return tensor_shape(&part, 2, n, d, 1, 1);
}

/* to <- a mask of the rows' sequences. NULL stays NULL. */
static struct tensor spread_mask(struct backend *be, const struct tensor *mask,
                                 const struct tensor *to, const struct tensor *sequence)
{
    if (mask->data == NULL)
        return *mask;
    struct tensor rows = tensor_prefix(to, 2, sequence->dim[0], mask->dim[1], 1, 1);
    op_gather_rows(be, &rows, mask, sequence, 1.0);
    return rows;
}

void block_eval_rows(const struct block_call *c, const struct tensor *z, const struct tensor *f,
                     const struct tensor *rows)
{
    struct backend *be = c->be;
    const struct block_scratch *s = c->scratch;
    const struct block_masks *masks = &c->in->masks;
    int64_t n = rows->dim[1], d = c->shape->d_model;
    struct tensor list = tensor_slice(rows, 0, 1), sequence = tensor_slice(rows, 1, 1);
    list = tensor_shape(&list, 1, n, 1, 1, 1);
    sequence = tensor_shape(&sequence, 1, n, 1, 1, 1);
    struct tensor zm = tensor_matrix(z), fm = tensor_matrix(f), um = tensor_matrix(&c->in->u);
    struct tensor zr = tensor_prefix(&s->row_z, 2, n, d, 1, 1);
    struct tensor qkv = tensor_prefix(&s->row_qkv, 2, n, 3 * d, 1, 1), u = {0};
    op_gather_rows(be, &zr, &zm, &list, 1.0);
    if (c->in->u.data != NULL) {
        op_gather_rows(be, &qkv, &um, &list, 1.0);
        u = qkv;
    }
    project(c, &u, &zr, &qkv);
    struct attention att = block_attention(c, z);
    struct tensor qkv_all = tensor_matrix(&att.qkv), attn_all = tensor_matrix(&att.out);
    op_scatter_rows(be, &qkv_all, &qkv, &list);
    att.rows = list;
    att.lse = (struct tensor){0};
    op_attention(be, &att);

    /* qkv is no longer needed. Its buffer is used again for attn, out and a mask. */
    struct tensor attn = third_of(&s->row_qkv, 0, n), out = third_of(&s->row_qkv, 1, n);
    struct tensor third = third_of(&s->row_qkv, 2, n);
    struct block_input own = {.masks = *masks, .sequence = sequence};
    struct block_call chosen = *c;
    chosen.in = &own;
    own.masks.attn_out = spread_mask(be, &masks->attn_out, &s->row_b, &sequence);
    own.masks.ff2 = spread_mask(be, &masks->ff2, &third, &sequence);
    op_gather_rows(be, &attn, &attn_all, &list, 1.0);
    finish(&chosen, 1, &attn, &zr, &out);
    op_scatter_rows(be, &fm, &out, &list);
}

/* --- a segment of the cell begins ---------------------------------------------------------------
 */

/* Sub-streams of the dropout masks. Those of block j follow at MASK_BLOCK + MASK_KINDS * j. */
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
    /* Without dropout on the positions and with constant weights, once is enough. */
    if (c->plan.mode < CELL_TRAIN)
        map_positions(c, &c->positions, c->positions.dim[0]);
}

/* The attention mask of a segment over `keys` keys. Its rows lie without gaps. */
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
        op_dropout_mask(c->base.be, &c->mask_pos, c->shape.dropout,
                        (struct rng_key){m->seed, rng_stream(RNG_DROPOUT, m->draw, MASK_POS)}, 0);
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        struct tensor attention = attention_mask(c, b, c->plan.batch, keys);
        const struct tensor *const all[MASK_KINDS] = {&attention, &b->mask_attn_out, &b->mask_ff1,
                                                      &b->mask_ff2};
        for (int i = 0; i < MASK_KINDS; i++)
            draw_mask(c, m, all[i], i == 0 ? c->dropatt : c->shape.dropout,
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
    m.ff1_scale = 1.0 / (1.0 - c->shape.dropout);
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
    b->gathered = false;
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
    if (c->plan.mode < CELL_TRAIN)
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

/* --- f of the cell ------------------------------------------------------------------------------
 */

struct tensor transformer_cell_block_in(const struct transformer_cell *c, int64_t j, int slot,
                                        const struct tensor *z)
{
    if (j == 0)
        return *z;
    return tensor_cut(&c->block[j - 1].outputs[slot], z);
}

struct tensor transformer_cell_block_out(const struct transformer_cell *c, int64_t j, int slot,
                                         const struct tensor *f)
{
    if (j == c->blocks - 1)
        return *f;
    return tensor_cut(&c->block[j].outputs[slot], f);
}

struct block_call transformer_cell_call(const struct transformer_cell *c, int64_t j, int slot)
{
    const struct transformer_cell_block *b = &c->block[j];
    return (struct block_call){.be = c->base.be,
                               .shape = &c->shape,
                               .w = &b->w,
                               .in = &b->input,
                               .saved = transformer_cell_saved(c, j, slot),
                               .scratch = &c->scratch};
}

static void eval_one(struct transformer_cell *c, int64_t j, int slot, const struct tensor *in,
                     const struct tensor *out)
{
    struct block_call call = transformer_cell_call(c, j, slot);
    block_eval(&call, in, out);
}

static void eval(struct cell *base, int slot, const struct tensor *z, const struct tensor *f)
{
    struct transformer_cell *c = self(base);
    for (int64_t j = 0; j < c->blocks; j++) {
        struct tensor in = transformer_cell_block_in(c, j, slot, z),
                      out = transformer_cell_block_out(c, j, slot, f);
        eval_one(c, j, slot, &in, &out);
    }
}

static void eval_rows(struct cell *base, int slot, const struct tensor *z, const struct tensor *f,
                      const struct tensor *rows)
{
    struct transformer_cell *c = self(base);
    assert(c->blocks == 1);
    struct block_call call = transformer_cell_call(c, 0, slot);
    block_eval_rows(&call, z, f, rows);
}

static void eval_layer(struct cell *base, int64_t j, int slot, const struct tensor *z,
                       const struct tensor *f)
{
    transformer_cell_begin_memory(self(base), &self(base)->block[j], slot);
    eval_one(self(base), j, slot, z, f);
}

const struct cell_ops transformer_cell_ops = {
    .init = transformer_cell_init,
    .refresh = refresh,
    .begin = begin,
    .eval = eval,
    .eval_rows = eval_rows,
    .end_evals = transformer_cell_end_evals,
    .vjp = transformer_cell_vjp,
    .jvp = transformer_cell_jvp,
    .vjp_tangent = transformer_cell_vjp_tangent,
    .eval_layer = eval_layer,
    .vjp_layer = transformer_cell_vjp_layer,
    .remember_layer = transformer_cell_remember_layer,
    .end_backward = transformer_cell_end_backward,
    .finish_gradients = transformer_cell_finish_gradients,
    .remember = transformer_cell_remember,
    .select_memory = transformer_cell_select_memory,
    .memory_length = transformer_cell_memory_length,
    .memory = transformer_cell_memory,
    .free = transformer_cell_free,
};
