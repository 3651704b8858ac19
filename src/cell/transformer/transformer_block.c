#include "cell/transformer/transformer_block_impl.h"

/* Rows [first, first + count) of it; NULL stays NULL. */
static struct tensor part_of(const struct tensor *t, int64_t first, int64_t count)
{
    return t->data == NULL ? *t : tensor_slice(t, first, count);
}

struct attention block_attention(const struct block_call *c, const struct tensor *z)
{
    int64_t b = z->dim[0], l = z->dim[1], d = c->shape->d_model, heads = c->shape->n_head;
    return (struct attention){
        .qkv = tensor_prefix(&c->tape->qkv, 3, b, l, 3 * d, 1),
        .mem = c->in->mem_qkv,
        .rk = c->in->rk,
        .r_w = c->w->r_w.w,
        .r_r = c->w->r_r.w,
        .mask = c->in->masks.attention,
        .mask_scale = c->in->masks.attention_scale,
        .out = tensor_prefix(&c->tape->attn, 3, b, l, d, 1),
        .lse = tensor_prefix(&c->tape->lse, 3, b, heads, l, 1),
        .heads = heads,
        .span = c->shape->span,
    };
}

struct ffn_up_vjp block_ffn_up_vjp(const struct block_call *c, int64_t length, int64_t first,
                                   const struct tensor *dy, const struct tensor *dh)
{
    int64_t n = dy->dim[0];
    return (struct ffn_up_vjp){.dy = *dy,
                               .w = weight_factor(&c->w->ff2),
                               .mask = part_of(&c->in->masks.ff1, first / length, n / length),
                               .h = part_of(&c->tape->h, first, n),
                               .relu_mask = part_of(&c->tape->relu_mask, first, n),
                               .dh = *dh,
                               .w_stride = c->w->ff2.stride,
                               .rows_per_mask = length,
                               .mask_scale = c->in->masks.ff1_scale};
}

void block_project(const struct block_call *c, const struct tensor *u, const struct tensor *zm,
                   const struct tensor *qkv)
{
    int64_t n = zm->dim[0];
    struct tensor input = *zm;
    if (c->shape->pre_norm) {
        struct residual_norm norm = {
            .rows_per_mask = 1, .eps = c->shape->norm_eps, .kind = c->shape->norm};
        norm.a = *zm;
        norm.gain = c->w->attn_gain.w;
        norm.y = input = block_rows(&c->tape->norm_in, n);
        norm.xhat = block_rows(&c->tape->xhat_in, n);
        norm.rstd = block_rows(&c->tape->rstd_in, n);
        op_residual_norm(c->be, &norm);
    }
    if (u->data == qkv->data)
        weight_apply(c->be, &c->w->qkv, &input, 1.0, qkv);
    else
        weight_apply_to(c->be, &c->w->qkv, &input, u, qkv);
}

/* Rows of the hidden layer to work through at once: whole sequences of `length` rows. */
static int64_t rows_at_once(const struct block_scratch *s, int64_t n, int64_t length)
{
    int64_t whole = s->rows / length * length;
    return whole < n ? whole : n;
}

/* h <- the hidden layer of rows [first, first + count) of `mid`; bits to `relu_mask` unless NULL.
 */
static void make_hidden(const struct block_call *c, int64_t length, const struct tensor *mid,
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
        mask = part_of(&mask, first / length, count / length);
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
    bool kept = c->tape->h.data != NULL;
    int64_t step = kept ? n : rows_at_once(c->scratch, n, length);
    for (int64_t first = 0; first < n; first += step) {
        int64_t count = n - first < step ? n - first : step;
        struct tensor h = kept ? block_rows(&c->tape->h, n)
                               : block_work(c->scratch, op_low_precision(c->be), count, inner);
        struct tensor relu_mask = part_of(&c->tape->relu_mask, first, count);
        struct tensor to = tensor_slice(out, first, count);
        make_hidden(c, length, mid, first, &h, &relu_mask);
        weight_apply(c->be, &c->w->ff2, &h, 0.0, &to);
    }
}

void block_finish(const struct block_call *c, int64_t l, const struct tensor *attn,
                  const struct tensor *z, const struct tensor *f)
{
    const struct block_shape *shape = c->shape;
    const struct block_weights *w = c->w;
    const struct block_tape *t = c->tape;
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
    struct tensor attn = block_rows(&c->tape->attn, n), qkv = block_rows(&c->tape->qkv, n);
    block_project(c, &c->in->u, &zm, &qkv);
    struct attention att = block_attention(c, z);
    op_attention(c->be, &att);
    block_finish(c, l, &attn, &zm, &fm);
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
 * [n,D]; da may be dx. */
static void feed_forward_vjp(const struct block_call *c, int64_t length, const struct tensor *x,
                             const struct tensor *da, double beta, const struct tensor *dx,
                             bool full)
{
    const struct block_weights *w = c->w;
    const struct block_scratch *s = c->scratch;
    int64_t n = da->dim[0], inner = w->ff1.w.dim[0], step = rows_at_once(s, n, length);
    for (int64_t first = 0; first < n; first += step) {
        int64_t count = n - first < step ? n - first : step;
        struct tensor dy = tensor_slice(da, first, count), to = tensor_slice(dx, first, count);
        struct tensor dh = block_work(s, op_low_precision(c->be), count, inner), h = c->tape->h;
        struct ffn_up_vjp hidden = block_ffn_up_vjp(c, length, first, &dy, &dh);
        op_ffn_up_vjp(c->be, &hidden);
        if (full) {
            struct tensor from = tensor_slice(x, first, count);
            if (h.data != NULL) {
                h = tensor_slice(&h, first, count);
            } else {
                h = tensor_prefix(&s->again, 2, count, inner, 1, 1);
                make_hidden(c, length, x, first, &h, NULL);
            }
            linear_gradient(c->be, &w->ff2, &w->ff2_bias, &dy, &h);
            linear_gradient(c->be, &w->ff1, &w->ff1_bias, &dh, &from);
        }
        weight_vjp(c->be, &w->ff1, &dh, beta, &to);
    }
}

/* The feed-forward half: from df to the gradient of y, left in `dy` [N,D]. */
static void ff_vjp(const struct block_call *c, int64_t length, const struct tensor *f,
                   const struct tensor *df, const struct tensor *dy, bool full)
{
    const struct block_shape *shape = c->shape;
    const struct block_tape *t = c->tape;
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
    /* pre-LN: the map's input is norm(y); the residual is y, or norm(y) as published */
    struct tensor dmid = tensor_prefix(&c->scratch->dqkv, 2, n, d, 1, 1); /* not in use yet */
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

/* Through attn + z and, post-LN, its norm: from the gradient of y to that of the residual, both in
 * `dz` [N,D]. Returns that of W_o's product, which is dz itself where there is no mask. */
static struct tensor residual_vjp(const struct block_call *c, int64_t length,
                                  const struct tensor *dz, bool full)
{
    const struct block_tape *t = c->tape;
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

/* Through W_o and attention: from the gradient `da` of W_o's product to that of qkv, returned, in
 * scratch->dqkv. */
static struct tensor attention_vjp(const struct block_call *c, const struct tensor *z,
                                   const struct tensor *da, const struct block_grads *grads)
{
    int64_t b = z->dim[0], l = z->dim[1], n = b * l, d = c->shape->d_model;
    struct tensor dattn = block_work(c->scratch, c->be->ops->real, n, d);
    struct tensor attn = block_rows(&c->tape->attn, n), dqkv = block_rows(&c->scratch->dqkv, n);
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

    struct tensor input = pre ? block_rows(&c->tape->norm_in, n) : zm;
    if (full)
        qkv_gradients(c, &input, &dqkv, grads);
    if (!pre) {
        weight_vjp(c->be, &c->w->qkv, &dqkv, 1.0, &dzm);
        return;
    }
    struct tensor dnorm = block_work(c->scratch, c->be->ops->real, n, c->shape->d_model);
    weight_vjp(c->be, &c->w->qkv, &dqkv, 0.0, &dnorm);
    struct residual_norm_vjp norm = {
        .kind = c->shape->norm,
        .dy = dnorm,
        .dsum = dzm,
        .xhat = c->tape->xhat_in.data != NULL ? block_rows(&c->tape->xhat_in, n) : input,
        .rstd = block_rows(&c->tape->rstd_in, n),
        .gain = c->w->attn_gain.w,
        .ds = dzm,
        .rows_per_mask = l,
    };
    if (full)
        norm.dgain = c->w->attn_gain.dw;
    op_residual_norm_vjp(c->be, &norm);
}
