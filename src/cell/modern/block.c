/* Sizes and lives of the buffers of a modern block. */
#include "cell/modern/modern_block.h"

void modern_activations_declare(struct modern_activations *s, const struct cell_plan *p,
                                const struct modern_shape *shape, enum modern_entry entry,
                                const char *of, struct lifetime life)
{
    enum dtype real = p->ws->be->ops->real;
    int64_t b = p->batch, l = p->length, n = b * l, d = shape->d_model;
    bool opens = shape->place != NORM_PLACE_POST, closes = shape->place != NORM_PLACE_PRE;
    bool joins = entry == ENTRY_ADD || entry == ENTRY_LINEAR;
    const struct cell_wish all[CELL_WISHES] = {
        {opens || joins, &s->n1, "input", real, 2, {n, d}},
        {opens, &s->rstd1, "input's 1 / deviation", real, 1, {n}},
        {true, &s->x, "projection", real, 2, {n, shape->wide}},
        {true, &s->qkv, "qkv", real, 3, {b, l, 3 * shape->attn}},
        {true, &s->attn, "attention", real, 3, {b, l, shape->attn}},
        {true, &s->lse, "attention's log-sums", real, 3, {b, shape->heads, l}},
        {closes, &s->y, "attention half", real, 2, {n, d}},
        {closes, &s->rstd_y, "its 1 / deviation", real, 1, {n}},
        {opens, &s->n2, "norm in the middle", real, 2, {n, d}},
        {opens, &s->rstd2, "1 / deviation", real, 1, {n}},
        {p->mode >= CELL_VJP, &s->up, "hidden layer", real, 2, {n, shape->up}},
        {closes, &s->rstd_out, "output's 1 / deviation", real, 1, {n}},
    };
    *s = (struct modern_activations){0};
    cell_declare(p, all, of, life, PART_ACTIVATIONS);
}

/* Rows of a feed-forward network that are worked through at once. They keep the backend busy. */
static int64_t rows_at_once(const struct cell_plan *p)
{
    int64_t n = p->batch * p->length, wanted = p->ws->be->ops->ffn_rows;
    return wanted > 0 && wanted < n ? wanted : n;
}

/* Numbers of real type that hold what a vjp of the feed-forward network needs. */
static int64_t feed_forward_numbers(const struct modern_shape *s, int64_t rows)
{
    return rows * (s->inner + s->up);
}

void modern_scratch_declare(struct modern_scratch *s, const struct cell_plan *p,
                            const struct modern_shape *shape, const struct modern_lives *lives)
{
    const struct backend *be = p->ws->be;
    enum dtype real = be->ops->real, low = op_low_precision(be);
    int64_t n = p->batch * p->length, d = shape->d_model, a = shape->attn, x = shape->wide;
    int64_t rows = rows_at_once(p), ff = feed_forward_numbers(shape, rows);
    bool vjp = p->mode >= CELL_VJP, masked = p->mode >= CELL_TRAIN && shape->dropout > 0;
    bool pre = shape->place == NORM_PLACE_PRE;
    *s = (struct modern_scratch){.rows = rows};
    const struct cell_wish eval[CELL_WISHES] = {
        {true, &s->h, "input", real, 2, {n, d}},
        {pre, &s->y, "attention half", real, 2, {n, d}},
        {!vjp, &s->up, "hidden layer", real, 2, {rows, shape->up}},
        {p->rows, &s->row_z, "some rows: z", real, 2, {n, d}},
        {p->rows, &s->row_u, "some rows: injection", real, 2, {n, x > d ? x : d}},
        {p->rows, &s->row_qkv, "some rows: qkv", real, 2, {n, 3 * a}},
        {p->rows && masked, &s->row_mask[0], "some rows: mask", real, 2, {n, d}},
        {p->rows && masked, &s->row_mask[1], "some rows: second mask", real, 2, {n, d}},
    };
    /* The hidden layer is made again for the gradients of full vjps. */
    struct lifetime hidden = lives->eval;
    if (vjp && lives->full.last > hidden.last)
        hidden.last = lives->full.last;
    const struct cell_wish layer[CELL_WISHES] = {
        {true, &s->hidden, "activation", low, 2, {rows, shape->inner}}};
    const struct cell_wish back[CELL_WISHES] = {
        {vjp, &s->narrow, "gradient of heads", real, 1, {n * (x > a ? x : a)}},
        {vjp, &s->wide, "gradients", real, 1, {3 * n * a > ff ? 3 * n * a : ff}},
        {vjp, &s->dn, "gradient of a norm", real, 2, {n, d}},
        {vjp && masked, &s->da, "gradient under a mask", real, 2, {n, d}},
    };
    cell_declare(p, eval, "evaluation", lives->eval, PART_WORK);
    cell_declare(p, layer, "evaluation", hidden, PART_WORK);
    cell_declare(p, back, "vjp", lives->vjp, PART_WORK);
}

void modern_tangent_declare(struct modern_tangent *t, const struct cell_plan *p,
                            const struct modern_shape *shape)
{
    enum dtype real = p->ws->be->ops->real;
    int64_t n = p->batch * p->length, d = shape->d_model;
    const struct cell_wish all[CELL_WISHES] = {
        {true, &t->h_t, "derivative of the input", real, 2, {n, d}},
        {true, &t->n1_t, "derivative of its norm", real, 2, {n, d}},
        {true, &t->x_t, "derivative of the projection", real, 2, {n, shape->wide}},
        {true, &t->qkv_t, "derivative of qkv", real, 2, {n, 3 * shape->attn}},
        {true, &t->attn_t, "derivative of attention", real, 2, {n, shape->attn}},
        {true, &t->s1_t, "derivative of the first sum", real, 2, {n, d}},
        {true, &t->y_t, "derivative of the first half", real, 2, {n, d}},
        {true, &t->n2_t, "derivative in the middle", real, 2, {n, d}},
        {true, &t->s2_t, "derivative of the second sum", real, 2, {n, d}},
        {true, &t->up_t, "derivative of the hidden layer", real, 2, {n, shape->up}},
        {true, &t->out_t, "derivative of the output", real, 2, {n, d}},
    };
    *t = (struct modern_tangent){0};
    cell_declare(p, all, "block", lives(PHASE_GRADIENTS, PHASE_GRADIENTS), PART_WORK);
}

void modern_tangent_scratch_declare(struct modern_tangent_scratch *t, const struct cell_plan *p,
                                    const struct modern_shape *shape)
{
    enum dtype real = p->ws->be->ops->real, low = op_low_precision(p->ws->be);
    int64_t n = p->batch * p->length, d = shape->d_model, i = shape->inner, u = shape->up;
    int64_t a = shape->attn, x = shape->wide;
    struct lifetime life = lives(PHASE_GRADIENTS, PHASE_GRADIENTS);
    const struct cell_wish all[CELL_WISHES] = {
        {true, &t->hidden, "activation", low, 2, {n, i}},
        {true, &t->hidden_t, "derivative of it", low, 2, {n, i}},
        {true, &t->dhidden, "its gradient", real, 2, {n, i}},
        {true, &t->dhidden_t, "derivative of that", real, 2, {n, i}},
        {true, &t->dup, "gradient of the hidden layer", low, 2, {n, u}},
        {true, &t->dup_t, "derivative of that", low, 2, {n, u}},
        {true, &t->dattn, "dattn", real, 2, {n, a}},
        {true, &t->dattn_t, "derivative of dattn", real, 2, {n, a}},
        {true, &t->dqkv, "dqkv", real, 2, {n, 3 * a}},
        {true, &t->dqkv_t, "derivative of dqkv", real, 2, {n, 3 * a}},
        {true, &t->dx, "gradient of the projection", real, 2, {n, x}},
        {true, &t->dx_t, "derivative of that", real, 2, {n, x}},
    };
    cell_declare(p, all, "second derivatives", life, PART_WORK);
    for (int k = 0; k < 3; k++) {
        const struct cell_wish pair[CELL_WISHES] = {
            {true, &t->d[k], "gradient", real, 2, {n, d}},
            {true, &t->t[k], "its derivative", real, 2, {n, d}},
        };
        cell_declare(p, pair, "second derivatives", life, PART_WORK);
    }
}
