#include "model/model.h"

#include "base/mem.h"
#include "model/transformer_cell.h"
#include <math.h>

/* Sub-streams of the model's own dropout masks (the cell has others, see transformer_cell.c). */
enum { MASK_IN = 0, MASK_OUT = 2 };

static enum status declare_params(struct model *m, struct error *err)
{
    const struct config_model *c = &m->config.model;
    params_init(&m->own, m->be);
    TRY(vocabulary_layers_declare(&m->own, c, err));
    TRY(transformer_cell_declare(&m->own, c, err));
    return params_commit(&m->own, m->plan.train, err);
}

/* Tapes beyond those of the equilibrium: one for the evaluations of added losses. */
static int spare_tapes(const struct model *m)
{
    const struct config *c = &m->config;
    bool penalty = c->jacobian.weight > 0 || c->jacobian.ramp_every > 0;
    bool difference = penalty && c->jacobian.form == PENALTY_DIFFERENCE;
    return m->plan.train && (difference || c->correction.weight > 0);
}

static enum status create_cell(struct model *m, struct error *err)
{
    const struct config_model *c = &m->config.model;
    const struct config_jacobian *j = &m->config.jacobian;
    struct cell_plan plan = {
        .batch = m->plan.batch,
        .length = m->plan.length,
        .mem_len = m->plan.mem_len,
        .memories = m->plan.memories > 0 ? m->plan.memories : 1,
        .tapes = equilibrium_tapes(&m->config, m->plan.train) + spare_tapes(m),
        .train = m->plan.train,
        .vjp = m->plan.train || m->plan.vjp,
        .tangents =
            m->plan.train && j->form == PENALTY_EXACT && (j->weight > 0 || j->ramp_every > 0),
        .keep_states = m->plan.train || m->plan.keep_states,
        .dropout = c->dropout,
        .dropatt = c->dropatt,
    };
    switch ((enum config_cell)c->cell) {
    case CELL_TRANSFORMER:
        return transformer_cell_create(&m->cell, m->params, c, &plan, err);
    }
    return error_set(err, STATUS_INTERNAL, "model.cell: unknown cell %d", (int)c->cell);
}

static enum status plan_tensors(struct model *m, struct error *err)
{
    struct backend *be = m->be;
    enum dtype real = be->ops->real;
    const struct config_model *c = &m->config.model;
    int64_t b = m->plan.batch, l = m->plan.length, d = c->d_model;
    TRY(op_alloc(be, &m->e, real, 3, b, l, d, 1, err));
    TRY(op_alloc(be, &m->nll, real, 1, b * l, 1, 1, 1, err));
    if (!m->plan.train)
        return STATUS_OK;
    TRY(op_alloc(be, &m->dh, real, 3, b, l, d, 1, err));
    if (c->dropout == 0)
        return STATUS_OK;
    TRY(op_alloc(be, &m->out, real, 3, b, l, d, 1, err));
    TRY(op_alloc(be, &m->mask_in, real, 3, b, 1, d, 1, err));
    /* the published code drops whole positions here (model-spec 1, step 7) */
    return op_alloc(be, &m->mask_out, real, 3, b, c->compat ? l : 1, c->compat ? 1 : d, 1, err);
}

enum status model_create(struct model **out, struct backend *be, const struct config *config,
                         struct params *shared, const struct model_plan *plan, struct error *err)
{
    enum status status = STATUS_OK;
    struct model *m = NULL;
    *out = NULL;
    TRY(mem_alloc((void **)&m, 1, sizeof *m, err));
    m->be = be;
    m->config = *config;
    m->plan = *plan;
    params_init(&m->own, be);
    m->params = shared != NULL ? shared : &m->own;
    if (shared == NULL)
        TRY_OUT(declare_params(m, err));
    TRY_OUT(vocabulary_layers_create(&m->vocab, m->params, &config->model,
                                     plan->batch * plan->length, err));
    TRY_OUT(create_cell(m, err));
    TRY_OUT(
        equilibrium_create(&m->eq, m->cell, config, plan->batch, plan->length, plan->train, err));
    TRY_OUT(plan_tensors(m, err));
    if (plan->train) {
        int spare = equilibrium_tapes(config, true);
        TRY_OUT(penalty_create(&m->penalty, m->cell, &m->config, plan->batch, plan->length, spare,
                               err));
        TRY_OUT(correction_create(&m->correction, m, spare, err));
    }
    *out = m;
    return STATUS_OK;
out:
    model_free(m);
    return status;
}

void model_free(struct model *m)
{
    if (m == NULL)
        return;
    struct tensor *const owned[] = {&m->e, &m->out, &m->dh, &m->nll, &m->mask_in, &m->mask_out};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        op_release(m->be, owned[i]);
    penalty_free(&m->penalty, m->be);
    correction_free(&m->correction, m);
    equilibrium_free(m->eq);
    if (m->cell != NULL)
        m->cell->ops->free(m->cell);
    vocabulary_layers_free(&m->vocab, m->be);
    params_free(&m->own);
    mem_free(m);
}

void model_refresh(struct model *m)
{
    if (m->plan.train)
        op_fill(m->be, &m->params->g, 0.0);
    m->cell->ops->refresh(m->cell);
}

void model_reset_memory(struct model *m)
{
    m->cell->ops->reset_memory(m->cell);
}

void model_select_memory(struct model *m, int index)
{
    m->cell->ops->select_memory(m->cell, index);
}

static void draw_mask(struct model *m, const struct tensor *mask, int sub)
{
    const struct masks *k = &m->masks;
    struct rng_key key = {k->seed, rng_stream(RNG_DROPOUT, k->draw, (uint64_t)sub)};
    op_dropout_mask(m->be, mask, m->config.model.dropout, key);
}

static bool masked(const struct model *m)
{
    return m->masks.source != MASKS_NONE && m->mask_in.data != NULL;
}

static struct tensor segment(const struct model *m, const struct tensor *t)
{
    return tensor_prefix(t, 3, m->plan.batch, m->length, t->dim[2], 1);
}

/* Output mask cut to the segment (with compat it has a length). */
static struct tensor output_mask(const struct model *m)
{
    if (!m->config.model.compat)
        return m->mask_out;
    return tensor_prefix(&m->mask_out, 3, m->plan.batch, m->length, 1, 1);
}

void model_begin(struct model *m, const int32_t *input, int64_t length, const struct masks *masks)
{
    assert(length >= 1 && length <= m->plan.length);
    assert(masks->source == MASKS_NONE || m->plan.train);
    struct clusters clusters = embedding_index_clusters(&m->vocab.embedding);
    int64_t n = m->plan.batch * length;
    m->length = length;
    m->masks = *masks;
    m->penalty_weight = 0;
    penalty_skip(&m->penalty);
    cluster_index_set(&m->vocab.input, m->be, &clusters, input, n);
    struct tensor e = segment(m, &m->e), rows = tensor_matrix(&e);
    embedding_eval(&m->vocab.embedding, m->be, &m->vocab.input, &rows);
    if (masked(m)) {
        if (masks->source == MASKS_DRAWN) {
            draw_mask(m, &m->mask_in, MASK_IN);
            draw_mask(m, &m->mask_out, MASK_OUT);
        }
        op_mul_bcast(m->be, &e, &e, &m->mask_in);
    }
    m->cell->ops->begin(m->cell, &e, masks);
}

enum status model_solve(struct model *m, int64_t layers, bool gradient, struct error *err)
{
    assert(!gradient || m->plan.train);
    return equilibrium_solve(m->eq, m->plan.batch, m->length, layers, gradient, err);
}

/* What the softmax sees of an output h [B,L,W]: h under the mask. */
static struct tensor masked_output(struct model *m, const struct tensor *h)
{
    if (!masked(m))
        return *h;
    struct tensor mask = output_mask(m), out = segment(m, &m->out);
    op_mul_bcast(m->be, &out, h, &mask);
    return out;
}

void model_output_loss(struct model *m, const struct tensor *h, const struct tensor *nll,
                       double scale, const struct tensor *dh)
{
    struct tensor out = masked_output(m, h), q = tensor_matrix(&out), rows = {0};
    struct tensor each = tensor_prefix(nll, 1, m->plan.batch * m->length, 1, 1, 1);
    if (dh != NULL)
        rows = tensor_matrix(dh);
    adaptive_softmax_nll(&m->vocab.softmax, m->be, &q, m->target, &m->vocab.target, scale, &each,
                         dh != NULL ? &rows : NULL);
    if (dh == NULL || !masked(m))
        return;
    struct tensor mask = output_mask(m);
    op_mul_bcast(m->be, dh, dh, &mask);
}

void model_loss(struct model *m, const int32_t *target, double scale, bool gradient)
{
    struct tensor dh = {0};
    m->target = target;
    m->scale = scale;
    if (gradient)
        dh = segment(m, &m->dh);
    cluster_index_set(&m->vocab.target, m->be, &m->vocab.softmax.clusters, target,
                      m->plan.batch * m->length);
    model_output_loss(m, &m->eq->h, &m->nll, scale, gradient ? &dh : NULL);
}

void model_penalise(struct model *m, double weight, const struct rng_key *key)
{
    m->penalty_weight = weight;
    m->penalty_given = key == NULL;
    if (key != NULL)
        m->penalty_key = *key;
}

enum status model_backward(struct model *m, struct error *err)
{
    struct tensor dh = segment(m, &m->dh), rows = tensor_matrix(&dh), also = {0};
    if (m->penalty_weight > 0) {
        penalty_apply(&m->penalty, m->eq, m->penalty_weight,
                      m->penalty_given ? NULL : &m->penalty_key);
        if (m->penalty.pending)
            also = segment(m, &m->penalty.r);
    }
    TRY(equilibrium_gradient(m->eq, &dh, also.data != NULL ? &also : NULL, err));
    if (m->correction.wanted)
        correction_apply(&m->correction, m, m->scale);
    /* dh has done its work: it becomes the gradient of e */
    m->cell->ops->end_backward(m->cell, &dh);
    if (masked(m))
        op_mul_bcast(m->be, &dh, &dh, &m->mask_in);
    embedding_vjp(&m->vocab.embedding, m->be, &m->vocab.input, &rows);
    return backend_check(m->be, err);
}

void model_remember(struct model *m)
{
    int last = m->eq->unrolled > 0 ? (int)m->eq->unrolled - 1 : 0;
    m->cell->ops->remember(m->cell, last, &m->eq->h);
}

void model_finish_gradients(struct model *m)
{
    m->cell->ops->finish_gradients(m->cell);
}

double model_read_loss(struct model *m, double *each)
{
    enum { PIECE = 4096 };
    int64_t n = m->plan.batch * m->length;
    double piece[PIECE];
    double sum = 0;
    for (int64_t start = 0; start < n; start += PIECE) {
        int64_t count = n - start < PIECE ? n - start : PIECE;
        struct tensor part = tensor_slice(&m->nll, start, count);
        double *to = each != NULL ? each + start : piece;
        op_download(m->be, to, DTYPE_F64, &part);
        for (int64_t i = 0; i < count; i++)
            sum += to[i];
    }
    return sum / (double)n;
}
