/* What all optimizers have in common, from the global norm to aliased parameters. */
#include "optimizer/optimizer.h"

#include "base/mem.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const double CLIP_EPS = 1e-6; /* as in struct adam */

const struct optimizer_kind *optimizer_kind_of(const struct config_train *train)
{
    static const struct optimizer_kind *const kinds[] = {
#define X(NAME, name) [OPTIMIZER_##NAME] = &optimizer_##name,
        OPTIMIZER_LIST(X)
#undef X
    };
    return kinds[train->optimizer];
}

int64_t optimizer_state_end(const struct optimizer_kind *kind, const struct params *params, int i)
{
    bool all = kind->update_matrices == NULL || i < kind->matrix_states;
    return all ? params->total : params->matrices;
}

static int64_t at_most(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

bool optimizer_part(const struct optimizer *o, int64_t index, int64_t end, struct dist_part *part,
                    int64_t *at)
{
    const struct dist *d = o->sharded ? o->dist : NULL; /* a NULL group owns all in one piece */
    int64_t total = o->params->total;
    if (index >= dist_buckets(d, total))
        return false;
    *part = dist_part(d, total, index, dist_rank(d));
    part->count = part->first < end ? at_most(part->count, end - part->first) : 0;
    *at = index * dist_part(d, total, 0, dist_rank(d)).count; /* only the last may be smaller */
    return true;
}

/* Numbers of a state that this rank holds. */
static int64_t count_held(const struct optimizer *o, int64_t end)
{
    struct dist_part part;
    int64_t at, sum = 0;
    for (int64_t i = 0; optimizer_part(o, i, end, &part, &at); i++)
        sum = part.count > 0 ? at + part.count : sum;
    return sum;
}

/* Weight decay is for matrices, not for biases, gains and norms. */
static bool decays(const struct param *q)
{
    return q->ndim == 2;
}

static enum optimizer_group group_of(const struct param *q)
{
    if (!decays(q))
        return GROUP_VECTORS;
    if (strcmp(q->part, "embedding") == 0)
        return GROUP_EMBEDDING;
    return q->matrices > 0 ? GROUP_MATRICES : GROUP_OTHERS;
}

/* The rate of a group as a factor of train.lr, whose course it follows. */
static double rate_ratio(const struct config_train *train, double lr)
{
    return lr == 0 ? 1 : lr / train->lr;
}

static const double MUON_LR = 0.02; /* as published, for the scale of the same authors */

static void set_groups(struct optimizer *o)
{
    const struct config_train *t = &o->train;
    double matrices = t->lr_matrices;
    if (matrices == 0 && o->kind->update_matrices != NULL && t->muon_scale == MUON_SCALE_SHAPE)
        matrices = MUON_LR;
    for (int i = 0; i < ADAM_GROUPS; i++)
        o->group[i] = (struct adam_group){1, t->beta2, t->weight_decay};
    o->group[GROUP_VECTORS].decay = 0;
    o->group[GROUP_EMBEDDING].lr = rate_ratio(t, t->lr_embedding);
    if (t->beta2_embedding > 0)
        o->group[GROUP_EMBEDDING].beta2 = t->beta2_embedding;
    o->group[GROUP_MATRICES].lr = rate_ratio(t, matrices);
}

static bool has_groups(const struct optimizer *o)
{
    const struct adam_group *first = &o->group[0];
    for (int i = 1; i < ADAM_GROUPS; i++) {
        const struct adam_group *g = &o->group[i];
        if (g->lr != first->lr || g->beta2 != first->beta2 || g->decay != first->decay)
            return true;
    }
    return false;
}

static void mark_groups(struct optimizer *o)
{
    const struct params *p = o->params;
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        assert(q->offset % ADAM_BLOCK == 0);
        struct tensor blocks = tensor_slice(&o->groups, q->offset / ADAM_BLOCK,
                                            (param_count(q) + ADAM_BLOCK - 1) / ADAM_BLOCK);
        op_fill(p->be, &blocks, group_of(q));
    }
}

/* Scratch for the largest of the matrices. */
static void plan_matrices(struct optimizer *o)
{
    int64_t largest = 0, side = 0;
    for (int i = 0; i < o->params->count; i++) {
        const struct param *q = &o->params->list[i];
        for (int64_t k = 0; k < q->matrices; k++) {
            int64_t first, rows = param_matrix_rows(q, k, &first), cols = q->dim[1];
            largest = rows * cols > largest ? rows * cols : largest;
            side = at_most(rows, cols) > side ? at_most(rows, cols) : side;
        }
    }
    newton_schulz_declare(&o->newton_schulz, o->ws, largest, side);
}

/* Declares the optimizer's tensors, which last from step to step, and allocates them. */
static enum status plan_tensors(struct optimizer *o, struct error *err)
{
    const struct params *p = o->params;
    struct buffer b = {
        .dtype = p->be->ops->real, .ndim = 1, .life = lives_always(), .part = PART_OPTIMIZER};
    TRY(workspace_create(&o->ws, p->be, err));
    for (int i = 0; i < o->kind->states; i++) {
        char name[BUFFER_NAME_MAX];
        snprintf(name, sizeof name, "optimizer state %s", o->kind->state_name[i]);
        b.name = name;
        b.dim[0] = count_held(o, optimizer_state_end(o->kind, p, i));
        workspace_declare(o->ws, &o->state[i], &b);
    }
    b.name = "average of the weights";
    b.dim[0] = p->total;
    if (o->train.ema > 0)
        workspace_declare(o->ws, &o->average, &b);
    b.name = "groups of parameters";
    b.dtype = DTYPE_U8;
    b.dim[0] = (p->total + ADAM_BLOCK - 1) / ADAM_BLOCK;
    if (has_groups(o))
        workspace_declare(o->ws, &o->groups, &b);
    b.name = "squared norm of the gradient";
    b.dtype = DTYPE_F64;
    b.dim[0] = 1;
    workspace_declare(o->ws, &o->norm2, &b);
    if (o->kind->update_matrices != NULL)
        plan_matrices(o);
    TRY(workspace_commit(o->ws, err));
    if (has_groups(o))
        mark_groups(o);
    return STATUS_OK;
}

enum status optimizer_create(struct optimizer *o, struct params *params,
                             const struct config_train *train, struct dist *dist, struct error *err)
{
    return optimizer_create_kind(o, optimizer_kind_of(train), params, train, dist, err);
}

enum status optimizer_create_kind(struct optimizer *o, const struct optimizer_kind *kind,
                                  struct params *params, const struct config_train *train,
                                  struct dist *dist, struct error *err)
{
    assert(kind->states <= OPTIMIZER_MAX_STATES);
    *o = (struct optimizer){
        .kind = kind,
        .train = *train,
        .params = params,
        .dist = dist,
        .sharded = train->zero && dist_size(dist) > 1,
    };
    set_groups(o);
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

/* Adds the coupled decay of aliased parameters to their gradients. The update cannot do it, because
 * it finds an alias at zero (params_split_aliases). The update scales the gradient to clip it,
 * which is undone here for the decay. */
static void add_alias_decay(const struct optimizer *o, double norm)
{
    const struct params *p = o->params;
    double clip = o->train.clip, scale = clip == 0 ? 1 : fmin(1, clip / (norm + CLIP_EPS));
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        if (q->alias_of < 0 || !decays(q))
            continue;
        struct tensor g = tensor_slice(&p->g, q->offset, param_count(q));
        struct tensor w = tensor_slice(&p->w, q->offset, param_count(q));
        op_axpby(p->be, &g, o->train.weight_decay / scale, &w, 1);
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

/* Puts the squared norm of the whole gradient into o->norm2. Each rank sums over its own parts, and
 * these sums are added in the order of the ranks. */
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
    dist_all_gather_bytes(o->dist, &own, sizeof own, o->norms);
    for (int r = 0; r < dist_size(o->dist); r++)
        sum += o->norms[r];
    op_upload(p->be, &o->norm2, &sum, DTYPE_F64);
}

/* The numbers of `part`, the first `states` of whose states begin at `at`. */
static struct optimizer_piece cut_piece(const struct optimizer *o, const struct dist_part *part,
                                        int64_t at, int states)
{
    const struct params *p = o->params;
    struct optimizer_piece piece = {.w = tensor_slice(&p->w, part->first, part->count),
                                    .g = tensor_slice(&p->g, part->first, part->count)};
    for (int i = 0; i < states; i++)
        piece.state[i] = tensor_slice(&o->state[i], at, part->count);
    assert(part->first % ADAM_BLOCK == 0);
    if (o->groups.data != NULL)
        piece.groups = tensor_slice(&o->groups, part->first / ADAM_BLOCK,
                                    (part->count + ADAM_BLOCK - 1) / ADAM_BLOCK);
    return piece;
}

static void update_numbers(const struct optimizer *o, double lr)
{
    const struct optimizer_kind *kind = o->kind;
    int64_t total = o->params->total, at;
    int64_t end = kind->update_matrices != NULL ? o->params->matrices : total;
    struct dist_part part;
    for (int64_t i = 0; optimizer_part(o, i, end, &part, &at); i++) {
        if (part.count == 0)
            continue;
        struct optimizer_piece piece = cut_piece(o, &part, at, kind->states);
        kind->update(o, &piece, lr);
    }
    for (int64_t i = 0; end < total && optimizer_part(o, i, total, &part, &at); i++) {
        int64_t skip = end > part.first ? end - part.first : 0;
        if (skip >= part.count)
            continue;
        struct dist_part rest = {part.first + skip, part.count - skip};
        struct optimizer_piece piece = cut_piece(o, &rest, at + skip, kind->matrix_states);
        kind->prepare(o, &piece);
    }
}

/* The buckets in which matrices of blocks lie, for a kind that updates them as a whole. */
static int64_t first_matrix_bucket(const struct optimizer *o)
{
    int64_t buckets = dist_buckets(o->dist, o->params->total);
    bool any = o->kind->update_matrices != NULL && o->params->matrices < o->params->total;
    return any ? o->params->matrices / dist_bucket_size(o->params->total) : buckets;
}

static void gather(const struct optimizer *o, const struct tensor *flat, int64_t from)
{
    dist_all_gather(o->dist, flat, from, dist_buckets(o->dist, o->params->total));
}

/* Every rank has the weights of matrices that it updates as a whole already. */
static void gather_weights(const struct optimizer *o)
{
    int64_t size = dist_bucket_size(o->params->total),
            end = (o->params->matrices + size - 1) / size;
    if (o->kind->update_matrices == NULL)
        end = dist_buckets(o->dist, o->params->total);
    dist_all_gather(o->dist, &o->params->w, 0, end);
}

static void update_weights(const struct optimizer *o, double lr)
{
    update_numbers(o, lr);
    if (o->kind->update_matrices == NULL)
        return;
    if (o->sharded)
        gather(o, &o->params->g, first_matrix_bucket(o));
    o->kind->update_matrices(o, lr);
}

void optimizer_begin_average(struct optimizer *o)
{
    if (o->average.data != NULL)
        op_copy(o->params->be, &o->average, &o->params->w);
}

/* The decay is lower at first, since a mean of few weights must not weigh the first ones so much.
 */
static void average_weights(const struct optimizer *o)
{
    double n = (double)o->updates, decay = fmin(o->train.ema, n / (n + 9));
    if (o->average.data != NULL)
        op_axpby(o->params->be, &o->average, 1 - decay, &o->params->w, decay);
}

void optimizer_step(struct optimizer *o, double lr, double *norm)
{
    struct params *p = o->params;
    sum_squares(o);
    if (!o->sharded)
        gather(o, &p->g, 0);
    if (o->train.weight_decay > 0 && o->kind->coupled_decay && has_aliases(p)) {
        *norm = read_norm(o);
        if (isfinite(*norm))
            add_alias_decay(o, *norm);
    }
    params_split_aliases(p);
    update_weights(o, lr);
    if (o->sharded)
        gather_weights(o);
    params_join_aliases(p);
    *norm = read_norm(o);
    if (!isfinite(*norm))
        return;
    average_weights(o);
    o->updates++;
}
