/* Products with the Jacobian's transpose, and gradients. */
#include "cell/transformer/transformer_cell.h"

/* --- a block ---------------------------------------------------------------------------------- */

struct ffn_up_vjp block_ffn_up_vjp(const struct block_call *c, int64_t length, int64_t first,
                                   const struct tensor *dy, const struct tensor *dh)
{
    int64_t n = dy->dim[0];
    return (struct ffn_up_vjp){.dy = *dy,
                               .w = weight_factor(&c->w->ff2),
                               .mask = block_part(&c->in->masks.ff1, first / length, n / length),
                               .h = block_part(&c->saved->h, first, n),
                               .relu_mask = block_part(&c->saved->relu_mask, first, n),
                               .dh = *dh,
                               .w_stride = c->w->ff2.stride,
                               .rows_per_mask = length,
                               .mask_scale = c->in->masks.ff1_scale};
}

/* Gradients of the weights of one linear map y = x w^T + b, b optional. */
static void linear_gradient(struct backend *be, const struct weight *w, const struct weight *bias,
                            const struct tensor *dy, const struct tensor *x)
{
    weight_gradient(be, w, dy, x);
    if (bias != NULL)
        op_col_sum(be, &bias->dw, dy);
}

/* dx <- W_1^T dh + beta dx from the gradient `da` at the hidden layer's product, `x` its input, all
 * [n,D], where da may be dx. */
static void feed_forward_vjp(const struct block_call *c, int64_t length, const struct tensor *x,
                             const struct tensor *da, double beta, const struct tensor *dx,
                             bool full)
{
    const struct block_weights *w = c->w;
    const struct block_scratch *s = c->scratch;
    int64_t n = da->dim[0], inner = w->ff1.w.dim[0], step = block_rows_at_once(s, n, length);
    for (int64_t first = 0; first < n; first += step) {
        int64_t count = n - first < step ? n - first : step;
        struct tensor dy = tensor_slice(da, first, count), to = tensor_slice(dx, first, count);
        struct tensor dh = block_work(&s->vjp_work, op_low_precision(c->be), count, inner);
        struct tensor h = c->saved->h;
        struct ffn_up_vjp hidden = block_ffn_up_vjp(c, length, first, &dy, &dh);
        op_ffn_up_vjp(c->be, &hidden);
        if (full) {
            struct tensor from = tensor_slice(x, first, count);
            if (h.data != NULL) {
                h = tensor_slice(&h, first, count);
            } else {
                h = tensor_prefix(&s->again, 2, count, inner, 1, 1);
                block_hidden(c, length, x, first, &h, NULL);
            }
            linear_gradient(c->be, &w->ff2, &w->ff2_bias, &dy, &h);
            linear_gradient(c->be, &w->ff1, &w->ff1_bias, &dh, &from);
        }
        weight_vjp(c->be, &w->ff1, &dh, beta, &to);
    }
}

/* Goes through the feed-forward half from df to the gradient of y, left in `dy` [N,D]. */
static void ff_vjp(const struct block_call *c, int64_t length, const struct tensor *f,
                   const struct tensor *df, const struct tensor *dy, bool full)
{
    const struct block_shape *shape = c->shape;
    const struct block_activations *t = c->saved;
    int64_t n = df->dim[0], d = df->dim[1];
    struct tensor da = block_rows(&c->scratch->b, n);
    struct tensor mid = shape->pre_norm ? block_rows(&t->mid, n) : block_rows(&t->y, n);
    struct residual_norm_vjp out = {.mask = c->in->masks.ff2, .rows_per_mask = length, .ds = *dy};
    if (shape->pre_norm) {
        out.kind = NORM_NONE;
        out.dsum = *df;
    } else {
        out.kind = shape->norm;
        out.dy = *df;
        out.xhat = t->xhat2.data != NULL ? block_rows(&t->xhat2, n) : *f;
        out.rstd = block_rows(&t->rstd2, n);
        out.gain = c->w->ff_gain.w;
        if (full)
            out.dgain = c->w->ff_gain.dw;
    }
    if (out.mask.data != NULL)
        out.da = da;
    else
        da = *dy;
    op_residual_norm_vjp(c->be, &out); /* dy = gradient of the residual, da of the linear map */
    if (!shape->pre_norm) {
        feed_forward_vjp(c, length, &mid, &da, 1.0, dy, full);
        return;
    }
    /* With pre-LN the map's input is norm(y). The residual is y, or norm(y) as published. */
    struct tensor dmid =
        block_dinput(c->scratch, op_low_precision(c->be), c->w->ff1.w.dim[0], n, d);
    bool published = shape->published_residual;
    if (published)
        op_copy(c->be, &dmid, dy);
    feed_forward_vjp(c, length, &mid, &da, published ? 1.0 : 0.0, &dmid, full);
    struct residual_norm_vjp norm = {
        .kind = shape->norm,
        .dy = dmid,
        .xhat = t->xhat1.data != NULL ? block_rows(&t->xhat1, n) : mid,
        .rstd = block_rows(&t->rstd1, n),
        .gain = c->w->ff_gain.w,
        .ds = *dy,
        .rows_per_mask = length,
    };
    if (!published)
        norm.dsum = *dy;
    if (full)
        norm.dgain = c->w->ff_gain.dw;
    op_residual_norm_vjp(c->be, &norm);
}

/* Goes through attn + z and, with post-LN, its norm from the gradient of y to that of the residual,
 * both in `dz` [N,D]. Returns that of W_o's product, which is dz itself where there is no mask. */
static struct tensor residual_vjp(const struct block_call *c, int64_t length,
                                  const struct tensor *dz, bool full)
{
    const struct block_activations *t = c->saved;
    int64_t n = dz->dim[0];
    struct residual_norm_vjp half = {
        .mask = c->in->masks.attn_out, .rows_per_mask = length, .ds = *dz};
    if (c->shape->pre_norm) {
        half.kind = NORM_NONE;
        half.dsum = *dz;
    } else {
        half.kind = c->shape->norm;
        half.dy = *dz;
        half.xhat = t->xhat1.data != NULL ? block_rows(&t->xhat1, n) : block_rows(&t->y, n);
        half.rstd = block_rows(&t->rstd1, n);
        half.gain = c->w->attn_gain.w;
        if (full)
            half.dgain = c->w->attn_gain.dw;
    }
    if (half.mask.data != NULL)
        half.da = block_rows(&c->scratch->b, n);
    op_residual_norm_vjp(c->be, &half);
    return half.mask.data != NULL ? half.da : *dz;
}

/* Goes through W_o and attention from the gradient `da` of W_o's product to that of qkv, which is
 * returned and lies in grads->du or scratch. */
static struct tensor attention_vjp(const struct block_call *c, const struct tensor *z,
                                   const struct tensor *da, const struct block_grads *grads)
{
    int64_t b = z->dim[0], l = z->dim[1], n = b * l, d = c->shape->d_model;
    struct tensor dattn = block_work(&c->scratch->vjp_work, c->be->ops->real, n, d);
    struct tensor attn = block_rows(&c->saved->attn, n), dqkv = block_dqkv(c->scratch, n, d);
    if (grads != NULL && grads->first && grads->du.data != NULL)
        dqkv = grads->du;
    weight_vjp(c->be, &c->w->o, da, 0.0, &dattn);
    if (grads != NULL)
        linear_gradient(c->be, &c->w->o, &c->w->o_bias, da, &attn);
    struct attention_vjp att = {
        .fwd = block_attention(c, z),
        .dout = tensor_shape(&dattn, 3, b, l, d, 1),
        .dqkv = tensor_shape(&dqkv, 3, b, l, 3 * d, 1),
    };
    if (grads != NULL) {
        att.dmem = grads->dmem;
        att.drk = grads->drk;
        att.dr_w = c->w->r_w.dw;
        att.dr_r = c->w->r_r.dw;
    }
    op_attention_vjp(c->be, &att);
    return dqkv;
}

/* Gradients of W_qkv and of the injection, given dqkv. */
static void qkv_gradients(const struct block_call *c, const struct tensor *input,
                          const struct tensor *dqkv, const struct block_grads *grads)
{
    weight_gradient(c->be, &c->w->qkv, dqkv, input);
    if (c->in->mem_qkv.data != NULL) {
        struct tensor mem = tensor_matrix(&c->in->mem_z), dmem = grads->dmem;
        weight_gradient(c->be, &c->w->qkv, &dmem, &mem);
    }
    if (grads->du.data != NULL && grads->du.data != dqkv->data)
        op_axpby(c->be, &grads->du, 1.0, dqkv, 1.0);
}

void block_vjp(const struct block_call *c, const struct tensor *z, const struct tensor *f,
               const struct tensor *df, const struct tensor *dz, const struct block_grads *grads)
{
    int64_t l = z->dim[1], n = z->dim[0] * l;
    bool full = grads != NULL, pre = c->shape->pre_norm;
    struct tensor zm = tensor_matrix(z), fm = tensor_matrix(f), dfm = tensor_matrix(df);
    struct tensor dzm = tensor_matrix(dz);
    ff_vjp(c, l, &fm, &dfm, &dzm, full);
    struct tensor da = residual_vjp(c, l, &dzm, full);
    struct tensor dqkv = attention_vjp(c, z, &da, grads);

    struct tensor input = pre ? block_rows(&c->saved->norm_in, n) : zm;
    if (full)
        qkv_gradients(c, &input, &dqkv, grads);
    if (!pre) {
        weight_vjp(c->be, &c->w->qkv, &dqkv, 1.0, &dzm);
        return;
    }
    struct tensor dnorm = block_work(&c->scratch->vjp_work, c->be->ops->real, n, c->shape->d_model);
    weight_vjp(c->be, &c->w->qkv, &dqkv, 0.0, &dnorm);
    struct residual_norm_vjp norm = {
        .kind = c->shape->norm,
        .dy = dnorm,
        .dsum = dzm,
        .xhat = c->saved->xhat_in.data != NULL ? block_rows(&c->saved->xhat_in, n) : input,
        .rstd = block_rows(&c->saved->rstd_in, n),
        .gain = c->w->attn_gain.w,
        .ds = dzm,
        .rows_per_mask = l,
    };
    if (full)
        norm.dgain = c->w->attn_gain.dw;
    op_residual_norm_vjp(c->be, &norm);
}

/* --- the cell --------------------------------------------------------------------------------- */

struct block_grads transformer_cell_grads(struct transformer_cell *c, int64_t j,
                                          const struct tensor *z)
{
    struct transformer_cell_block *b = &c->block[j];
    struct block_grads grads = {.drk = tensor_slice(&b->drk, 0, b->input.rk.dim[0]),
                                .first = !b->gathered};
    b->gathered = true;
    if (grads.first)
        op_fill(c->base.be, &grads.drk, 0.0);
    if (!c->layered)
        grads.du = tensor_slice(&b->du, 0, z->dim[0] * z->dim[1]);
    if (b->input.mem_qkv.data != NULL)
        grads.dmem = tensor_slice(&c->dmem, 0, z->dim[0] * b->input.mem_qkv.dim[1]);
    return grads;
}

static void vjp_one(struct transformer_cell *c, int64_t j, int slot, const struct tensor *in,
                    const struct tensor *out, const struct tensor *df, const struct tensor *dz,
                    bool full)
{
    struct block_call call = transformer_cell_call(c, j, slot);
    struct block_grads grads = {0};
    if (full)
        grads = transformer_cell_grads(c, j, in);
    block_vjp(&call, in, out, df, dz, full ? &grads : NULL);
    transformer_cell_gain_gradient(c, j, slot, &grads.dmem);
}

void transformer_cell_vjp(struct cell *base, int slot, const struct tensor *z,
                          const struct tensor *f, const struct tensor *df, const struct tensor *dz,
                          bool full)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    struct tensor from = *df;
    for (int64_t j = c->blocks - 1; j >= 0; j--) {
        struct tensor in = transformer_cell_block_in(c, j, slot, z),
                      out = transformer_cell_block_out(c, j, slot, f);
        struct tensor to = *dz; /* alternate, so that the first block's gradient lands in dz */
        if (j % 2 == 1)
            to = tensor_cut(&c->dstack, dz);
        vjp_one(c, j, slot, &in, &out, &from, &to, full);
        from = to;
    }
}

void transformer_cell_vjp_layer(struct cell *base, int64_t j, int slot, const struct tensor *z,
                                const struct tensor *f, const struct tensor *df,
                                const struct tensor *dz)
{
    vjp_one((struct transformer_cell *)base, j, slot, z, f, df, dz, true);
}

void transformer_cell_end_backward(struct cell *base, const struct tensor *de)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    struct backend *be = base->be;
    struct tensor e = tensor_matrix(&c->e), dem = tensor_matrix(de);
    bool masked = c->masked && c->mask_pos.data != NULL;
    for (int64_t j = 0; j < c->blocks; j++) {
        struct transformer_cell_block *b = &c->block[j];
        assert(b->gathered);
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

void transformer_cell_finish_gradients(struct cell *base)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    for (int64_t j = 0; j < c->blocks && c->wnorm; j++) {
        struct transformer_cell_block *b = &c->block[j];
        const struct weight *const matrix[NORMED_WEIGHTS] = {&b->w.qkv, &b->w.r, &b->w.o, &b->w.ff1,
                                                             &b->w.ff2};
        for (int i = 0; i < NORMED_WEIGHTS; i++)
            normed_weight_vjp(&b->normed[i], matrix[i], base->be);
    }
}
