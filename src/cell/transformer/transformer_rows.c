/* The block evaluated at some positions only: everything but attention works row by row, on the
 * chosen rows brought together; attention lets their queries see the keys and values of all. */
#include "cell/transformer/transformer_block_impl.h"

/* Part `i` of a buffer [N,3D], as n rows of D numbers. */
static struct tensor third_of(const struct tensor *t, int64_t i, int64_t n)
{
    int64_t d = t->dim[1] / 3;
    struct tensor parts = tensor_prefix(t, 3, 3, n, d, 1), part = tensor_slice(&parts, i, 1);
    return tensor_shape(&part, 2, n, d, 1, 1);
}

/* to <- a mask of the rows' sequences; NULL stays NULL. */
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
    struct tensor qkv = tensor_prefix(&s->dqkv, 2, n, 3 * d, 1, 1), u = {0};
    op_gather_rows(be, &zr, &zm, &list, 1.0);
    if (c->in->u.data != NULL) {
        op_gather_rows(be, &qkv, &um, &list, 1.0);
        u = qkv;
    }
    block_project(c, &u, &zr, &qkv);
    struct attention att = block_attention(c, z);
    struct tensor qkv_all = tensor_matrix(&att.qkv), attn_all = tensor_matrix(&att.out);
    op_scatter_rows(be, &qkv_all, &qkv, &list);
    att.rows = list;
    att.lse = (struct tensor){0};
    op_attention(be, &att);

    /* qkv has done its service: its place takes what is left */
    struct tensor attn = third_of(&s->dqkv, 0, n), out = third_of(&s->dqkv, 1, n);
    struct tensor third = third_of(&s->dqkv, 2, n);
    struct block_input own = {.masks = *masks, .sequence = sequence};
    struct block_call chosen = *c;
    chosen.in = &own;
    own.masks.attn_out = spread_mask(be, &masks->attn_out, &s->b, &sequence);
    own.masks.ff2 = spread_mask(be, &masks->ff2, &third, &sequence);
    op_gather_rows(be, &attn, &attn_all, &list, 1.0);
    block_finish(&chosen, 1, &attn, &zr, &out);
    op_scatter_rows(be, &fm, &out, &list);
}
