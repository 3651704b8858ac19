#include "train/optimizer.h"

#include "base/mem.h"
#include <math.h>

static const double CLIP_EPS = 1e-6; /* as in struct adam */

bool optimizer_piece(const struct optimizer *o, int64_t index, struct dist_part *piece, int64_t *at)
{
    const struct dist *d = o->sharded ? o->dist : NULL; /* NULL: all in one piece */
    int64_t total = o->params->total;
    if (index >= dist_buckets(d, total))
        return false;
    /* all buckets but the last are alike */
    *piece = dist_part(d, total, index, dist_rank(d));
    *at = index * dist_part(d, total, 0, dist_rank(d)).count;
    return true;
}

/* Numbers in all pieces. */
static int64_t held(const struct optimizer *o)
{
    struct dist_part piece;
    int64_t at, sum = 0;
    for (int64_t i = 0; optimizer_piece(o, i, &piece, &at); i++)
        sum = at + piece.count;
    return sum;
}

enum status optimizer_create(struct optimizer *o, struct params *params,
                             const struct config_train *train, struct dist *dist, struct error *err)
{
    struct backend *be = params->be;
    *o = (struct optimizer){
        .params = params,
        .dist = dist,
        .sharded = train->zero && dist_size(dist) > 1,
        .decoupled_decay = train->optimizer == OPTIMIZER_ADAMW,
        .beta1 = train->beta1,
        .beta2 = train->beta2,
        .eps = train->eps,
        .decay = train->weight_decay,
        .clip = train->clip,
    };
    TRY(mem_alloc((void **)&o->norms, (size_t)dist_size(dist), sizeof *o->norms, err));
    enum memory_part before = op_part(be, PART_OPTIMIZER);
    TRY(op_alloc(be, &o->m, be->ops->real, 1, held(o), 1, 1, 1, err));
    TRY(op_alloc(be, &o->v, be->ops->real, 1, held(o), 1, 1, 1, err));
    op_part(be, before);
    return op_alloc(be, &o->norm2, DTYPE_F64, 1, 1, 1, 1, 1, err);
}

void optimizer_free(struct optimizer *o)
{
    if (o->params == NULL)
        return;
    struct backend *be = o->params->be;
    op_release(be, &o->m);
    op_release(be, &o->v);
    op_release(be, &o->norm2);
    mem_free(o->norms);
    *o = (struct optimizer){0};
}

/* Whether decay pulls the parameter towards zero: matrices, not biases, gains and norms. */
static bool decays(const struct optimizer *o, const struct param *q)
{
    return o->decay > 0 && q->ndim == 2;
}

/* The arguments cut to numbers [first, first + count) of the flat arrays, whose moments lie at
 * `at`. */
static struct adam cut(const struct adam *all, int64_t first, int64_t count, int64_t at)
{
    struct adam one = *all;
    one.w = tensor_slice(&all->w, first, count);
    one.g = tensor_slice(&all->g, first, count);
    one.m = tensor_slice(&all->m, at, count);
    one.v = tensor_slice(&all->v, at, count);
    return one;
}

/* AdamW: the piece parameter by parameter, since only some decay. */
static void step_decoupled(const struct optimizer *o, const struct adam *all,
                           const struct dist_part *piece, int64_t at)
{
    const struct params *p = o->params;
    int64_t end = piece->first + piece->count;
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        int64_t from = q->offset, to = q->offset + param_count(q);
        from = from > piece->first ? from : piece->first;
        to = to < end ? to : end;
        if (from >= to)
            continue;
        struct adam one = cut(all, from, to - from, at + from - piece->first);
        one.decay = decays(o, q) ? o->decay : 0;
        op_adam(p->be, &one);
    }
}

/* Plain Adam: the decay is a term of the (clipped) gradient. */
static void add_decay(const struct optimizer *o, struct adam *all, double norm)
{
    const struct params *p = o->params;
    double scale = o->clip == 0 ? 1 : fmin(1, o->clip / (norm + CLIP_EPS));
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        struct tensor g = tensor_slice(&all->g, q->offset, param_count(q));
        struct tensor w = tensor_slice(&all->w, q->offset, param_count(q));
        op_axpby(p->be, &g, decays(o, q) ? o->decay : 0, &w, scale);
    }
    all->clip = 0;
}

/* The squared norm of the whole gradient, on the host and in o->norm2: sums over the own parts of
 * each rank, added in the order of ranks. */
static double squared_norm(struct optimizer *o)
{
    struct params *p = o->params;
    double own = 0, sum = 0;
    op_fill(p->be, &o->norm2, 0);
    for (int64_t b = 0; b < dist_buckets(o->dist, p->total); b++) {
        struct dist_part part = dist_part(o->dist, p->total, b, dist_rank(o->dist));
        struct tensor g = tensor_slice(&p->g, part.first, part.count);
        if (part.count > 0)
            op_sum_squares(p->be, &o->norm2, &g);
    }
    op_download(p->be, &own, DTYPE_F64, &o->norm2);
    if (dist_size(o->dist) == 1)
        return own;
    dist_gather_all(o->dist, &own, sizeof own, o->norms);
    for (int r = 0; r < dist_size(o->dist); r++)
        sum += o->norms[r];
    op_upload(p->be, &o->norm2, &sum, DTYPE_F64);
    return sum;
}

static void update_weights(struct optimizer *o, const struct adam *all)
{
    struct dist_part piece;
    int64_t at;
    for (int64_t i = 0; optimizer_piece(o, i, &piece, &at); i++) {
        struct adam one = cut(all, piece.first, piece.count, at);
        if (piece.count > 0 && o->decay > 0 && o->decoupled_decay)
            step_decoupled(o, all, &piece, at);
        else if (piece.count > 0)
            op_adam(o->params->be, &one);
    }
}

void optimizer_step(struct optimizer *o, double lr, double *norm)
{
    struct params *p = o->params;
    double norm2 = squared_norm(o);
    *norm = sqrt(norm2);
    if (!isfinite(norm2))
        return;
    o->updates++;
    struct adam all = {.w = p->w,
                       .g = p->g,
                       .m = o->m,
                       .v = o->v,
                       .norm2 = o->norm2,
                       .lr = lr,
                       .beta1 = o->beta1,
                       .beta2 = o->beta2,
                       .eps = o->eps,
                       .clip = o->clip,
                       .step = o->updates};
    if (!o->sharded)
        dist_share(o->dist, &p->g);
    if (o->decay > 0 && !o->decoupled_decay)
        add_decay(o, &all, *norm); /* reads the weights: before aliases are split */
    params_split_aliases(p);
    update_weights(o, &all);
    if (o->sharded)
        dist_share(o->dist, &p->w);
    params_join_aliases(p);
}
