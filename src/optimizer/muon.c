/* Muon (Jordan et al. 2024) for the matrices of blocks, and AdamW for all other parameters.
 *
 * The update of a matrix is the orthogonal factor of its momentum, so that all its directions move
 * alike. It is as long as sqrt(min(rows, columns)) whatever the gradient, which is then scaled by
 * train.muon_scale. Queries, keys and values, and the gates of a trellis, are matrices of their own
 * (struct param). Of a weight-normalised matrix it is v that Muon moves, while AdamW has g.
 *
 * Momentum is computed number by number, so that in sharded mode each rank has only its own parts
 * of it. The iteration wants whole matrices, and every rank computes it for all of them. What it
 * costs a step is 5 (4 s^2 l + 2 s^3) floating-point operations for a matrix of sides s <= l,
 * whatever the number of ranks. In sharded mode the momentum of matrices is then gathered in place
 * of their weights. */
#include "optimizer/optimizer.h"

#include <math.h>

static void update(const struct optimizer *o, const struct optimizer_piece *piece, double lr)
{
    optimizer_adamw.update(o, piece, lr);
}

/* The momentum takes the place of the gradient. */
static void prepare(const struct optimizer *o, const struct optimizer_piece *piece)
{
    const struct momentum p = {.g = piece->g,
                               .m = piece->state[0],
                               .norm2 = o->norm2,
                               .beta = o->train.momentum,
                               .clip = o->train.clip};
    op_momentum(o->params->be, &p);
}

/* The factor of an update [rows, columns]. */
static double scale_of(const struct config_train *train, int64_t rows, int64_t cols)
{
    double r = (double)rows, c = (double)cols;
    if (train->muon_scale == MUON_SCALE_RMS)
        return 0.2 * sqrt(fmax(r, c));
    return sqrt(fmax(1, r / c));
}

/* Matrix number `index` of a parameter. */
static void update_matrix(const struct optimizer *o, const struct param *q, int64_t index,
                          double lr)
{
    const struct params *p = o->params;
    int64_t first, rows = param_matrix_rows(q, index, &first), cols = q->dim[1];
    struct tensor w = tensor_slice(&p->w, q->offset + first * cols, rows * cols);
    struct tensor u = tensor_slice(&p->g, q->offset + first * cols, rows * cols);
    struct tensor x = tensor_shape(&u, 2, rows, cols, 1, 1);
    newton_schulz(&o->newton_schulz, p->be, &x);
    const struct descend d = {.w = w,
                              .u = u,
                              .norm2 = o->norm2,
                              .rate = lr * scale_of(&o->train, rows, cols),
                              .shrink = lr * o->train.weight_decay,
                              .cautious = o->train.cautious_decay};
    op_descend(p->be, &d);
}

static void update_matrices(const struct optimizer *o, double lr)
{
    const struct params *p = o->params;
    for (int i = 0; i < p->count; i++)
        for (int64_t k = 0; k < p->list[i].matrices; k++)
            update_matrix(o, &p->list[i], k, lr * o->group[GROUP_MATRICES].lr);
}

const struct optimizer_kind optimizer_muon = {.states = 2,
                                              .state_name = {"m", "v"},
                                              .update = update,
                                              .matrix_states = 1,
                                              .prepare = prepare,
                                              .update_matrices = update_matrices};
