/* Second-order derivatives, that is how f and its vjp change when z moves along a direction
 * (forward-over-reverse). */
#include "cell/transformer/transformer_cell.h"

/* --- a block ---------------------------------------------------------------------------------- */

/* A planned buffer cut to the call's rows. */
static struct tensor rows(const struct tangent_call *c, const struct tensor *t)
{
    return block_rows(t, c->z.dim[0] * c->z.dim[1]);
}

static int64_t length_of(const struct tangent_call *c)
{
    return c->z.dim[1];
}

/* The three norms of a block. Which of them there are depends on pre_norm. */
enum norm_place { NORM_INPUT, NORM_MIDDLE, NORM_OUTPUT };

/* Saved normalised rows, 1/deviation, gain and gain's gradient of a norm, in a vjp's call. */
static struct residual_norm_vjp norm_of(const struct tangent_call *c, enum norm_place place)
{
    const struct block_call *block = &c->block;
    const struct block_activations *t = block->saved;
    struct residual_norm_vjp p = {.kind = block->shape->norm, .rows_per_mask = length_of(c)};
    bool pre = block->shape->pre_norm;
    const struct weight *gain = &block->w->ff_gain;
    if (place == NORM_INPUT) {
        p.xhat = rows(c, t->xhat_in.data != NULL ? &t->xhat_in : &t->norm_in);
        p.rstd = rows(c, &t->rstd_in);
        gain = &block->w->attn_gain;
    } else if (place == NORM_MIDDLE) {
        p.xhat = rows(c, t->xhat1.data != NULL ? &t->xhat1 : pre ? &t->mid : &t->y);
        p.rstd = rows(c, &t->rstd1);
        gain = pre ? gain : &block->w->attn_gain;
    } else {
        p.xhat = t->xhat2.data != NULL ? rows(c, &t->xhat2) : tensor_matrix(&c->f);
        p.rstd = rows(c, &t->rstd2);
    }
    p.gain = gain->w;
    p.dgain = gain->dw;
    return p;
}

/* y_t <- derivative of a norm's output when its input moves along s_t. The Jacobian of the norm
 * without its gain is symmetric, so that the vjp serves as the jvp. */
static void norm_jvp(const struct tangent_call *c, enum norm_place place, const struct tensor *s_t,
                     const struct tensor *y_t)
{
    struct residual_norm_vjp p = norm_of(c, place);
    struct tensor gain = p.gain;
    p.gain = p.dgain = (struct tensor){0};
    p.dy = *s_t;
    p.ds = *y_t;
    op_residual_norm_vjp(c->block.be, &p);
    if (gain.data == NULL)
        return;
    struct tensor y3 = tensor_shape(y_t, 3, 1, y_t->dim[0], y_t->dim[1], 1);
    struct tensor gain3 = tensor_shape(&gain, 3, 1, 1, y_t->dim[1], 1);
    op_mul_bcast(c->block.be, &y3, &y3, &gain3);
}

/* to <- a_t * mask + res_t */
static void add_residual(const struct tangent_call *c, const struct tensor *a_t,
                         const struct tensor *mask, const struct tensor *res_t,
                         const struct tensor *to)
{
    struct residual_norm p = {.a = *a_t,
                              .mask = *mask,
                              .res = *res_t,
                              .sum = *to,
                              .rows_per_mask = length_of(c),
                              .kind = NORM_NONE};
    op_residual_norm(c->block.be, &p);
}

void block_jvp(const struct tangent_call *c, const struct tensor *f_t)
{
    const struct block_call *block = &c->block;
    const struct block_tangent *t = c->tangent;
    int64_t b = c->z.dim[0], l = c->z.dim[1], d = block->shape->d_model;
    bool pre = block->shape->pre_norm;
    struct tensor z_t = tensor_matrix(&c->z_t), to = tensor_matrix(f_t), input_t = z_t;
    struct tensor qkv_t = rows(c, &t->qkv_t), attn_t = rows(c, &t->attn_t), h_t = rows(c, &t->h_t);
    struct tensor a_t = rows(c, &c->more->da_t), s1_t = rows(c, &t->s1_t);
    struct tensor mid_t = rows(c, &t->mid_t);
    if (pre) {
        input_t = rows(c, &t->norm_in_t);
        norm_jvp(c, NORM_INPUT, &z_t, &input_t);
    }
    weight_apply(block->be, &block->w->qkv, &input_t, 0.0, &qkv_t);
    struct attention_tangent att = {.fwd = block_attention(block, &c->z),
                                    .qkv_t = tensor_shape(&qkv_t, 3, b, l, 3 * d, 1),
                                    .out_t = tensor_shape(&attn_t, 3, b, l, d, 1)};
    op_attention_tangent(block->be, &att);
    weight_apply(block->be, &block->w->o, &attn_t, 0.0, &a_t);
    add_residual(c, &a_t, &block->in->masks.attn_out, &z_t, &s1_t);
    norm_jvp(c, NORM_MIDDLE, &s1_t, &mid_t);
    struct ffn_up_vjp hidden = block_ffn_up_vjp(block, l, 0, &mid_t, &h_t);
    hidden.forward = true;
    hidden.w = weight_factor(&block->w->ff1);
    hidden.w_stride = block->w->ff1.stride;
    op_ffn_up_vjp(block->be, &hidden);
    weight_apply(block->be, &block->w->ff2, &h_t, 0.0, &a_t);
    if (pre) {
        add_residual(c, &a_t, &block->in->masks.ff2,
                     block->shape->published_residual ? &mid_t : &s1_t, &to);
        return;
    }
    struct tensor s2_t = rows(c, &t->s2_t);
    add_residual(c, &a_t, &block->in->masks.ff2, &mid_t, &s2_t);
    norm_jvp(c, NORM_OUTPUT, &s2_t, &to);
}

/* A gradient and its derivative. */
struct pair {
    struct tensor d, t;
};

/* dw += d(dy^T x) = dy_t^T x + dy^T x_t. The bias gets the column sums of dy_t. */
static void linear_tangent(const struct tangent_call *c, const struct weight *w,
                           const struct weight *bias, const struct pair *dy, const struct tensor *x,
                           const struct tensor *x_t)
{
    weight_gradient(c->block.be, w, &dy->t, x);
    weight_gradient(c->block.be, w, &dy->d, x_t);
    if (bias != NULL)
        op_col_sum(c->block.be, &bias->dw, &dy->t);
}

static void linear_vjp(const struct tangent_call *c, const struct weight *w, const struct pair *dy,
                       double beta, const struct pair *dx)
{
    weight_vjp(c->block.be, w, &dy->d, beta, &dx->d);
    weight_vjp(c->block.be, w, &dy->t, beta, &dx->t);
}

/* Goes through s = a * mask + res from the pair at s, in place, to that at a. */
static struct pair split(const struct tangent_call *c, struct norm_vjp_tangent *p,
                         const struct tensor *mask, const struct pair *to, const struct pair *da)
{
    p->vjp.ds = to->d;
    p->ds_t = to->t;
    p->vjp.mask = *mask;
    p->vjp.rows_per_mask = length_of(c);
    if (mask->data != NULL) {
        p->vjp.da = da->d;
        p->da_t = da->t;
    }
    op_norm_vjp_tangent(c->block.be, p);
    return mask->data != NULL ? *da : *to;
}

/* Goes through the feed-forward half from the pair at f to that at y, left in *dy. */
static void ff_tangent(const struct tangent_call *c, const struct tensor *df,
                       const struct tensor *df_t, const struct pair *dy)
{
    const struct block_call *block = &c->block;
    const struct block_scratch *s = block->scratch;
    bool pre = block->shape->pre_norm, published = block->shape->published_residual;
    struct tensor h = rows(c, &block->saved->h);
    struct tensor mid = rows(c, pre ? &block->saved->mid : &block->saved->y);
    struct tensor h_t = rows(c, &c->tangent->h_t), mid_t = rows(c, &c->tangent->mid_t);
    struct pair dh = {block_work(&s->vjp_work, h.dtype, h.dim[0], h.dim[1]),
                      rows(c, &c->more->dh_t)};
    struct pair da = {rows(c, &s->b), rows(c, &c->more->da_t)};
    struct norm_vjp_tangent out = {.vjp = {.kind = NORM_NONE, .dsum = *df}, .dsum_t = *df_t};
    if (!pre) {
        out = (struct norm_vjp_tangent){.vjp = norm_of(c, NORM_OUTPUT), .dy_t = *df_t};
        out.vjp.dy = *df;
        out.s_t = rows(c, &c->tangent->s2_t);
    }
    struct pair at_a = split(c, &out, &block->in->masks.ff2, dy, &da);
    struct ffn_up_vjp back = block_ffn_up_vjp(block, length_of(c), 0, &at_a.d, &dh.d);
    struct ffn_up_vjp back_t = block_ffn_up_vjp(block, length_of(c), 0, &at_a.t, &dh.t);
    op_ffn_up_vjp(block->be, &back);
    op_ffn_up_vjp(block->be, &back_t);
    linear_tangent(c, &block->w->ff2, &block->w->ff2_bias, &at_a, &h, &h_t);
    linear_tangent(c, &block->w->ff1, &block->w->ff1_bias, &dh, &mid, &mid_t);
    if (!pre) {
        linear_vjp(c, &block->w->ff1, &dh, 1.0, dy);
        return;
    }
    struct pair dmid = {rows(c, &c->more->dattn), rows(c, &c->more->dattn_t)};
    if (published) {
        op_copy(block->be, &dmid.d, &dy->d);
        op_copy(block->be, &dmid.t, &dy->t);
    }
    linear_vjp(c, &block->w->ff1, &dh, published ? 1.0 : 0.0, &dmid);
    struct norm_vjp_tangent norm = {.vjp = norm_of(c, NORM_MIDDLE),
                                    .s_t = rows(c, &c->tangent->s1_t),
                                    .dy_t = dmid.t,
                                    .ds_t = dy->t};
    norm.vjp.dy = dmid.d;
    norm.vjp.ds = dy->d;
    if (!published) {
        norm.vjp.dsum = dy->d;
        norm.dsum_t = dy->t;
    }
    op_norm_vjp_tangent(block->be, &norm);
}

/* From the pair at the attention's output to that at qkv. */
static struct pair attention_pair(const struct tangent_call *c, const struct pair *dattn,
                                  const struct block_grads *grads)
{
    const struct block_call *block = &c->block;
    int64_t b = c->z.dim[0], l = c->z.dim[1], d = block->shape->d_model;
    struct pair dqkv = {block_dqkv(block->scratch, b * l, d), rows(c, &c->more->dqkv_t)};
    struct attention_tangent att = {
        .fwd = block_attention(block, &c->z),
        .qkv_t = tensor_prefix(&c->tangent->qkv_t, 3, b, l, 3 * d, 1),
        .dout = tensor_shape(&dattn->d, 3, b, l, d, 1),
        .dout_t = tensor_shape(&dattn->t, 3, b, l, d, 1),
        .dqkv = tensor_shape(&dqkv.d, 3, b, l, 3 * d, 1),
        .dqkv_t = tensor_shape(&dqkv.t, 3, b, l, 3 * d, 1),
        .dmem_t = grads->dmem,
        .drk_t = grads->drk,
        .dr_w_t = block->w->r_w.dw,
        .dr_r_t = block->w->r_r.dw,
    };
    op_attention_tangent(block->be, &att);
    if (grads->du.data != NULL)
        op_axpby(block->be, &grads->du, 1.0, &dqkv.t, grads->first ? 0.0 : 1.0);
    if (block->in->mem_qkv.data != NULL) {
        struct tensor mem = tensor_matrix(&block->in->mem_z);
        weight_gradient(block->be, &block->w->qkv, &grads->dmem, &mem);
    }
    return dqkv;
}

void block_vjp_tangent(const struct tangent_call *c, const struct tensor *df,
                       const struct tensor *df_t, const struct tensor *dz,
                       const struct tensor *dz_t, const struct block_grads *grads)
{
    const struct block_call *block = &c->block;
    const struct block_scratch *s = block->scratch;
    bool pre = block->shape->pre_norm;
    struct tensor zm = tensor_matrix(&c->z), z_tm = tensor_matrix(&c->z_t);
    struct tensor dfm = tensor_matrix(df), df_tm = *df_t;
    if (df_t->data != NULL)
        df_tm = tensor_matrix(df_t);
    struct pair dy = {rows(c, &c->more->dy), rows(c, &c->more->dy_t)};
    struct pair to = {tensor_matrix(dz), tensor_matrix(dz_t)};
    struct pair da = {rows(c, &s->b), rows(c, &c->more->da_t)};
    struct pair dattn = {rows(c, &c->more->dattn), rows(c, &c->more->dattn_t)};
    struct tensor attn = rows(c, &block->saved->attn), attn_t = rows(c, &c->tangent->attn_t);
    ff_tangent(c, &dfm, &df_tm, &dy);

    struct norm_vjp_tangent half = {.vjp = {.kind = NORM_NONE, .dsum = dy.d}, .dsum_t = dy.t};
    if (!pre) {
        half = (struct norm_vjp_tangent){.vjp = norm_of(c, NORM_MIDDLE), .dy_t = dy.t};
        half.vjp.dy = dy.d;
        half.s_t = rows(c, &c->tangent->s1_t);
    }
    struct pair at_a = split(c, &half, &block->in->masks.attn_out, &to, &da);
    linear_vjp(c, &block->w->o, &at_a, 0.0, &dattn);
    linear_tangent(c, &block->w->o, &block->w->o_bias, &at_a, &attn, &attn_t);
    struct pair dqkv = attention_pair(c, &dattn, grads);
    struct tensor input = pre ? rows(c, &block->saved->norm_in) : zm;
    struct tensor input_t = pre ? rows(c, &c->tangent->norm_in_t) : z_tm;
    linear_tangent(c, &block->w->qkv, NULL, &dqkv, &input, &input_t);
    if (!pre) {
        linear_vjp(c, &block->w->qkv, &dqkv, 1.0, &to);
        return;
    }
    linear_vjp(c, &block->w->qkv, &dqkv, 0.0, &dattn);
    struct norm_vjp_tangent norm = {
        .vjp = norm_of(c, NORM_INPUT), .s_t = z_tm, .dy_t = dattn.t, .dsum_t = to.t, .ds_t = to.t};
    norm.vjp.dy = dattn.d;
    norm.vjp.dsum = norm.vjp.ds = to.d;
    op_norm_vjp_tangent(block->be, &norm);
}

/* --- the cell --------------------------------------------------------------------------------- */

/* Block after block forwards, then back with pairs of a gradient and its derivative. */

/* Block j along z_t, the direction of the cell's own input. */
static struct tangent_call call_of(const struct transformer_cell *c, int64_t j, int slot,
                                   const struct tensor *z, const struct tensor *f,
                                   const struct tensor *z_t)
{
    return (struct tangent_call){
        .block = transformer_cell_call(c, j, slot),
        .tangent = &c->block[j].tangent,
        .more = &c->more,
        .z = transformer_cell_block_in(c, j, slot, z),
        .f = transformer_cell_block_out(c, j, slot, f),
        .z_t = j == 0 ? *z_t : tensor_cut(&c->block[j - 1].output_t, z),
    };
}

void transformer_cell_jvp(struct cell *base, int slot, const struct tensor *z,
                          const struct tensor *f, const struct tensor *z_t,
                          const struct tensor *f_t)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    assert(c->plan.mode >= CELL_TANGENT);
    for (int64_t j = 0; j < c->blocks; j++) {
        struct tangent_call call = call_of(c, j, slot, z, f, z_t);
        struct tensor to = j == c->blocks - 1 ? *f_t : tensor_cut(&c->block[j].output_t, z);
        block_jvp(&call, &to);
    }
}

void transformer_cell_vjp_tangent(struct cell *base, int slot, const struct tensor *z,
                                  const struct tensor *f, const struct tensor *z_t,
                                  const struct tensor *df, const struct tensor *dz_t)
{
    struct transformer_cell *c = (struct transformer_cell *)base;
    struct tensor from = *df, from_t = {0};
    assert(c->plan.mode >= CELL_TANGENT);
    for (int64_t j = c->blocks - 1; j >= 0; j--) {
        struct tangent_call call = call_of(c, j, slot, z, f, z_t);
        struct tensor to = tensor_cut(&c->pair_d[j % 2], z),
                      to_t = tensor_cut(&c->pair_t[j % 2], z);
        struct block_grads grads = transformer_cell_grads(c, j, z);
        block_vjp_tangent(&call, &from, &from_t, &to, &to_t, &grads);
        transformer_cell_gain_gradient(c, j, slot, &grads.dmem);
        from = to;
        from_t = to_t;
    }
    if (dz_t->data != NULL)
        op_copy(base->be, dz_t, &from_t);
}
