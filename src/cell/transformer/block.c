/* Sizes and lives of the buffers of a transformer block. */
#include "cell/transformer/transformer_block.h"

/* Whether slots hold the hidden layer, because the plan wants it or the backend needs it. */
static bool keeps_hidden(const struct cell_plan *p)
{
    return p->mode >= CELL_VJP &&
           (p->keep_hidden || p->mode >= CELL_TANGENT || p->ws->be->ops->ffn_rows == 0);
}

void block_activations_declare(struct block_activations *s, const struct cell_plan *p,
                               const struct block_shape *shape, const char *of,
                               struct lifetime life)
{
    const struct backend *be = p->ws->be;
    enum dtype real = be->ops->real, low = op_low_precision(be);
    int64_t b = p->batch, l = p->length, n = b * l, d = shape->d_model, inner = shape->d_inner;
    int64_t bits = op_relu_mask_width(be, inner);
    bool gain = shape->norm == NORM_RMS, pre = shape->pre_norm, keeps = keeps_hidden(p);
    bool masks = p->mode >= CELL_VJP && bits > 0 && !(keeps && be->ops->ffn_rows > 0);
    const struct cell_wish all[CELL_WISHES] = {
        {true, &s->qkv, "qkv", real, 3, {b, l, 3 * d}},
        {true, &s->attn, "attention", real, 3, {b, l, d}},
        {true, &s->lse, "attention's log-sums", real, 3, {b, shape->n_head, l}},
        {true, &s->y, "attention half", real, 2, {n, d}},
        {true, &s->rstd1, "1 / deviation", real, 1, {n}},
        {keeps, &s->h, "hidden layer", low, 2, {n, inner}},
        {masks, &s->relu_mask, "rectifier's bits", DTYPE_U8, 2, {n, bits}},
        {gain, &s->xhat1, "normalised", real, 2, {n, d}},
        {pre, &s->norm_in, "input's norm", real, 2, {n, d}},
        {pre, &s->rstd_in, "input's 1 / deviation", real, 1, {n}},
        {pre, &s->mid, "norm in the middle", real, 2, {n, d}},
        {pre && gain, &s->xhat_in, "input normalised", real, 2, {n, d}},
        {!pre, &s->rstd2, "output's 1 / deviation", real, 1, {n}},
        {!pre && gain, &s->xhat2, "output normalised", real, 2, {n, d}},
    };
    *s = (struct block_activations){0};
    cell_declare(p, all, of, life, PART_ACTIVATIONS);
}

/* Rows of a hidden layer that exist at once, in whole sequences. They are as many as keep the
 * backend busy, or as fit where a vjp needs [N,D] later. */
static int64_t rows_at_once(const struct cell_plan *p, const struct block_shape *shape)
{
    int64_t n = p->batch * p->length, l = p->length, wanted = p->ws->be->ops->ffn_rows;
    int64_t fit = p->mode >= CELL_VJP ? n * shape->d_model / shape->d_inner : 0;
    if (wanted == 0 || p->mode >= CELL_TANGENT)
        return n;
    int64_t rows = (wanted + l - 1) / l * l;
    if (rows < fit / l * l)
        rows = fit / l * l;
    return rows < n ? rows : n;
}

static size_t aligned(size_t bytes)
{
    return (bytes + WORKSPACE_ALIGN - 1) / WORKSPACE_ALIGN * WORKSPACE_ALIGN;
}

/* Numbers of real type in a vjp's scratch, see struct block_scratch. */
static int64_t vjp_numbers(const struct cell_plan *p, const struct block_shape *shape, int64_t rows)
{
    const struct backend *be = p->ws->be;
    size_t real = dtype_size(be->ops->real), low = dtype_size(op_low_precision(be));
    size_t state = (size_t)(p->batch * p->length * shape->d_model) * real;
    size_t first = aligned((size_t)(rows * shape->d_inner) * low) + (shape->pre_norm ? state : 0);
    size_t then = aligned(state) + 3 * state;
    return (int64_t)(((first > then ? first : then) + real - 1) / real);
}

void block_scratch_declare(struct block_scratch *s, const struct cell_plan *p,
                           const struct block_shape *shape)
{
    const struct backend *be = p->ws->be;
    enum dtype real = be->ops->real, low = op_low_precision(be);
    int64_t n = p->batch * p->length, d = shape->d_model, inner = shape->d_inner;
    int64_t rows = rows_at_once(p, shape);
    bool vjp = p->mode >= CELL_VJP, keeps = keeps_hidden(p);
    bool masked = p->mode >= CELL_TRAIN && shape->dropout > 0;
    *s = (struct block_scratch){.rows = rows};
    const struct cell_wish eval[CELL_WISHES] = {
        {!keeps, &s->work, "hidden layer", low, 2, {rows, inner}},
        {p->rows, &s->row_z, "some rows: z", real, 2, {n, d}},
        {p->rows, &s->row_qkv, "some rows: qkv", real, 2, {n, 3 * d}},
        {p->rows && masked, &s->row_b, "some rows: mask", real, 2, {n, d}},
        {p->rows && masked, &s->row_mask, "some rows: hidden mask", real, 2, {rows, inner}},
    };
    const struct cell_wish back[CELL_WISHES] = {
        {vjp, &s->vjp_work, "gradients", real, 1, {vjp_numbers(p, shape, rows)}},
        {vjp && masked, &s->b, "gradient under a mask", real, 2, {n, d}},
    };
    const struct cell_wish full[CELL_WISHES] = {
        {p->mode >= CELL_TRAIN && !keeps, &s->again, "hidden layer again", low, 2, {rows, inner}},
    };
    cell_declare(p, eval, "evaluation", lives(PHASE_FORWARD, p->last_eval), PART_WORK);
    cell_declare(p, back, "vjp", cell_vjp_life(p), PART_WORK);
    cell_declare(p, full, "vjp", lives(PHASE_GRADIENTS, PHASE_GRADIENTS), PART_WORK);
}

void block_tangent_declare(struct block_tangent *t, const struct cell_plan *p,
                           const struct block_shape *shape, const char *of)
{
    enum dtype real = p->ws->be->ops->real, low = op_low_precision(p->ws->be);
    int64_t b = p->batch, l = p->length, n = b * l, d = shape->d_model;
    const struct cell_wish all[CELL_WISHES] = {
        {true, &t->qkv_t, "derivative of qkv", real, 3, {b, l, 3 * d}},
        {true, &t->attn_t, "derivative of attention", real, 3, {b, l, d}},
        {true, &t->s1_t, "derivative of the first sum", real, 2, {n, d}},
        {true, &t->mid_t, "derivative in the middle", real, 2, {n, d}},
        {true, &t->h_t, "derivative of the hidden layer", low, 2, {n, shape->d_inner}},
        {shape->pre_norm, &t->norm_in_t, "derivative of the input's norm", real, 2, {n, d}},
        {!shape->pre_norm, &t->s2_t, "derivative of the second sum", real, 2, {n, d}},
    };
    *t = (struct block_tangent){0};
    cell_declare(p, all, of, lives(PHASE_GRADIENTS, PHASE_GRADIENTS), PART_WORK);
}

void tangent_scratch_declare(struct tangent_scratch *s, const struct cell_plan *p,
                             const struct block_shape *shape)
{
    enum dtype real = p->ws->be->ops->real, low = op_low_precision(p->ws->be);
    int64_t n = p->batch * p->length, d = shape->d_model;
    const struct cell_wish all[CELL_WISHES] = {
        {true, &s->dy, "dy", real, 2, {n, d}},
        {true, &s->dattn, "dattn", real, 2, {n, d}},
        {true, &s->dy_t, "derivative of dy", real, 2, {n, d}},
        {true, &s->da_t, "derivative of da", real, 2, {n, d}},
        {true, &s->dattn_t, "derivative of dattn", real, 2, {n, d}},
        {true, &s->dqkv_t, "derivative of dqkv", real, 2, {n, 3 * d}},
        {true, &s->dh_t, "derivative of dh", low, 2, {n, shape->d_inner}},
    };
    cell_declare(p, all, "second derivatives", lives(PHASE_GRADIENTS, PHASE_GRADIENTS), PART_WORK);
}

struct tensor block_work(const struct tensor *scratch, enum dtype dtype, int64_t rows,
                         int64_t width)
{
    struct tensor t = tensor_make(scratch->data, dtype, 2, rows, width, 1, 1);
    assert(tensor_bytes(&t) <= tensor_bytes(scratch));
    return t;
}

struct tensor block_dqkv(const struct block_scratch *s, int64_t n, int64_t d)
{
    struct tensor dattn = block_work(&s->vjp_work, s->vjp_work.dtype, n, d), dqkv = dattn;
    dqkv.data = (char *)dattn.data + aligned(tensor_bytes(&dattn));
    dqkv.dim[1] = 3 * d;
    return dqkv;
}

struct tensor block_dinput(const struct block_scratch *s, enum dtype low, int64_t inner, int64_t n,
                           int64_t d)
{
    struct tensor hidden = block_work(&s->vjp_work, low, s->rows, inner);
    struct tensor t = block_work(&s->vjp_work, s->vjp_work.dtype, n, d);
    t.data = (char *)hidden.data + aligned(tensor_bytes(&hidden));
    return t;
}
