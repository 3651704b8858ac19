#include "model/model.h"

#include "base/mem.h"

/* Sub-streams of the model's own dropout masks (the cells have others). */
enum { MASK_IN = 0, MASK_OUT = 2, MASK_WORD = 3 };

enum status model_declare(struct params *params, const struct config_model *model,
                          struct error *err)
{
    TRY(vocabulary_layers_declare(params, model, err));
    TRY(cell_kind_of(model)->declare(params, model, err));
    struct cell_ends ends = cell_kind_of(model)->ends(model);
    return start_declare(params, model, ends.state, ends.input, err);
}

static enum status declare_params(struct model *m, struct error *err)
{
    params_init(&m->own, m->be);
    TRY(model_declare(&m->own, &m->config.model, err));
    return params_commit(&m->own, m->plan.train, err);
}

/* Whether more than the loss is differentiated. */
static bool has_added_losses(const struct model *m)
{
    return penalty_wanted(&m->config) || m->config.correction.weight > 0;
}

/* Tapes beyond those of the equilibrium: one for the evaluations of added losses. */
static int spare_tapes(const struct model *m)
{
    const struct config *c = &m->config;
    bool difference = penalty_wanted(c) && c->jacobian.form == PENALTY_DIFFERENCE;
    return m->plan.train && (difference || c->correction.weight > 0);
}

static enum status create_cell(struct model *m, struct error *err)
{
    const struct config_model *c = &m->config.model;
    struct cell_plan plan = {
        .batch = m->plan.batch,
        .length = m->plan.length,
        .mem_len = m->plan.mem_len,
        .memories = m->plan.memories > 0 ? m->plan.memories : 1,
        .tapes = equilibrium_tapes(&m->config, m->plan.train) + spare_tapes(m),
        .one_vjp = equilibrium_one_vjp(&m->config, m->plan.train) && !has_added_losses(m),
        .train = m->plan.train,
        .vjp = m->plan.train || m->plan.vjp,
        .tangents =
            m->plan.train && penalty_wanted(&m->config) && m->config.jacobian.form == PENALTY_EXACT,
        .keep_states = m->plan.train || m->plan.keep_states,
    };
    return cell_kind_of(c)->create(&m->cell, m->params, c, &plan, err);
}

/* Does the softmax see the whole state? */
static bool sees_all(const struct model *m)
{
    return m->cell->ends.output == m->cell->width;
}

static enum status plan_masks(struct model *m, struct error *err)
{
    struct backend *be = m->be;
    enum dtype real = be->ops->real;
    const struct cell_ends *ends = &m->cell->ends;
    const struct config_model *c = &m->config.model;
    int64_t b = m->plan.batch, l = m->plan.length;
    bool positions = ends->drops_positions;
    if (ends->dropout_in > 0)
        TRY(op_alloc(be, &m->mask_in, real, 3, b, 1, ends->input, 1, err));
    if (ends->dropout_out > 0)
        TRY(op_alloc(be, &m->mask_out, real, 3, b, positions ? l : 1, positions ? 1 : ends->output,
                     1, err));
    if (c->emb_dropout == 0)
        return STATUS_OK;
    TRY(op_alloc(be, &m->mask_word, real, 2, c->vocab_size, 1, 1, 1, err));
    TRY(op_alloc(be, &m->found, real, 2, b * l, 1, 1, 1, err));
    return op_alloc(be, &m->mask_token, real, 3, b, l, 1, 1, err);
}

static enum status plan_tensors(struct model *m, struct error *err)
{
    struct backend *be = m->be;
    enum dtype real = be->ops->real;
    const struct cell_ends *ends = &m->cell->ends;
    int64_t b = m->plan.batch, l = m->plan.length, w = m->cell->width;
    TRY(op_alloc(be, &m->e, real, 3, b, l, ends->input, 1, err));
    TRY(op_alloc(be, &m->nll, real, 1, b * l, 1, 1, 1, err));
    if (m->plan.train)
        TRY(plan_masks(m, err));
    if (!sees_all(m) || m->mask_out.data != NULL)
        TRY(op_alloc(be, &m->out, real, 3, b, l, ends->output, 1, err));
    if (!m->plan.train)
        return STATUS_OK;
    TRY(op_alloc(be, &m->dq, real, 3, b, l, ends->output, 1, err));
    if (!sees_all(m))
        TRY(op_alloc(be, &m->dstate, real, 3, b, l, w, 1, err));
    if (ends->input != ends->output)
        TRY(op_alloc(be, &m->de, real, 3, b, l, ends->input, 1, err));
    return STATUS_OK;
}

/* Bytes given out since *mark, which moves on. */
static size_t since(const struct backend *be, size_t *mark)
{
    size_t bytes = be->bytes - *mark;
    *mark = be->bytes;
    return bytes;
}

static size_t remembered_bytes(const struct model *m)
{
    struct memory *memory;
    size_t bytes = 0;
    for (int i = 0; (memory = m->cell->ops->memory(m->cell, i)) != NULL; i++)
        if (memory->now.data != NULL)
            bytes += tensor_bytes(&memory->now);
    return bytes;
}

/* Of weight-normalised matrices the cell holds the effective values and their gradients. */
static size_t effective_bytes(const struct model *m)
{
    const struct params *p = m->params;
    int64_t numbers = 0;
    for (int i = 0; i < p->count; i++)
        if (p->list[i].norm_of >= 0)
            numbers += param_count(&p->list[p->list[i].norm_of]);
    return (size_t)numbers * dtype_size(m->be->ops->real) * (m->plan.train ? 2 : 1);
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
    size_t mark = be->bytes;
    struct model_bytes *bytes = &m->bytes;
    if (shared == NULL)
        TRY_OUT(declare_params(m, err));
    bytes->parameters = since(be, &mark);
    TRY_OUT(create_cell(m, err));
    bytes->parameters += effective_bytes(m);
    bytes->cell = since(be, &mark) - effective_bytes(m);
    bytes->remembered = remembered_bytes(m);
    TRY_OUT(
        equilibrium_create(&m->eq, m->cell, config, plan->batch, plan->length, plan->train, err));
    bytes->solver = m->eq->solver_bytes;
    bytes->states = since(be, &mark) - bytes->solver;
    struct tensor idle = equilibrium_idle(m->eq); /* losses come between solves */
    TRY_OUT(vocabulary_layers_create(&m->vocab, m->params, &config->model,
                                     plan->batch * plan->length, &idle, err));
    bytes->vocabulary = since(be, &mark);
    TRY_OUT(plan_tensors(m, err));
    TRY_OUT(start_create(&m->start, m->params, &config->model, plan->batch, plan->length,
                         m->cell->width, m->cell->ends.input, plan->train, err));
    if (plan->train) {
        int spare = equilibrium_tapes(config, true);
        TRY_OUT(penalty_create(&m->penalty, m->cell, &m->config, plan->batch, plan->length, spare,
                               err));
        TRY_OUT(correction_create(&m->correction, m, spare, err));
    }
    bytes->ends = since(be, &mark);
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
    struct tensor *const owned[] = {&m->e,         &m->out,        &m->nll,     &m->dq,
                                    &m->dstate,    &m->de,         &m->mask_in, &m->mask_out,
                                    &m->mask_word, &m->mask_token, &m->found};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        op_release(m->be, owned[i]);
    start_free(&m->start, m->be);
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
    cell_reset_memory(m->cell);
    start_forget(&m->start);
}

void model_select_memory(struct model *m, int index)
{
    m->cell->ops->select_memory(m->cell, index);
}

/* `first`: the element of the whole batch's mask at which this one begins. */
static void draw_mask(struct model *m, const struct tensor *mask, double rate, int sub,
                      int64_t first)
{
    const struct masks *k = &m->masks;
    struct rng_key key = {k->seed, rng_stream(RNG_DROPOUT, k->draw, (uint64_t)sub)};
    if (mask->data != NULL && k->source == MASKS_DRAWN)
        op_dropout_mask(m->be, mask, rate, key, (uint64_t)first);
}

/* Of a mask of the plan.batch streams from number masks.first on. */
static int64_t first_element(const struct model *m, const struct tensor *mask)
{
    return m->masks.first * (tensor_count(mask) / m->plan.batch);
}

/* A mask, or nothing where this segment has none. */
static struct tensor in_use(const struct model *m, const struct tensor *mask)
{
    return m->masks.source != MASKS_NONE ? *mask : (struct tensor){0};
}

static struct tensor segment(const struct model *m, const struct tensor *t)
{
    return tensor_prefix(t, 3, m->plan.batch, m->length, t->dim[2], 1);
}

/* Output mask cut to the segment (where positions are dropped, it has a length). */
static struct tensor output_mask(const struct model *m)
{
    struct tensor mask = in_use(m, &m->mask_out);
    if (mask.data == NULL || !m->cell->ends.drops_positions)
        return mask;
    return segment(m, &m->mask_out);
}

/* x [B,L,E] under the masks of whole words and of the embedding's numbers; e or its gradient. */
static void mask_embedding(struct model *m, const struct tensor *x)
{
    struct tensor word = in_use(m, &m->mask_word), in = in_use(m, &m->mask_in);
    if (word.data != NULL) {
        struct tensor token = segment(m, &m->mask_token);
        op_mul_bcast(m->be, x, x, &token);
    }
    if (in.data != NULL)
        op_mul_bcast(m->be, x, x, &in);
}

/* token[n,1] <- the entry of word [V,1] that belongs to each input token. */
static void gather_by_token(struct model *m, const struct tensor *word, const struct tensor *token)
{
    const struct cluster_index *index = &m->vocab.input;
    const struct clusters clusters = embedding_index_clusters(&m->vocab.embedding);
    op_fill(m->be, token, 0.0);
    if (clusters.count > 1)
        op_end_run(m->be); /* as in embedding_eval */
    for (int i = 0; i < clusters.count; i++) {
        int64_t n = cluster_size(index, i), first = clusters.end[i];
        if (n == 0)
            continue;
        struct tensor local = cluster_local(index, i), pos = cluster_pos(index, i);
        struct tensor part = tensor_slice(word, first, clusters.end[i + 1] - first);
        struct tensor found = tensor_prefix(&m->found, 2, n, 1, 1, 1);
        op_gather_rows(m->be, &found, &part, &local, 1.0);
        op_scatter_add_rows(m->be, token, &found, &pos, 1.0);
    }
    if (clusters.count > 1)
        op_end_run(m->be);
}

/* Draws the masks; those of words are then looked up token by token. */
static void draw_masks(struct model *m)
{
    const struct cell_ends *ends = &m->cell->ends;
    struct tensor word = in_use(m, &m->mask_word), out = output_mask(m);
    draw_mask(m, &m->mask_in, ends->dropout_in, MASK_IN, first_element(m, &m->mask_in));
    draw_mask(m, &out, ends->dropout_out, MASK_OUT, first_element(m, &out));
    draw_mask(m, &m->mask_word, m->config.model.emb_dropout, MASK_WORD, 0); /* of all streams */
    if (word.data == NULL)
        return;
    struct tensor token = segment(m, &m->mask_token);
    token = tensor_shape(&token, 2, tensor_count(&token), 1, 1, 1);
    gather_by_token(m, &word, &token);
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
    draw_masks(m);
    mask_embedding(m, &e);
    m->cell->ops->begin(m->cell, &e, masks);
}

/* The columns of a state [B,L,W] that the softmax sees. */
static struct tensor state_columns(const struct model *m, const struct tensor *h)
{
    const struct cell_ends *ends = &m->cell->ends;
    size_t skip = (size_t)ends->output_start * dtype_size(h->dtype);
    return tensor_make((char *)h->data + skip, h->dtype, 3, h->dim[0], h->dim[1], ends->output, 1);
}

/* What the softmax sees of a state: all of it, or some columns of each position. */
static void take_output(struct model *m, const struct tensor *h)
{
    struct tensor mask = output_mask(m);
    m->q = *h;
    if (sees_all(m) && mask.data == NULL)
        return;
    m->q = segment(m, &m->out);
    if (sees_all(m)) {
        op_mul_bcast(m->be, &m->q, h, &mask);
        return;
    }
    struct copy_block p = {.to = m->q, .from = state_columns(m, h), .mask = mask};
    p.from_batch = h->dim[1] * h->dim[2];
    p.from_row = h->dim[2];
    op_copy_block(m->be, &p);
}

enum status model_solve(struct model *m, int64_t layers, bool gradient, struct error *err)
{
    struct tensor e = segment(m, &m->e);
    assert(!gradient || m->plan.train);
    struct tensor start = {0};
    if (layers == 0)
        start = start_eval(&m->start, m->be, &e);
    TRY(equilibrium_solve(m->eq, &e, &start, layers, gradient, err));
    take_output(m, &m->eq->h);
    return STATUS_OK;
}

/* From the gradient of what the softmax sees to that of the state. */
static void give_output(struct model *m)
{
    struct tensor dq = segment(m, &m->dq), mask = output_mask(m);
    if (sees_all(m)) {
        if (mask.data != NULL)
            op_mul_bcast(m->be, &dq, &dq, &mask);
        return;
    }
    struct tensor dh = segment(m, &m->dstate);
    struct copy_block p = {.to = state_columns(m, &dh), .from = dq, .mask = mask};
    p.to_batch = dh.dim[1] * dh.dim[2];
    p.to_row = dh.dim[2];
    op_fill(m->be, &dh, 0.0);
    op_copy_block(m->be, &p);
}

/* The loss of m->q. */
static void loss(struct model *m, const struct tensor *nll, double scale, bool gradient)
{
    struct tensor q = tensor_matrix(&m->q), dq = {0};
    struct tensor each = tensor_prefix(nll, 1, m->plan.batch * m->length, 1, 1, 1);
    if (gradient) {
        dq = segment(m, &m->dq);
        dq = tensor_matrix(&dq);
    }
    adaptive_softmax_nll(&m->vocab.softmax, m->be, &q, m->target, &m->vocab.target, scale, &each,
                         gradient ? &dq : NULL);
    if (gradient)
        give_output(m);
}

void model_loss(struct model *m, const int32_t *target, double scale, bool gradient)
{
    m->target = target;
    m->scale = scale;
    cluster_index_set(&m->vocab.target, m->be, &m->vocab.softmax.clusters, target,
                      m->plan.batch * m->length);
    loss(m, &m->nll, scale, gradient);
}

void model_output_loss(struct model *m, const struct tensor *h, const struct tensor *nll,
                       double scale, bool gradient)
{
    take_output(m, h);
    loss(m, nll, scale, gradient);
}

void model_penalise(struct model *m, double weight, const struct rng_key *key)
{
    m->penalty_weight = weight;
    m->penalty_given = key == NULL;
    if (key != NULL)
        m->penalty_key = *key;
}

struct tensor model_state_gradient(const struct model *m)
{
    return segment(m, m->dstate.data != NULL ? &m->dstate : &m->dq);
}

enum status model_backward(struct model *m, struct error *err)
{
    struct tensor dh = model_state_gradient(m);
    struct tensor de = segment(m, m->de.data != NULL ? &m->de : &m->dq), rows = tensor_matrix(&de);
    struct tensor also = {0};
    if (m->penalty_weight > 0) {
        penalty_apply(&m->penalty, m->eq, m->penalty_weight,
                      m->penalty_given ? NULL : &m->penalty_key);
        if (m->penalty.pending)
            also = segment(m, &m->penalty.r);
    }
    TRY(equilibrium_gradient(m->eq, &dh, &de, also.data != NULL ? &also : NULL, err));
    if (m->correction.wanted)
        correction_apply(&m->correction, m, m->scale);
    if (m->eq->applied == 0) { /* solved */
        struct tensor e = segment(m, &m->e);
        start_fit(&m->start, m->be, &e, &m->eq->z);
    }
    m->cell->ops->end_backward(m->cell, &de);
    mask_embedding(m, &de);
    embedding_vjp(&m->vocab.embedding, m->be, &m->vocab.input, &rows);
    return backend_check(m->be, err);
}

void model_remember(struct model *m)
{
    struct tensor e = segment(m, &m->e);
    equilibrium_remember(m->eq);
    start_remember(&m->start, m->be, &e);
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
