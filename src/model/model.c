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

static enum status create_cell(struct model *m, struct error *err)
{
    const struct config_model *c = &m->config.model;
    struct cell_plan plan = {
        .batch = m->plan.batch,
        .length = m->plan.length,
        .mem_len = m->plan.mem_len,
        .memories = m->plan.memories > 0 ? m->plan.memories : 1,
        .tapes = equilibrium_tapes(&m->config, m->plan.train),
        .train = m->plan.train,
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
    TRY_OUT(create_cell(m, err));
    TRY_OUT(
        equilibrium_create(&m->eq, m->cell, config, plan->batch, plan->length, plan->train, err));
    struct tensor idle = solver_scratch(m->eq->forward); /* losses come between solves */
    TRY_OUT(vocabulary_layers_create(&m->vocab, m->params, &config->model,
                                     plan->batch * plan->length, &idle, err));
    TRY_OUT(plan_tensors(m, err));
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
    TRY(equilibrium_solve(m->eq, m->plan.batch, m->length, layers, gradient, err));
    m->q = m->eq->h;
    if (masked(m)) {
        struct tensor mask = output_mask(m);
        m->q = segment(m, &m->out);
        op_mul_bcast(m->be, &m->q, &m->eq->h, &mask);
    }
    return STATUS_OK;
}

void model_loss(struct model *m, const int32_t *target, double scale, bool gradient)
{
    int64_t n = m->plan.batch * m->length;
    struct tensor q = tensor_matrix(&m->q), nll = tensor_prefix(&m->nll, 1, n, 1, 1, 1);
    cluster_index_set(&m->vocab.target, m->be, &m->vocab.softmax.clusters, target, n);
    if (!gradient) {
        adaptive_softmax_nll(&m->vocab.softmax, m->be, &q, target, &m->vocab.target, scale, &nll,
                             NULL);
        return;
    }
    struct tensor dh = segment(m, &m->dh), rows = tensor_matrix(&dh);
    adaptive_softmax_nll(&m->vocab.softmax, m->be, &q, target, &m->vocab.target, scale, &nll,
                         &rows);
    if (masked(m)) {
        struct tensor mask = output_mask(m);
        op_mul_bcast(m->be, &dh, &dh, &mask);
    }
}

enum status model_backward(struct model *m, struct error *err)
{
    struct tensor dh = segment(m, &m->dh), rows = tensor_matrix(&dh);
    TRY(equilibrium_gradient(m->eq, &dh, err));
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
