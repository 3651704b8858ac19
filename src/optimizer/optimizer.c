#include "optimizer/optimizer.h"

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

/* Decay pulls matrices towards zero, not biases, gains and norms. */
static bool decays(const struct param *q)
{
    return q->ndim == 2;
}

static void mark_decaying(struct optimizer *o)
{
    const struct params *p = o->params;
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        assert(q->offset % ADAM_BLOCK == 0);
        struct tensor blocks = tensor_slice(&o->decays, q->offset / ADAM_BLOCK,
                                            (param_count(q) + ADAM_BLOCK - 1) / ADAM_BLOCK);
        if (decays(q))
            op_fill(p->be, &blocks, 1);
    }
}

static enum status plan_tensors(struct optimizer *o, struct error *err)
{
    int64_t blocks = (o->params->total + ADAM_BLOCK - 1) / ADAM_BLOCK;
    struct buffer b = {.name = "first moments",
                       .dtype = o->params->be->ops->real,
                       .ndim = 1,
                       .dim = {held(o)},
                       .life = lives_always(),
                       .part = PART_OPTIMIZER};
    TRY(workspace_create(&o->ws, o->params->be, err));
    workspace_declare(o->ws, &o->m, &b);
    b.name = "second moments";
    workspace_declare(o->ws, &o->v, &b);
    b.name = "blocks that decay";
    b.dtype = DTYPE_U8;
    b.dim[0] = blocks;
    if (o->decay > 0)
        workspace_declare(o->ws, &o->decays, &b);
    b.name = "squared norm of the gradient";
    b.dtype = DTYPE_F64;
    b.dim[0] = 1;
    workspace_declare(o->ws, &o->norm2, &b);
    TRY(workspace_commit(o->ws, err));
    if (o->decay > 0)
        mark_decaying(o);
    return STATUS_OK;
}

enum status optimizer_create(struct optimizer *o, struct params *params,
                             const struct config_train *train, struct dist *dist, struct error *err)
{
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
    return plan_tensors(o, err);
}

void optimizer_free(struct optimizer *o)
{
    if (o->params == NULL)
        return;
    workspace_free(o->ws);
    mem_free(o->norms);
    *o = (struct optimizer){0};
}

/* Coupled decay of an aliased parameter: a term of its gradient beforehand, since the update starts
 * from zero for it (params_split_aliases) and finds nothing to decay. */
static void add_alias_decay(const struct optimizer *o, double norm)
{
    const struct params *p = o->params;
    double scale = o->clip == 0 ? 1 : fmin(1, o->clip / (norm + CLIP_EPS));
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        if (q->alias_of < 0 || !decays(q))
            continue;
        struct tensor g = tensor_slice(&p->g, q->offset, param_count(q));
        struct tensor w = tensor_slice(&p->w, q->offset, param_count(q));
        op_axpby(p->be, &g, o->decay / scale, &w, 1);
    }
}

static bool has_aliases(const struct params *p)
{
    for (int i = 0; i < p->count; i++)
        if (p->list[i].alias_of >= 0)
            return true;
    return false;
}

static double read_norm(const struct optimizer *o)
{
    double norm2 = 0;
    op_download(o->params->be, &norm2, DTYPE_F64, &o->norm2);
    return sqrt(norm2);
}

/* The squared norm of the whole gradient, in o->norm2: sums over the own parts of each rank, added
 * in the order of ranks. */
static void sum_squares(struct optimizer *o)
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
    if (dist_size(o->dist) == 1)
        return;
    op_download(p->be, &own, DTYPE_F64, &o->norm2);
    dist_gather_all(o->dist, &own, sizeof own, o->norms);
    for (int r = 0; r < dist_size(o->dist); r++)
        sum += o->norms[r];
    op_upload(p->be, &o->norm2, &sum, DTYPE_F64);
}

/* The arguments cut to one piece of the flat arrays, whose moments lie at `at`. */
static struct adam cut(const struct adam *all, const struct dist_part *piece, int64_t at)
{
    struct adam one = *all;
    one.w = tensor_slice(&all->w, piece->first, piece->count);
    one.g = tensor_slice(&all->g, piece->first, piece->count);
    one.m = tensor_slice(&all->m, at, piece->count);
    one.v = tensor_slice(&all->v, at, piece->count);
    assert(piece->first % ADAM_BLOCK == 0);
    if (all->decays.data != NULL)
        one.decays = tensor_slice(&all->decays, piece->first / ADAM_BLOCK,
                                  (piece->count + ADAM_BLOCK - 1) / ADAM_BLOCK);
    return one;
}

static void update_weights(struct optimizer *o, double lr)
{
    const struct params *p = o->params;
    const struct adam all = {.w = p->w,
                             .g = p->g,
                             .m = o->m,
                             .v = o->v,
                             .norm2 = o->norm2,
                             .lr = lr,
                             .beta1 = o->beta1,
                             .beta2 = o->beta2,
                             .eps = o->eps,
                             .decay = o->decay,
                             .clip = o->clip,
                             .step = o->updates + 1,
                             .decays = o->decays,
                             .coupled = !o->decoupled_decay};
    struct dist_part piece;
    int64_t at;
    for (int64_t i = 0; optimizer_piece(o, i, &piece, &at); i++) {
        struct adam one = cut(&all, &piece, at);
        if (piece.count > 0)
            op_adam(p->be, &one);
    }
}

void optimizer_step(struct optimizer *o, double lr, double *norm)
{
    struct params *p = o->params;
    sum_squares(o);
    if (!o->sharded)
        dist_share(o->dist, &p->g);
    if (o->decay > 0 && !o->decoupled_decay && has_aliases(p)) {
        *norm = read_norm(o);
        if (isfinite(*norm))
            add_alias_decay(o, *norm);
    }
    params_split_aliases(p);
    update_weights(o, lr);
    if (o->sharded)
        dist_share(o->dist, &p->w);
    params_join_aliases(p);
    *norm = read_norm(o);
    if (isfinite(*norm))
        o->updates++;
}
