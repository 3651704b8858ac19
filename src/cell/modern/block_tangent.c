/* Second-order derivatives of a modern block, that is how it and its vjp change when z moves along
 * a direction (forward-over-reverse). They run in a share of the steps, in whole buffers. */
#include "cell/modern/modern_block.h"

/* A gradient and its derivative. */
struct pair {
    struct tensor d, t;
};

static int64_t count_of(const struct modern_tangent_call *c)
{
    return c->z.dim[0] * c->z.dim[1];
}

/* A planned buffer cut to the call's rows. */
static struct tensor rows(const struct modern_tangent_call *c, const struct tensor *t)
{
    return modern_rows(t, count_of(c));
}

static const struct weight *weight_of(const struct modern_tangent_call *c, int which)
{
    return &c->block.w[which].w;
}

/* y_t <- derivative of the norm that made xhat when its input moves along s_t. Its Jacobian is
 * symmetric, so that the vjp serves as the jvp. */
static void norm_jvp(const struct modern_tangent_call *c, const struct tensor *s_t,
                     const struct tensor *xhat, const struct tensor *rstd, const struct tensor *y_t)
{
    struct residual_norm_vjp p = {.kind = c->block.shape->norm,
                                  .dy = *s_t,
                                  .xhat = *xhat,
                                  .rstd = rows(c, rstd),
                                  .ds = *y_t,
                                  .rows_per_mask = 1};
    op_residual_norm_vjp(c->block.be, &p);
}

/* to <- a_t * mask + res_t */
static void add_residual(const struct modern_tangent_call *c, const struct tensor *a_t,
                         const struct tensor *mask, const struct tensor *res_t,
                         const struct tensor *to)
{
    struct residual_norm p = {.a = *a_t,
                              .mask = *mask,
                              .res = *res_t,
                              .sum = *to,
                              .rows_per_mask = c->z.dim[1],
                              .kind = NORM_NONE};
    op_residual_norm(c->block.be, &p);
}

/* What q, k and v are made of. */
static struct tensor input_of(const struct modern_tangent_call *c)
{
    return c->block.saved->n1.data != NULL ? rows(c, &c->block.saved->n1) : tensor_matrix(&c->z);
}

static struct tensor middle_of(const struct modern_tangent_call *c)
{
    bool post = c->block.shape->place == NORM_PLACE_POST;
    return rows(c, post ? &c->block.saved->y : &c->block.saved->n2);
}

/* to <- what the entry makes of the direction. */
static void entry_jvp(const struct modern_tangent_call *c, const struct tensor *to)
{
    const struct modern_input *in = c->block.in;
    struct tensor z_t = tensor_matrix(&c->z_t);
    if (in->entry == ENTRY_LINEAR) {
        weight_apply(c->block.be, in->state, &z_t, 0.0, to);
    } else if (in->factor.data != NULL) {
        int64_t n = z_t.dim[0], d = z_t.dim[1];
        struct tensor from3 = tensor_shape(&z_t, 3, 1, n, d, 1);
        struct tensor to3 = tensor_shape(to, 3, 1, n, d, 1);
        struct tensor by = tensor_shape(&in->factor, 3, 1, 1, d, 1);
        op_mul_bcast(c->block.be, &to3, &from3, &by);
    } else {
        op_copy(c->block.be, to, &z_t);
    }
}

static struct heads_tangent heads_of(const struct modern_tangent_call *c)
{
    return (struct heads_tangent){.fwd = modern_heads(&c->block, c->z.dim[1], count_of(c)),
                                  .x_t = rows(c, &c->tangent->x_t)};
}

static struct attention_tangent attention_of(const struct modern_tangent_call *c)
{
    int64_t b = c->z.dim[0], l = c->z.dim[1], wide = 3 * c->block.shape->attn;
    return (struct attention_tangent){.fwd = modern_attention(&c->block, b, l),
                                      .qkv_t = tensor_prefix(&c->tangent->qkv_t, 3, b, l, wide, 1)};
}

void modern_block_jvp(const struct modern_tangent_call *c)
{
    const struct modern_activations *s = c->block.saved;
    const struct modern_tangent *t = c->tangent;
    struct backend *be = c->block.be;
    enum config_norm_place place = c->block.shape->place;
    int64_t b = c->z.dim[0], l = c->z.dim[1];
    struct tensor h_t = rows(c, &t->h_t), n1_t = rows(c, &t->n1_t), x_t = rows(c, &t->x_t);
    struct tensor attn_t = rows(c, &t->attn_t), s1_t = rows(c, &t->s1_t), y_t = rows(c, &t->y_t);
    struct tensor n2_t = rows(c, &t->n2_t), up_t = rows(c, &t->up_t), s2_t = rows(c, &t->s2_t);
    struct tensor out_t = rows(c, &t->out_t), input = input_of(c), middle = middle_of(c);
    struct tensor a_t = rows(c, &c->more->d[0]), hidden_t = rows(c, &c->more->hidden_t);
    struct tensor y = rows(c, &s->y), out = tensor_matrix(&c->f);
    entry_jvp(c, &h_t);
    if (place == NORM_PLACE_POST)
        op_copy(be, &n1_t, &h_t);
    else
        norm_jvp(c, &h_t, &input, &s->rstd1, &n1_t);
    weight_apply(be, weight_of(c, MODERN_QKV), &n1_t, 0.0, &x_t);
    struct heads_tangent heads = heads_of(c);
    heads.qkv_t = rows(c, &t->qkv_t);
    op_heads_tangent(be, &heads);
    struct attention_tangent att = attention_of(c);
    att.out_t = tensor_shape(&attn_t, 3, b, l, attn_t.dim[1], 1);
    op_attention_tangent(be, &att);
    weight_apply(be, weight_of(c, MODERN_OUT), &attn_t, 0.0, &a_t);
    add_residual(c, &a_t, &c->block.in->mask_attn, &h_t, &s1_t);
    if (place == NORM_PLACE_PRE)
        op_copy(be, &y_t, &s1_t);
    else
        norm_jvp(c, &s1_t, &y, &s->rstd_y, &y_t);
    if (place == NORM_PLACE_POST)
        op_copy(be, &n2_t, &y_t);
    else
        norm_jvp(c, &y_t, &middle, &s->rstd2, &n2_t);
    weight_apply(be, weight_of(c, MODERN_UP), &n2_t, 0.0, &up_t);
    struct activate_tangent act = {
        .x = rows(c, &s->up), .x_t = up_t, .h_t = hidden_t, .kind = c->block.shape->activation};
    op_activate_tangent(be, &act);
    weight_apply(be, weight_of(c, MODERN_DOWN), &hidden_t, 0.0, &a_t);
    add_residual(c, &a_t, &c->block.in->mask_ff, &y_t, &s2_t);
    if (place == NORM_PLACE_PRE)
        op_copy(be, &out_t, &s2_t);
    else
        norm_jvp(c, &s2_t, &out, &s->rstd_out, &out_t);
}

/* dw += dy_t^T x + dy^T x_t. */
static void linear_tangent(const struct modern_tangent_call *c, const struct weight *w,
                           const struct pair *dy, const struct tensor *x, const struct tensor *x_t)
{
    weight_gradient(c->block.be, w, &dy->t, x);
    weight_gradient(c->block.be, w, &dy->d, x_t);
}

static void linear_vjp(const struct modern_tangent_call *c, const struct weight *w,
                       const struct pair *dy, double beta, const struct pair *dx)
{
    weight_vjp(c->block.be, w, &dy->d, beta, &dx->d);
    weight_vjp(c->block.be, w, &dy->t, beta, &dx->t);
}

/* What is kept of a norm. */
struct saved_norm {
    struct tensor xhat;
    const struct tensor *rstd; /* borrows the planned buffer */
};

/* to <- the pair at the input of a norm, from that at its output. With `adds` it
 * is added to what is there. */
static void norm_tangent(const struct modern_tangent_call *c, const struct saved_norm *norm,
                         const struct tensor *s_t, const struct pair *dy, const struct pair *to,
                         bool adds)
{
    struct norm_vjp_tangent p = {.vjp = {.kind = c->block.shape->norm,
                                         .dy = dy->d,
                                         .xhat = norm->xhat,
                                         .rstd = rows(c, norm->rstd),
                                         .ds = to->d,
                                         .rows_per_mask = 1},
                                 .s_t = *s_t,
                                 .dy_t = dy->t,
                                 .ds_t = to->t};
    if (adds) {
        p.vjp.dsum = to->d;
        p.dsum_t = to->t;
    }
    op_norm_vjp_tangent(c->block.be, &p);
}

/* The pair at what a half adds, from that at its sum. */
static struct pair branch(const struct modern_tangent_call *c, const struct tensor *mask,
                          const struct pair *at)
{
    if (mask->data == NULL)
        return *at;
    struct pair to = {rows(c, &c->more->d[1]), rows(c, &c->more->t[1])};
    int64_t b = c->z.dim[0], l = c->z.dim[1], d = at->d.dim[1];
    struct tensor by = tensor_prefix(mask, 3, b, 1, d, 1);
    const struct tensor from[2] = {tensor_shape(&at->d, 3, b, l, d, 1),
                                   tensor_shape(&at->t, 3, b, l, d, 1)};
    const struct tensor dest[2] = {tensor_shape(&to.d, 3, b, l, d, 1),
                                   tensor_shape(&to.t, 3, b, l, d, 1)};
    for (int i = 0; i < 2; i++)
        op_mul_bcast(c->block.be, &dest[i], &from[i], &by);
    return to;
}

/* From the pair at the second sum, in *at, to that at y, in its place. */
static void second_half(const struct modern_tangent_call *c, const struct pair *at)
{
    const struct modern_activations *s = c->block.saved;
    const struct modern_tangent_scratch *m = c->more;
    struct backend *be = c->block.be;
    enum activation kind = c->block.shape->activation;
    enum config_norm_place place = c->block.shape->place;
    struct pair dn = {rows(c, &m->d[2]), rows(c, &m->t[2])};
    struct pair dhidden = {rows(c, &m->dhidden), rows(c, &m->dhidden_t)};
    struct pair dup = {rows(c, &m->dup), rows(c, &m->dup_t)};
    struct tensor up = rows(c, &s->up), up_t = rows(c, &c->tangent->up_t);
    struct tensor hidden = rows(c, &m->hidden), hidden_t = rows(c, &m->hidden_t);
    struct tensor middle = middle_of(c), middle_t = rows(c, &c->tangent->n2_t);
    struct tensor y_t = rows(c, &c->tangent->y_t);
    struct pair da = branch(c, &c->block.in->mask_ff, at);
    linear_vjp(c, weight_of(c, MODERN_DOWN), &da, 0.0, &dhidden);
    struct activate again = {up, hidden, kind};
    struct activate_tangent act = {.x = up,
                                   .x_t = up_t,
                                   .h_t = hidden_t,
                                   .dh = dhidden.d,
                                   .dh_t = dhidden.t,
                                   .dx = dup.d,
                                   .dx_t = dup.t,
                                   .kind = kind};
    op_activate(be, &again);
    op_activate_tangent(be, &act);
    linear_tangent(c, weight_of(c, MODERN_DOWN), &da, &hidden, &hidden_t);
    linear_tangent(c, weight_of(c, MODERN_UP), &dup, &middle, &middle_t);
    if (place == NORM_PLACE_POST) {
        linear_vjp(c, weight_of(c, MODERN_UP), &dup, 1.0, at);
        return;
    }
    linear_vjp(c, weight_of(c, MODERN_UP), &dup, 0.0, &dn);
    const struct saved_norm norm = {middle, &s->rstd2};
    norm_tangent(c, &norm, &y_t, &dn, at, true);
}

/* From the pair at attention's sum to that of x. */
static struct pair attention_pair(const struct modern_tangent_call *c, const struct pair *at)
{
    const struct modern_tangent_scratch *m = c->more;
    struct backend *be = c->block.be;
    int64_t b = c->z.dim[0], l = c->z.dim[1], a = c->block.shape->attn;
    struct pair dattn = {rows(c, &m->dattn), rows(c, &m->dattn_t)};
    struct pair dqkv = {rows(c, &m->dqkv), rows(c, &m->dqkv_t)};
    struct pair dx = {rows(c, &m->dx), rows(c, &m->dx_t)};
    struct tensor attn = rows(c, &c->block.saved->attn), attn_t = rows(c, &c->tangent->attn_t);
    struct pair da = branch(c, &c->block.in->mask_attn, at);
    linear_vjp(c, weight_of(c, MODERN_OUT), &da, 0.0, &dattn);
    linear_tangent(c, weight_of(c, MODERN_OUT), &da, &attn, &attn_t);
    struct attention_tangent att = attention_of(c);
    att.dout = tensor_shape(&dattn.d, 3, b, l, a, 1);
    att.dout_t = tensor_shape(&dattn.t, 3, b, l, a, 1);
    att.dqkv = tensor_shape(&dqkv.d, 3, b, l, 3 * a, 1);
    att.dqkv_t = tensor_shape(&dqkv.t, 3, b, l, 3 * a, 1);
    op_attention_tangent(be, &att);
    struct heads_tangent heads = heads_of(c);
    heads.dqkv = dqkv.d;
    heads.dqkv_t = dqkv.t;
    heads.dx = dx.d;
    heads.dx_t = dx.t;
    op_heads_tangent(be, &heads);
    return dx;
}

/* From the pair at h to that at z, in *to, with what the injection and its weights get. */
static void entry_tangent(const struct modern_tangent_call *c, const struct pair *at,
                          const struct pair *to, const struct modern_grads *grads)
{
    const struct modern_input *in = c->block.in;
    struct backend *be = c->block.be;
    struct tensor z = tensor_matrix(&c->z), z_t = tensor_matrix(&c->z_t);
    if (in->entry == ENTRY_ADD || in->entry == ENTRY_LINEAR)
        op_axpby(be, &grads->du, 1.0, &at->t, grads->first ? 0.0 : 1.0);
    if (in->entry == ENTRY_LINEAR) {
        linear_tangent(c, in->state, at, &z, &z_t);
        linear_vjp(c, in->state, at, 0.0, to);
        return;
    }
    op_copy(be, &to->d, &at->d);
    op_copy(be, &to->t, &at->t);
    if (in->factor.data == NULL)
        return;
    op_col_dot(be, &grads->dfactor, &at->t, &z);
    op_col_dot(be, &grads->dfactor, &at->d, &z_t);
    int64_t n = z.dim[0], d = z.dim[1];
    struct tensor by = tensor_shape(&in->factor, 3, 1, 1, d, 1);
    struct tensor both[2] = {tensor_shape(&to->d, 3, 1, n, d, 1),
                             tensor_shape(&to->t, 3, 1, n, d, 1)};
    for (int i = 0; i < 2; i++)
        op_mul_bcast(be, &both[i], &both[i], &by);
}

void modern_block_vjp_tangent(const struct modern_tangent_call *c, const struct tensor *df,
                              const struct tensor *df_t, const struct tensor *dz,
                              const struct tensor *dz_t, const struct modern_grads *grads)
{
    const struct modern_activations *s = c->block.saved;
    const struct modern_tangent *t = c->tangent;
    struct backend *be = c->block.be;
    enum config_norm_place place = c->block.shape->place;
    struct pair at = {rows(c, &c->more->d[0]), rows(c, &c->more->t[0])};
    struct pair dn = {rows(c, &c->more->d[2]), rows(c, &c->more->t[2])};
    struct pair from = {tensor_matrix(df), tensor_matrix(df_t)};
    struct pair to = {tensor_matrix(dz), tensor_matrix(dz_t)};
    struct tensor s1_t = rows(c, &t->s1_t), s2_t = rows(c, &t->s2_t);
    struct tensor n1 = input_of(c), n1_t = rows(c, &t->n1_t);
    const struct saved_norm first = {n1, &s->rstd1}, half = {rows(c, &s->y), &s->rstd_y};
    const struct saved_norm last = {tensor_matrix(&c->f), &s->rstd_out};
    struct tensor h_t = rows(c, &t->h_t);
    if (place == NORM_PLACE_PRE) {
        op_copy(be, &at.d, &from.d);
        op_copy(be, &at.t, &from.t);
    } else {
        norm_tangent(c, &last, &s2_t, &from, &at, false);
    }
    second_half(c, &at);
    if (place != NORM_PLACE_PRE)
        norm_tangent(c, &half, &s1_t, &at, &at, false);
    struct pair dx = attention_pair(c, &at);
    linear_tangent(c, weight_of(c, MODERN_QKV), &dx, &n1, &n1_t);
    if (c->block.in->entry == ENTRY_QKV)
        op_axpby(be, &grads->du, 1.0, &dx.t, grads->first ? 0.0 : 1.0);
    if (place == NORM_PLACE_POST) {
        linear_vjp(c, weight_of(c, MODERN_QKV), &dx, 1.0, &at);
    } else {
        linear_vjp(c, weight_of(c, MODERN_QKV), &dx, 0.0, &dn);
        norm_tangent(c, &first, &h_t, &dn, &at, true);
    }
    entry_tangent(c, &at, &to, grads);
}
