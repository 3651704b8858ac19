#include "nn/transformer_block_impl.h"

enum status block_tape_create(struct block_tape *t, struct backend *be,
                              const struct block_shape *shape, int64_t batch, int64_t length,
                              bool vjp, struct error *err)
{
    enum dtype real = be->ops->real;
    int64_t n = batch * length, d = shape->d_model;
    bool gain = shape->norm == NORM_RMS;
    *t = (struct block_tape){0};
    TRY(op_alloc(be, &t->qkv, real, 3, batch, length, 3 * d, 1, err));
    TRY(op_alloc(be, &t->attn, real, 3, batch, length, d, 1, err));
    TRY(op_alloc(be, &t->lse, real, 3, batch, shape->n_head, length, 1, err));
    TRY(op_alloc(be, &t->y, real, 2, n, d, 1, 1, err));
    TRY(op_alloc(be, &t->rstd1, real, 1, n, 1, 1, 1, err));
    TRY(op_alloc(be, &t->h, op_narrow(be), 2, n, shape->d_inner, 1, 1, err));
    int64_t gates = op_gate_width(be, shape->d_inner);
    if (vjp && gates > 0)
        TRY(op_alloc(be, &t->gate, DTYPE_U8, 2, n, gates, 1, 1, err));
    if (gain)
        TRY(op_alloc(be, &t->xhat1, real, 2, n, d, 1, 1, err));
    if (shape->pre_norm) {
        TRY(op_alloc(be, &t->norm_in, real, 2, n, d, 1, 1, err));
        TRY(op_alloc(be, &t->rstd_in, real, 1, n, 1, 1, 1, err));
        TRY(op_alloc(be, &t->mid, real, 2, n, d, 1, 1, err));
        if (gain)
            TRY(op_alloc(be, &t->xhat_in, real, 2, n, d, 1, 1, err));
    } else {
        TRY(op_alloc(be, &t->rstd2, real, 1, n, 1, 1, 1, err));
        if (gain)
            TRY(op_alloc(be, &t->xhat2, real, 2, n, d, 1, 1, err));
    }
    return STATUS_OK;
}

void block_tape_free(struct block_tape *t, struct backend *be)
{
    struct tensor *all[] = {&t->qkv,   &t->attn,  &t->lse,     &t->norm_in, &t->rstd_in,
                            &t->y,     &t->xhat1, &t->rstd1,   &t->mid,     &t->h,
                            &t->xhat2, &t->rstd2, &t->xhat_in, &t->gate};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
}

enum status block_scratch_create(struct block_scratch *s, struct backend *be,
                                 const struct block_shape *shape, int64_t batch, int64_t length,
                                 bool train, bool masked, bool rows, struct error *err)
{
    enum dtype real = be->ops->real;
    int64_t n = batch * length, d = shape->d_model;
    *s = (struct block_scratch){0};
    TRY(op_alloc(be, &s->a, real, 2, n, d, 1, 1, err));
    if (!train && !rows)
        return STATUS_OK;
    TRY(op_alloc(be, &s->c, real, 2, n, d, 1, 1, err));
    TRY(op_alloc(be, &s->dqkv, real, 2, n, 3 * d, 1, 1, err));
    if (!train)
        return STATUS_OK;
    if (masked)
        TRY(op_alloc(be, &s->b, real, 2, n, d, 1, 1, err));
    return op_alloc(be, &s->dh, op_narrow(be), 2, n, shape->d_inner, 1, 1, err);
}

void block_scratch_free(struct block_scratch *s, struct backend *be)
{
    struct tensor *all[] = {&s->a, &s->b, &s->c, &s->dqkv, &s->dh};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
}

/* The planned buffer cut to `rows` rows; NULL stays NULL. */
static struct tensor rows_of(const struct tensor *t, int64_t rows)
{
    if (t->data == NULL)
        return *t;
    return t->ndim == 1 ? tensor_prefix(t, 1, rows, 1, 1, 1)
                        : tensor_prefix(t, 2, rows, t->dim[t->ndim - 1], 1, 1);
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
                                   const struct block_tape *t, int64_t length,
                                   const struct tensor *dy, const struct tensor *dh)
{
    int64_t n = dy->dim[0];
    return (struct hidden_vjp){.dy = *dy,
                               .w = weight_factor(&w->ff2),
                               .mask = in->masks.ff1,
                               .h = rows_of(&t->h, n),
                               .gate = rows_of(&t->gate, n),
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

void block_finish(struct backend *be, const struct block_shape *shape,
                  const struct block_weights *w, const struct block_input *in, int64_t l,
                  const struct block_tape *t, const struct block_scratch *s,
                  const struct tensor *attn, const struct tensor *z, const struct tensor *f)
{
    struct tensor zm = *z, fm = *f;
    int64_t n = zm.dim[0];
    struct tensor a = rows_of(&s->a, n), y = rows_of(&t->y, n);
    struct tensor h = rows_of(&t->h, n), mid = rows_of(&t->mid, n);
    struct residual_norm common = {.rows_per_mask = l, .eps = shape->norm_eps, .kind = shape->norm};
    weight_apply(be, &w->o, attn, 0.0, &a);

    struct residual_norm half = common;
    half.a = a;
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

    struct hidden hidden = {.x = mid,
                            .w = weight_factor(&w->ff1),
                            .bias = w->ff1_bias.w,
                            .mask = in->masks.ff1,
                            .h = h,
                            .gate = rows_of(&t->gate, n),
                            .w_stride = w->ff1.stride,
                            .rows_per_mask = l,
                            .mask_scale = in->masks.ff1_scale};
    op_hidden(be, &hidden);
    weight_apply(be, &w->ff2, &h, 0.0, &a);

    struct residual_norm out = common;
    out.a = a;
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

/* The feed-forward half: from df to the gradient of y, left in `dy` [N,D]. */
static void ff_vjp(struct backend *be, const struct block_shape *shape,
                   const struct block_weights *w, const struct block_input *in,
                   const struct block_tape *t, const struct block_scratch *s,
                   const struct tensor *f, const struct tensor *df, const struct tensor *dy,
                   int64_t length, bool full)
{
    int64_t n = df->dim[0];
    struct tensor h = rows_of(&t->h, n), dh = rows_of(&s->dh, n), da = rows_of(&s->b, n);
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

    struct hidden_vjp hidden = block_hidden_vjp(w, in, t, length, &da, &dh);
    op_hidden_vjp(be, &hidden);
    if (full) {
        linear_gradient(be, &w->ff2, &w->ff2_bias, &da, &h);
        linear_gradient(be, &w->ff1, &w->ff1_bias, &dh, &mid);
    }

    if (!shape->pre_norm) {
        weight_vjp(be, &w->ff1, &dh, 1.0, dy);
        return;
    }
    /* pre-LN: the map's input is norm(y); the residual is y, or norm(y) as published */
    struct tensor dmid = rows_of(&s->c, n);
    bool published = shape->published_residual;
    if (published)
        op_copy(be, &dmid, dy);
    weight_vjp(be, &w->ff1, &dh, published ? 1.0 : 0.0, &dmid);
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
    struct tensor dzm = tensor_matrix(dz), dy = rows_of(&s->a, n), attn = rows_of(&t->attn, n);
    ff_vjp(be, shape, w, in, t, s, &fm, &dfm, &dy, l, full);

    /* the attention half: s = attn + z, then the norm (post-LN) */
    struct tensor da = rows_of(&s->b, n);
    struct residual_norm_vjp half = {.mask = in->masks.attn_out, .rows_per_mask = l, .ds = dzm};
    if (shape->pre_norm) {
        half.kind = NORM_NONE;
        half.dsum = dy;
    } else {
        half.kind = shape->norm;
        half.dy = dy;
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

    struct tensor dattn = rows_of(&s->c, n);
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
    struct tensor dnorm = rows_of(&s->c, n);
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
