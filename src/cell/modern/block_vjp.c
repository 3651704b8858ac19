/* Products of a modern block's Jacobian, transposed, and its gradients. */
#include "cell/modern/modern_block.h"

/* The first numbers of scratch as a matrix. */
static struct tensor work(const struct tensor *scratch, enum dtype dtype, int64_t rows,
                          int64_t width)
{
    struct tensor t = tensor_make(scratch->data, dtype, 2, rows, width, 1, 1);
    assert(tensor_bytes(&t) <= tensor_bytes(scratch));
    return t;
}

/* What lies behind it. */
static struct tensor work_behind(const struct tensor *front, enum dtype dtype, int64_t width)
{
    void *data = (char *)front->data + tensor_bytes(front);
    return tensor_make(data, dtype, 2, front->dim[0], width, 1, 1);
}

/* From the gradient `da` of the feed-forward network's output, for all rows, to that of what it
 * sees, dn <- J^T da + beta dn. */
static void feed_forward_vjp(const struct modern_call *c, const struct tensor *n2,
                             const struct tensor *da, double beta, const struct tensor *dn,
                             bool full)
{
    const struct modern_shape *shape = c->shape;
    const struct modern_scratch *s = c->scratch;
    const struct modern_matrix *w = c->w;
    int64_t n = da->dim[0];
    for (int64_t first = 0; first < n; first += s->rows) {
        int64_t count = n - first < s->rows ? n - first : s->rows;
        struct tensor dy = tensor_slice(da, first, count), to = tensor_slice(dn, first, count);
        struct tensor up = tensor_slice(&c->saved->up, first, count);
        struct tensor dh = work(&s->wide, c->be->ops->real, count, shape->inner);
        struct tensor dup = work_behind(&dh, op_low_precision(c->be), shape->up);
        weight_vjp(c->be, &w[MODERN_DOWN].w, &dy, 0.0, &dh);
        struct activate_vjp back = {up, dh, dup, shape->activation};
        op_activate_vjp(c->be, &back);
        if (full) {
            struct tensor hidden = modern_rows(&s->hidden, count);
            struct tensor from = tensor_slice(n2, first, count);
            struct activate again = {up, hidden, shape->activation};
            op_activate(c->be, &again);
            weight_gradient(c->be, &w[MODERN_DOWN].w, &dy, &hidden);
            weight_gradient(c->be, &w[MODERN_UP].w, &dup, &from);
        }
        weight_vjp(c->be, &w[MODERN_UP].w, &dup, beta, &to);
    }
}

/* ds <- gradient at s of the norm that made xhat, plus dsum. */
static void norm_vjp(const struct modern_call *c, const struct tensor *dy,
                     const struct tensor *dsum, const struct tensor *xhat,
                     const struct tensor *rstd, const struct tensor *ds)
{
    struct residual_norm_vjp p = {.kind = c->shape->norm,
                                  .dy = *dy,
                                  .xhat = *xhat,
                                  .rstd = modern_rows(rstd, ds->dim[0]),
                                  .ds = *ds,
                                  .rows_per_mask = 1};
    if (dsum != NULL)
        p.dsum = *dsum;
    op_residual_norm_vjp(c->be, &p);
}

/* Goes from the gradient at a half's sum, ds, to that of what the half adds. It is ds itself where
 * there is no mask. */
static struct tensor branch(const struct modern_call *c, int64_t length, const struct tensor *mask,
                            const struct tensor *ds)
{
    if (mask->data == NULL)
        return *ds;
    struct tensor da = modern_rows(&c->scratch->da, ds->dim[0]);
    int64_t b = ds->dim[0] / length, d = ds->dim[1];
    struct tensor to = tensor_shape(&da, 3, b, length, d, 1);
    struct tensor from = tensor_shape(ds, 3, b, length, d, 1);
    struct tensor by = tensor_prefix(mask, 3, b, 1, d, 1);
    op_mul_bcast(c->be, &to, &from, &by);
    return da;
}

/* From df to the gradient of y, in `dy`. f is the block's output. */
static void second_half_vjp(const struct modern_call *c, int64_t length, const struct tensor *f,
                            const struct tensor *df, const struct tensor *dy, bool full)
{
    const struct modern_activations *t = c->saved;
    enum config_norm_place place = c->shape->place;
    int64_t n = df->dim[0];
    struct tensor ds = *df, dn = modern_rows(&c->scratch->dn, n);
    struct tensor n2 = modern_rows(place == NORM_PLACE_POST ? &t->y : &t->n2, n);
    if (place != NORM_PLACE_PRE) {
        norm_vjp(c, df, NULL, f, &t->rstd_out, dy);
        ds = *dy;
    }
    struct tensor da = branch(c, length, &c->in->mask_ff, &ds);
    if (place == NORM_PLACE_POST) {
        /* Without a mask da is dy, to which the rows' own gradients are added at last. */
        feed_forward_vjp(c, &n2, &da, 1.0, dy, full);
        return;
    }
    feed_forward_vjp(c, &n2, &da, 0.0, &dn, full);
    norm_vjp(c, &dn, &ds, &n2, &t->rstd2, dy);
}

/* From the gradient `dh` at attention's sum to that of x, which is returned and lies in scratch. */
static struct tensor attention_vjp(const struct modern_call *c, int64_t b, int64_t l,
                                   const struct tensor *ds, bool full)
{
    const struct modern_shape *s = c->shape;
    int64_t n = b * l;
    enum dtype real = c->be->ops->real;
    struct tensor da = branch(c, l, &c->in->mask_attn, ds), attn = modern_rows(&c->saved->attn, n);
    struct tensor dattn = work(&c->scratch->narrow, real, n, s->attn);
    struct tensor dqkv = work(&c->scratch->wide, real, n, 3 * s->attn);
    struct tensor dx = work(&c->scratch->narrow, real, n, s->wide);
    weight_vjp(c->be, &c->w[MODERN_OUT].w, &da, 0.0, &dattn);
    if (full)
        weight_gradient(c->be, &c->w[MODERN_OUT].w, &da, &attn);
    struct attention_vjp att = {
        .fwd = modern_attention(c, b, l),
        .dout = tensor_shape(&dattn, 3, b, l, s->attn, 1),
        .dqkv = tensor_shape(&dqkv, 3, b, l, 3 * s->attn, 1),
    };
    op_attention_vjp(c->be, &att);
    struct heads_vjp heads = {modern_heads(c, l, n), dqkv, dx};
    op_heads_vjp(c->be, &heads);
    return dx;
}

/* total <- from, or total + from. */
static void gather(const struct modern_call *c, const struct modern_grads *grads,
                   const struct tensor *from)
{
    op_axpby(c->be, &grads->du, 1.0, from, grads->first ? 0.0 : 1.0);
}

/* From the gradient `dh` of h to dz, which may be the same. */
static void entry_vjp(const struct modern_call *c, const struct tensor *z, const struct tensor *dh,
                      const struct tensor *dz, const struct modern_grads *grads)
{
    const struct modern_input *in = c->in;
    bool joins = in->entry == ENTRY_ADD || in->entry == ENTRY_LINEAR;
    if (grads != NULL && joins)
        gather(c, grads, dh);
    if (in->entry == ENTRY_LINEAR) {
        if (grads != NULL)
            weight_gradient(c->be, in->state, dh, z);
        weight_vjp(c->be, in->state, dh, 0.0, dz);
    } else if (in->factor.data != NULL) {
        int64_t n = dh->dim[0], d = dh->dim[1];
        struct tensor to = tensor_shape(dz, 3, 1, n, d, 1), from = tensor_shape(dh, 3, 1, n, d, 1);
        struct tensor by = tensor_shape(&in->factor, 3, 1, 1, d, 1);
        if (grads != NULL && grads->dfactor.data != NULL)
            op_col_dot(c->be, &grads->dfactor, dh, z);
        op_mul_bcast(c->be, &to, &from, &by);
    }
}

void modern_block_vjp(const struct modern_call *c, const struct tensor *z, const struct tensor *f,
                      const struct tensor *df, const struct tensor *dz,
                      const struct modern_grads *grads)
{
    const struct modern_activations *t = c->saved;
    int64_t b = z->dim[0], l = z->dim[1], n = b * l;
    bool full = grads != NULL, post = c->shape->place == NORM_PLACE_POST;
    struct tensor zm = tensor_matrix(z), fm = tensor_matrix(f), dfm = tensor_matrix(df);
    struct tensor dzm = tensor_matrix(dz), dn = modern_rows(&c->scratch->dn, n);
    struct tensor y = modern_rows(&t->y, n), n1 = modern_rows(&t->n1, n);
    if (n1.data == NULL)
        n1 = zm;
    second_half_vjp(c, l, &fm, &dfm, &dzm, full);
    if (c->shape->place != NORM_PLACE_PRE)
        norm_vjp(c, &dzm, NULL, &y, &t->rstd_y, &dzm);
    struct tensor dx = attention_vjp(c, b, l, &dzm, full);
    if (full) {
        weight_gradient(c->be, &c->w[MODERN_QKV].w, &dx, &n1);
        if (c->in->entry == ENTRY_QKV)
            gather(c, grads, &dx);
    }
    /* A linear entry may not take dh to dz in place. */
    struct tensor dh = c->in->entry == ENTRY_LINEAR ? dn : dzm;
    if (post) {
        weight_vjp(c->be, &c->w[MODERN_QKV].w, &dx, 1.0, &dzm);
        if (c->in->entry == ENTRY_LINEAR)
            op_copy(c->be, &dn, &dzm);
    } else {
        weight_vjp(c->be, &c->w[MODERN_QKV].w, &dx, 0.0, &dn);
        norm_vjp(c, &dn, &dzm, &n1, &t->rstd1, &dh);
    }
    entry_vjp(c, &zm, &dh, &dzm, grads);
}
