#include "nn/transformer_block_impl.h"

/* The planned buffer cut to `rows` rows; NULL stays NULL. */
static struct tensor rows_of(const struct tensor *t, int64_t rows)
{
    if (t->data == NULL)
        return *t;
    return t->ndim == 1 ? tensor_prefix(t, 1, rows, 1, 1, 1)
                        : tensor_prefix(t, 2, rows, t->dim[t->ndim - 1], 1, 1);
}

/* Rows [first, first + count) of it; NULL stays NULL. */
static struct tensor part_of(const struct tensor *t, int64_t first, int64_t count)
{
    return t->data == NULL ? *t : tensor_slice(t, first, count);
}

struct attention block_attention(const struct block_shape *shape, const struct block_weights *w,
                                 const struct block_input *in, const struct block_tape *t,
                                 const struct tensor *z)
{
    int64_t b = z->dim[0], l = z->dim[1], d = shape->d_model;
    return (struct attention){
        .qkv = tensor_prefix(&t->qkv, 3, b, l, 3 * d, 1),
        .mem = in->mem_qkv,
        .rk = in->rk,
        .r_w = w->r_w.w,
        .r_r = w->r_r.w,
        .mask = in->masks.attention,
        .mask_scale = in->masks.attention_scale,
        .out = tensor_prefix(&t->attn, 3, b, l, d, 1),
        .lse = tensor_prefix(&t->lse, 3, b, shape->n_head, l, 1),
        .heads = shape->n_head,
        .span = shape->span,
    };
}

struct hidden_vjp block_hidden_vjp(const struct block_weights *w, const struct block_input *in,
                                   const struct block_tape *t, int64_t length, int64_t first,
                                   const struct tensor *dy, const struct tensor *dh)
{
    int64_t n = dy->dim[0];
    return (struct hidden_vjp){.dy = *dy,
                               .w = weight_factor(&w->ff2),
                               .mask = part_of(&in->masks.ff1, first / length, n / length),
                               .h = part_of(&t->h, first, n),
                               .gate = part_of(&t->gate, first, n),
                               .dh = *dh,
                               .w_stride = w->ff2.stride,
                               .rows_per_mask = length,
                               .mask_scale = in->masks.ff1_scale};
}

void block_project(struct backend *be, const struct block_shape *shape,
                   const struct block_weights *w, const struct block_tape *t,
                   const struct tensor *u, const struct tensor *zm, const struct tensor *qkv)
{
    int64_t n = zm->dim[0];
    struct tensor input = *zm;
    if (shape->pre_norm) {
        struct residual_norm norm = {
            .rows_per_mask = 1, .eps = shape->norm_eps, .kind = shape->norm};
        norm.a = *zm;
        norm.gain = w->attn_gain.w;
        norm.y = input = rows_of(&t->norm_in, n);
        norm.xhat = rows_of(&t->xhat_in, n);
        norm.rstd = rows_of(&t->rstd_in, n);
        op_residual_norm(be, &norm);
    }
    if (u->data == qkv->data)
        weight_apply(be, &w->qkv, &input, 1.0, qkv);
    else
        weight_apply_to(be, &w->qkv, &input, u, qkv);
}

/* Rows of the hidden layer to work through at once: whole sequences of `length` rows. */
static int64_t rows_at_once(const struct block_scratch *s, int64_t n, int64_t length)
{
    int64_t whole = s->rows / length * length;
    return whole < n ? whole : n;
}

/* h <- the hidden layer of rows [first, first + count) of `mid`; bits to `gate` unless NULL. */
static void make_hidden(struct backend *be, const struct block_weights *w,
                        const struct block_input *in, int64_t length, const struct block_scratch *s,
                        const struct tensor *mid, int64_t first, const struct tensor *h,
                        const struct tensor *gate)
{
    int64_t count = h->dim[0];
    struct tensor mask = in->masks.ff1;
    if (mask.data != NULL && in->sequence.data != NULL) {
        struct tensor list = tensor_slice(&in->sequence, first, count);
        struct tensor spread = tensor_prefix(&s->row_mask, 2, count, mask.dim[1], 1, 1);
        op_gather_rows(be, &spread, &mask, &list, 1.0);
        mask = spread;
    } else {
        mask = part_of(&mask, first / length, count / length);
    }
    struct hidden hidden = {.x = tensor_slice(mid, first, count),
                            .w = weight_factor(&w->ff1),
                            .bias = w->ff1_bias.w,
                            .mask = mask,
                            .h = *h,
                            .w_stride = w->ff1.stride,
                            .rows_per_mask = length,
                            .mask_scale = in->masks.ff1_scale};
    if (gate != NULL)
        hidden.gate = *gate;
    op_hidden(be, &hidden);
}

/* out <- W_2 h(mid), both [n,D]. */
static void feed_forward(struct backend *be, const struct block_weights *w,
                         const struct block_input *in, int64_t length, const struct block_tape *t,
                         const struct block_scratch *s, const struct tensor *mid,
                         const struct tensor *out)
{
    int64_t n = mid->dim[0], inner = w->ff1.w.dim[0];
    bool kept = t->h.data != NULL;
    int64_t step = kept ? n : rows_at_once(s, n, length);
    for (int64_t first = 0; first < n; first += step) {
        int64_t count = n - first < step ? n - first : step;
        struct tensor h = kept ? rows_of(&t->h, n) : block_work(s, op_narrow(be), count, inner);
        struct tensor gate = part_of(&t->gate, first, count);
        struct tensor to = tensor_slice(out, first, count);
        make_hidden(be, w, in, length, s, mid, first, &h, &gate);
        weight_apply(be, &w->ff2, &h, 0.0, &to);
    }
}

void block_finish(struct backend *be, const struct block_shape *shape,
                  const struct block_weights *w, const struct block_input *in, int64_t l,
                  const struct block_tape *t, const struct block_scratch *s,
                  const struct tensor *attn, const struct tensor *z, const struct tensor *f)
{
    struct tensor zm = *z, fm = *f;
    int64_t n = zm.dim[0];
    struct tensor y = rows_of(&t->y, n), mid = rows_of(&t->mid, n);
    struct residual_norm common = {.rows_per_mask = l, .eps = shape->norm_eps, .kind = shape->norm};
    weight_apply(be, &w->o, attn, 0.0, &y);

    struct residual_norm half = common;
    half.a = y;
    half.bias = w->o_bias.w;
    half.mask = in->masks.attn_out;
    half.res = zm;
    half.xhat = rows_of(&t->xhat1, n);
    half.rstd = rows_of(&t->rstd1, n);
    if (shape->pre_norm) {
        half.gain = w->ff_gain.w;
        half.sum = y;
        half.y = mid;
    } else {
        half.gain = w->attn_gain.w;
        half.y = mid = y;
    }
    op_residual_norm(be, &half);
    feed_forward(be, w, in, l, t, s, &mid, &fm);

    struct residual_norm out = common;
    out.a = fm;
    out.bias = w->ff2_bias.w;
    out.mask = in->masks.ff2;
    if (shape->pre_norm) {
        out.kind = NORM_NONE;
        out.res = shape->published_residual ? mid : y;
        out.sum = fm;
    } else {
        out.res = y;
        out.gain = w->ff_gain.w;
        out.y = fm;
        out.xhat = rows_of(&t->xhat2, n);
        out.rstd = rows_of(&t->rstd2, n);
    }
    op_residual_norm(be, &out);
}

void block_eval(struct backend *be, const struct block_shape *shape, const struct block_weights *w,
                const struct block_input *in, const struct block_tape *t,
                const struct block_scratch *s, const struct tensor *z, const struct tensor *f)
{
    int64_t l = z->dim[1], n = z->dim[0] * l;
    struct tensor zm = tensor_matrix(z), fm = tensor_matrix(f);
    struct tensor attn = rows_of(&t->attn, n), qkv = rows_of(&t->qkv, n);
    block_project(be, shape, w, t, &in->u, &zm, &qkv);
    struct attention att = block_attention(shape, w, in, t, z);
    op_attention(be, &att);
    block_finish(be, shape, w, in, l, t, s, &attn, &zm, &fm);
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
static void feed_forward_vjp(struct backend *be, const struct block_weights *w,
                             const struct block_input *in, int64_t length,
                             const struct block_tape *t, const struct block_scratch *s,
                             const struct tensor *x, const struct tensor *da, double beta,
                             const struct tensor *dx, bool full)
{
    int64_t n = da->dim[0], inner = w->ff1.w.dim[0], step = rows_at_once(s, n, length);
    for (int64_t first = 0; first < n; first += step) {
        int64_t count = n - first < step ? n - first : step;
        struct tensor dy = tensor_slice(da, first, count), to = tensor_slice(dx, first, count);
        struct tensor dh = block_work(s, op_narrow(be), count, inner), h = t->h;
        struct hidden_vjp hidden = block_hidden_vjp(w, in, t, length, first, &dy, &dh);
        op_hidden_vjp(be, &hidden);
        if (full) {
            struct tensor from = tensor_slice(x, first, count);
            if (h.data != NULL) {
                h = tensor_slice(&h, first, count);
            } else {
                h = tensor_prefix(&s->again, 2, count, inner, 1, 1);
                make_hidden(be, w, in, length, s, x, first, &h, NULL);
            }
            linear_gradient(be, &w->ff2, &w->ff2_bias, &dy, &h);
            linear_gradient(be, &w->ff1, &w->ff1_bias, &dh, &from);
        }
        weight_vjp(be, &w->ff1, &dh, beta, &to);
    }
}

/* The feed-forward half: from df to the gradient of y, left in `dy` [N,D]. */
static void ff_vjp(struct backend *be, const struct block_shape *shape,
                   const struct block_weights *w, const struct block_input *in,
                   const struct block_tape *t, const struct block_scratch *s,
                   const struct tensor *f, const struct tensor *df, const struct tensor *dy,
                   int64_t length, bool full)
{
    int64_t n = df->dim[0], d = df->dim[1];
    struct tensor da = rows_of(&s->b, n);
    struct tensor mid = shape->pre_norm ? rows_of(&t->mid, n) : rows_of(&t->y, n);
    bool masked = in->masks.ff2.data != NULL;
    struct residual_norm_vjp out = {.mask = in->masks.ff2, .rows_per_mask = length};
    if (shape->pre_norm) {
        out.kind = NORM_NONE;
        out.dsum = *df;
    } else {
        out.kind = shape->norm;
        out.dy = *df;
        out.xhat = t->xhat2.data != NULL ? rows_of(&t->xhat2, n) : *f;
        out.rstd = rows_of(&t->rstd2, n);
        out.gain = w->ff_gain.w;
        if (full)
            out.dgain = w->ff_gain.dw;
    }
    out.ds = *dy;
    if (masked)
        out.da = da;
    else
        da = *dy;
    op_residual_norm_vjp(be, &out); /* dy = gradient of the residual, da of the linear map */
    if (!shape->pre_norm) {
        feed_forward_vjp(be, w, in, length, t, s, &mid, &da, 1.0, dy, full);
        return;
    }
    /* pre-LN: the map's input is norm(y); the residual is y, or norm(y) as published */
    struct tensor dmid = tensor_prefix(&s->dqkv, 2, n, d, 1, 1); /* not in use yet */
    bool published = shape->published_residual;
    if (published)
        op_copy(be, &dmid, dy);
    feed_forward_vjp(be, w, in, length, t, s, &mid, &da, published ? 1.0 : 0.0, &dmid, full);
    struct residual_norm_vjp norm = {
        .kind = shape->norm,
        .dy = dmid,
        .xhat = t->xhat1.data != NULL ? rows_of(&t->xhat1, n) : mid,
        .rstd = rows_of(&t->rstd1, n),
        .gain = w->ff_gain.w,
        .ds = *dy,
        .rows_per_mask = length,
    };
    if (!published)
        norm.dsum = *dy;
    if (full)
        norm.dgain = w->ff_gain.dw;
    op_residual_norm_vjp(be, &norm);
}

/* Gradients of everything W_qkv and the attention's own parameters touch, given dqkv. */
static void qkv_gradients(struct backend *be, const struct block_weights *w,
                          const struct block_input *in, const struct tensor *input,
                          const struct tensor *dqkv, const struct block_grads *grads)
{
    weight_gradient(be, &w->qkv, dqkv, input);
    if (in->mem_qkv.data != NULL) {
        struct tensor mem = tensor_matrix(&in->mem_z), dmem = grads->dmem;
        weight_gradient(be, &w->qkv, &dmem, &mem);
    }
    if (grads->du.data != NULL && grads->du.data != dqkv->data)
        op_axpby(be, &grads->du, 1.0, dqkv, 1.0);
}

void block_vjp(struct backend *be, const struct block_shape *shape, const struct block_weights *w,
               const struct block_input *in, const struct block_tape *t,
               const struct block_scratch *s, const struct tensor *z, const struct tensor *f,
               const struct tensor *df, const struct tensor *dz, const struct block_grads *grads)
{
    int64_t b = z->dim[0], l = z->dim[1], n = b * l, d = shape->d_model;
    bool full = grads != NULL;
    struct tensor zm = tensor_matrix(z), fm = tensor_matrix(f), dfm = tensor_matrix(df);
    struct tensor dzm = tensor_matrix(dz), attn = rows_of(&t->attn, n);
    ff_vjp(be, shape, w, in, t, s, &fm, &dfm, &dzm, l, full);

    /* the attention half: s = attn + z, then the norm (post-LN) */
    struct tensor da = rows_of(&s->b, n);
    struct residual_norm_vjp half = {.mask = in->masks.attn_out, .rows_per_mask = l, .ds = dzm};
    if (shape->pre_norm) {
        half.kind = NORM_NONE;
        half.dsum = dzm;
    } else {
        half.kind = shape->norm;
        half.dy = dzm;
        half.xhat = t->xhat1.data != NULL ? rows_of(&t->xhat1, n) : rows_of(&t->y, n);
        half.rstd = rows_of(&t->rstd1, n);
        half.gain = w->attn_gain.w;
        if (full)
            half.dgain = w->attn_gain.dw;
    }
    if (in->masks.attn_out.data != NULL)
        half.da = da;
    else
        da = dzm;
    op_residual_norm_vjp(be, &half);

    struct tensor dattn = block_work(s, be->ops->real, n, d);
    weight_vjp(be, &w->o, &da, 0.0, &dattn);
    if (full)
        linear_gradient(be, &w->o, &w->o_bias, &da, &attn);

    struct tensor dqkv = rows_of(&s->dqkv, n);
    struct attention_vjp att = {
        .fwd = block_attention(shape, w, in, t, z),
        .dout = tensor_shape(&dattn, 3, b, l, d, 1),
        .dqkv = tensor_shape(&dqkv, 3, b, l, 3 * d, 1),
    };
    if (full) {
        att.dmem = grads->dmem;
        att.drk = grads->drk;
        att.dr_w = w->r_w.dw;
        att.dr_r = w->r_r.dw;
    }
    op_attention_vjp(be, &att);

    struct tensor input = shape->pre_norm ? rows_of(&t->norm_in, n) : zm;
    if (full)
        qkv_gradients(be, w, in, &input, &dqkv, grads);
    if (!shape->pre_norm) {
        weight_vjp(be, &w->qkv, &dqkv, 1.0, &dzm);
        return;
    }
    struct tensor dnorm = block_work(s, be->ops->real, n, d);
    weight_vjp(be, &w->qkv, &dqkv, 0.0, &dnorm);
    struct residual_norm_vjp norm = {
        .kind = shape->norm,
        .dy = dnorm,
        .dsum = dzm,
        .xhat = t->xhat_in.data != NULL ? rows_of(&t->xhat_in, n) : input,
        .rstd = rows_of(&t->rstd_in, n),
        .gain = w->attn_gain.w,
        .ds = dzm,
        .rows_per_mask = l,
    };
    if (full)
        norm.dgain = w->attn_gain.dw;
    op_residual_norm_vjp(be, &norm);
}
