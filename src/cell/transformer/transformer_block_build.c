/* What a block keeps of an evaluation, and its scratch: sizes, and where they lie. */
#include "cell/transformer/transformer_block.h"

/* Whether tapes hold the hidden layer: if the plan wants it, or the backend cannot do without. */
static bool keeps_hidden(const struct backend *be, const struct block_plan *p)
{
    return p->vjp && (p->keep_hidden || p->tangents || be->ops->ffn_rows == 0);
}

enum status block_tape_create(struct block_tape *t, struct backend *be,
                              const struct block_shape *shape, const struct block_plan *p,
                              struct error *err)
{
    enum dtype real = be->ops->real;
    int64_t n = p->batch * p->length, d = shape->d_model;
    bool gain = shape->norm == NORM_RMS, keeps = keeps_hidden(be, p);
    *t = (struct block_tape){0};
    TRY(op_alloc(be, &t->qkv, real, 3, p->batch, p->length, 3 * d, 1, err));
    TRY(op_alloc(be, &t->attn, real, 3, p->batch, p->length, d, 1, err));
    TRY(op_alloc(be, &t->lse, real, 3, p->batch, shape->n_head, p->length, 1, err));
    TRY(op_alloc(be, &t->y, real, 2, n, d, 1, 1, err));
    TRY(op_alloc(be, &t->rstd1, real, 1, n, 1, 1, 1, err));
    if (keeps)
        TRY(op_alloc(be, &t->h, op_low_precision(be), 2, n, shape->d_inner, 1, 1, err));
    int64_t gates = op_relu_mask_width(be, shape->d_inner);
    if (p->vjp && gates > 0 && !(keeps && be->ops->ffn_rows > 0))
        TRY(op_alloc(be, &t->relu_mask, DTYPE_U8, 2, n, gates, 1, 1, err));
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
    struct tensor *all[] = {&t->qkv,   &t->attn,  &t->lse,     &t->norm_in,  &t->rstd_in,
                            &t->y,     &t->xhat1, &t->rstd1,   &t->mid,      &t->h,
                            &t->xhat2, &t->rstd2, &t->xhat_in, &t->relu_mask};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
}

/* Rows of a hidden layer that exist at once, whole sequences: as many as keep the backend busy, or
 * as have room where gradients [N,D] lie later. */
static int64_t ffn_rows(const struct backend *be, const struct block_shape *shape,
                        const struct block_plan *p)
{
    int64_t n = p->batch * p->length, l = p->length, wanted = be->ops->ffn_rows;
    int64_t room = p->vjp ? n * shape->d_model / shape->d_inner : 0;
    if (wanted == 0 || p->tangents)
        return n;
    int64_t rows = (wanted + l - 1) / l * l;
    if (rows < room / l * l)
        rows = room / l * l;
    return rows < n ? rows : n;
}

/* Numbers of real type that hold a hidden layer's rows and, for vjps, [N,D]. */
static int64_t work_numbers(const struct backend *be, const struct block_shape *shape,
                            const struct block_plan *p, int64_t rows)
{
    size_t real = dtype_size(be->ops->real), narrow = dtype_size(op_low_precision(be));
    int64_t layer = (int64_t)(((size_t)(rows * shape->d_inner) * narrow + real - 1) / real);
    int64_t gradient = p->vjp ? p->batch * p->length * shape->d_model : 0;
    return layer > gradient ? layer : gradient;
}

enum status block_scratch_create(struct block_scratch *s, struct backend *be,
                                 const struct block_shape *shape, const struct block_plan *p,
                                 struct idle *idle, struct error *err)
{
    enum dtype real = be->ops->real;
    int64_t n = p->batch * p->length, d = shape->d_model, inner = shape->d_inner;
    *s = (struct block_scratch){.rows = ffn_rows(be, shape, p)};
    TRY(op_alloc(be, &s->work, real, 1, work_numbers(be, shape, p, s->rows), 1, 1, 1, err));
    if (p->rows || (p->vjp && !p->dqkv_lent))
        TRY(op_alloc(be, &s->dqkv, real, 2, n, 3 * d, 1, 1, err));
    s->owns_dqkv = s->dqkv.data != NULL;
    if (p->rows)
        TRY(op_alloc(be, &s->row_z, real, 2, n, d, 1, 1, err));
    if (p->rows && p->masked)
        TRY(op_alloc(be, &s->row_mask, real, 2, s->rows, inner, 1, 1, err));
    if (!p->vjp)
        return STATUS_OK;
    if (p->masked)
        TRY(op_alloc(be, &s->b, real, 2, n, d, 1, 1, err));
    if (!p->train || keeps_hidden(be, p))
        return STATUS_OK;
    s->again = tensor_make(NULL, op_low_precision(be), 2, s->rows, inner, 1, 1);
    s->again_lent = idle_take(idle, &s->again, false);
    return s->again_lent
               ? STATUS_OK
               : op_alloc(be, &s->again, op_low_precision(be), 2, s->rows, inner, 1, 1, err);
}

void block_scratch_free(struct block_scratch *s, struct backend *be)
{
    struct tensor *all[] = {&s->work, &s->b, &s->row_z, &s->row_mask};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        op_release(be, all[i]);
    if (s->owns_dqkv)
        op_release(be, &s->dqkv);
    if (!s->again_lent)
        op_release(be, &s->again);
}

struct tensor block_work(const struct block_scratch *s, enum dtype dtype, int64_t rows,
                         int64_t width)
{
    struct tensor t = tensor_make(s->work.data, dtype, 2, rows, width, 1, 1);
    assert(tensor_bytes(&t) <= tensor_bytes(&s->work));
    return t;
}
