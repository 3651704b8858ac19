/* Evaluations of a modern block, at all positions or at some. */
#include "cell/modern/modern_block.h"

struct heads modern_heads(const struct modern_call *c, int64_t length, int64_t n)
{
    const struct modern_shape *s = c->shape;
    struct tensor qkv = modern_rows(&c->saved->qkv, n);
    return (struct heads){.x = modern_rows(&c->saved->x, n),
                          .turn = c->in->turn,
                          .qkv = qkv,
                          .length = length,
                          .first = c->in->first,
                          .heads = s->heads,
                          .groups = s->groups,
                          .norm = s->qk_norm,
                          .eps = s->eps};
}

struct attention modern_attention(const struct modern_call *c, int64_t b, int64_t l)
{
    const struct modern_shape *s = c->shape;
    return (struct attention){
        .qkv = tensor_prefix(&c->saved->qkv, 3, b, l, 3 * s->attn, 1),
        .mem = c->in->mem_qkv,
        .out = tensor_prefix(&c->saved->attn, 3, b, l, s->attn, 1),
        .lse = tensor_prefix(&c->saved->lse, 3, b, s->heads, l, 1),
        .mask = c->in->mask_weights,
        .mask_scale = c->in->weights_scale,
        .heads = s->heads,
        .span = s->span,
    };
}

void modern_enter(const struct modern_call *c, const struct tensor *z, const struct tensor *u,
                  struct tensor *h, struct tensor *n1)
{
    const struct modern_input *in = c->in;
    int64_t n = z->dim[0];
    bool opens = c->shape->place != NORM_PLACE_POST;
    struct residual_norm p = {.a = *z, .kind = NORM_NONE, .eps = c->shape->eps, .rows_per_mask = n};
    *h = *z;
    *n1 = modern_rows(&c->saved->n1, n);
    if (in->entry == ENTRY_ADD || in->entry == ENTRY_LINEAR)
        *h = opens ? modern_rows(&c->scratch->h, n) : *n1;
    else if (!opens)
        *n1 = *z;
    if (in->entry == ENTRY_LINEAR) {
        weight_apply_to(c->be, in->state, z, u, h);
        p.a = *h;
    } else if (in->entry == ENTRY_ADD) {
        p.mask = in->factor;
        p.res = *u;
        p.sum = *h;
    }
    if (opens) {
        p.kind = c->shape->norm;
        p.y = *n1;
        p.rstd = modern_rows(&c->saved->rstd1, n);
    }
    if ((p.kind != NORM_NONE || p.sum.data != NULL) && n > 0)
        op_residual_norm(c->be, &p);
}

/* x <- W n1 + u, where u is added if the injection enters there. */
static void project(const struct modern_call *c, const struct tensor *n1, const struct tensor *u)
{
    struct tensor x = modern_rows(&c->saved->x, n1->dim[0]), none = {0};
    weight_apply_to(c->be, &c->w[MODERN_QKV].w, n1, c->in->entry == ENTRY_QKV ? u : &none, &x);
}

/* out <- the feed-forward network of n2, both [n,D]. */
static void feed_forward(const struct modern_call *c, const struct tensor *n2,
                         const struct tensor *out)
{
    const struct modern_scratch *s = c->scratch;
    int64_t n = n2->dim[0];
    for (int64_t first = 0; first < n; first += s->rows) {
        int64_t count = n - first < s->rows ? n - first : s->rows;
        struct tensor from = tensor_slice(n2, first, count), to = tensor_slice(out, first, count);
        struct tensor up = modern_rows(&s->up, count), hidden = modern_rows(&s->hidden, count);
        if (c->saved->up.data != NULL)
            up = tensor_slice(&c->saved->up, first, count);
        weight_apply(c->be, &c->w[MODERN_UP].w, &from, 0.0, &up);
        struct activate activate = {up, hidden, c->shape->activation};
        op_activate(c->be, &activate);
        weight_apply(c->be, &c->w[MODERN_DOWN].w, &hidden, 0.0, &to);
    }
}

/* What comes after attention, row by row, gives out [n,D] from attn and h. Row n uses row n / l of
 * the masks. */
static void finish(const struct modern_call *c, int64_t l, const struct tensor *attn,
                   const struct tensor *h, const struct tensor *out)
{
    const struct modern_shape *shape = c->shape;
    const struct modern_activations *t = c->saved;
    int64_t n = h->dim[0];
    bool closes = shape->place != NORM_PLACE_PRE, opens = shape->place != NORM_PLACE_POST;
    struct residual_norm common = {.rows_per_mask = l, .eps = shape->eps, .kind = shape->norm};
    struct tensor y = modern_rows(closes ? &t->y : &c->scratch->y, n);
    struct tensor n2 = opens ? modern_rows(&t->n2, n) : y;
    weight_apply(c->be, &c->w[MODERN_OUT].w, attn, 0.0, &y);

    struct residual_norm half = common;
    half.a = y;
    half.mask = c->in->mask_attn;
    half.res = *h;
    half.y = closes ? y : n2;
    half.rstd = modern_rows(closes ? &t->rstd_y : &t->rstd2, n);
    if (!closes)
        half.sum = y;
    op_residual_norm(c->be, &half);
    if (closes && opens) {
        struct residual_norm open = common;
        open.a = y;
        open.y = n2;
        open.rstd = modern_rows(&t->rstd2, n);
        op_residual_norm(c->be, &open);
    }
    feed_forward(c, &n2, out);

    struct residual_norm end = common;
    end.a = *out;
    end.mask = c->in->mask_ff;
    end.res = y;
    if (closes) {
        end.y = *out;
        end.rstd = modern_rows(&t->rstd_out, n);
    } else {
        end.kind = NORM_NONE;
        end.sum = *out;
    }
    op_residual_norm(c->be, &end);
}

void modern_block_eval(const struct modern_call *c, const struct tensor *z, const struct tensor *f)
{
    int64_t b = z->dim[0], l = z->dim[1], n = b * l;
    struct tensor zm = tensor_matrix(z), fm = tensor_matrix(f), h, n1;
    struct tensor attn = modern_rows(&c->saved->attn, n);
    modern_enter(c, &zm, &c->in->u, &h, &n1);
    project(c, &n1, &c->in->u);
    struct heads heads = modern_heads(c, l, n);
    op_heads(c->be, &heads);
    struct attention att = modern_attention(c, b, l);
    op_attention(c->be, &att);
    finish(c, l, &attn, &h, &fm);
}

/* --- at some positions --------------------------------------------------------------------------
 *
 * Everything but attention works row by row, on the chosen rows brought together. Attention lets
 * their queries see the keys and values of all. */

/* The chosen rows, and the sequences they belong to. */
struct chosen {
    struct tensor list, sequence; /* I32 [n] */
};

static struct chosen chosen_of(const struct tensor *rows)
{
    int64_t n = rows->dim[1];
    struct chosen r = {tensor_slice(rows, 0, 1), tensor_slice(rows, 1, 1)};
    r.list = tensor_shape(&r.list, 1, n, 1, 1, 1);
    r.sequence = tensor_shape(&r.sequence, 1, n, 1, 1, 1);
    return r;
}

/* The rows of the injection. */
static struct tensor chosen_injection(const struct modern_call *c, const struct chosen *rows)
{
    const struct tensor *u = &c->in->u;
    if (u->data == NULL)
        return *u;
    struct tensor to =
        tensor_prefix(&c->scratch->row_u, 2, rows->list.dim[0], u->dim[u->ndim - 1], 1, 1);
    struct tensor from = tensor_matrix(u);
    op_gather_rows(c->be, &to, &from, &rows->list, 1.0);
    return to;
}

/* to <- a mask of the rows' sequences. NULL stays NULL. */
static struct tensor chosen_mask(const struct modern_call *c, const struct tensor *mask,
                                 const struct tensor *to, const struct chosen *rows)
{
    if (mask->data == NULL)
        return *mask;
    struct tensor spread = modern_rows(to, rows->sequence.dim[0]);
    op_gather_rows(c->be, &spread, mask, &rows->sequence, 1.0);
    return spread;
}

void modern_block_eval_rows(const struct modern_call *c, const struct tensor *z,
                            const struct tensor *rows, struct tensor *from, struct tensor *out)
{
    struct backend *be = c->be;
    const struct modern_scratch *s = c->scratch;
    struct chosen r = chosen_of(rows);
    int64_t n = rows->dim[1], b = z->dim[0], l = z->dim[1], d = c->shape->d_model;
    struct tensor zm = tensor_matrix(z), h, n1;
    struct tensor zr = tensor_prefix(&s->row_z, 2, n, d, 1, 1);
    op_gather_rows(be, &zr, &zm, &r.list, 1.0);
    struct tensor u = chosen_injection(c, &r);
    modern_enter(c, &zr, &u, &h, &n1);
    project(c, &n1, &u);
    struct heads heads = modern_heads(c, l, n);
    heads.rows = r.list;
    heads.qkv = tensor_prefix(&s->row_qkv, 2, n, 3 * c->shape->attn, 1, 1);
    op_heads(be, &heads);
    struct attention att = modern_attention(c, b, l);
    struct tensor qkv_all = tensor_matrix(&att.qkv), attn_all = tensor_matrix(&att.out);
    op_scatter_rows(be, &qkv_all, &heads.qkv, &r.list);
    att.rows = r.list;
    att.lse = (struct tensor){0};
    op_attention(be, &att);

    /* Rows of qkv are no longer needed. Their buffer is used again for attention. */
    struct tensor attn = tensor_prefix(&s->row_qkv, 2, n, c->shape->attn, 1, 1);
    struct modern_input own = *c->in;
    struct modern_call call = *c;
    call.in = &own;
    op_gather_rows(be, &attn, &attn_all, &r.list, 1.0);
    *from = zr;
    *out = tensor_prefix(&s->row_u, 2, n, d, 1, 1);
    own.mask_attn = chosen_mask(c, &c->in->mask_attn, &s->row_mask[0], &r);
    own.mask_ff = chosen_mask(c, &c->in->mask_ff, &s->row_mask[1], &r);
    finish(&call, 1, &attn, &h, out);
}
