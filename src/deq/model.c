/* The way of a segment through a model, and back. */
#include "deq/model.h"

/* Sub-streams of the model's own dropout masks (the cells have others). */
enum { MASK_IN = 0, MASK_OUT = 2, MASK_WORD = 3 };

void model_refresh(struct model *m)
{
    if (m->plan.train)
        op_fill(m->be, &m->params->g, 0.0);
    m->cell->ops->refresh(m->cell);
}

void model_reset_memory(struct model *m)
{
    cell_reset_memory(m->cell);
    initial_guess_forget(&m->guess);
}

void model_spread_memory(struct model *to, const struct model *from)
{
    struct memory *memory;
    for (int i = 0; (memory = to->cell->ops->memory(to->cell, i)) != NULL; i++)
        memory_spread(memory, to->be, from->cell->ops->memory(from->cell, i));
    initial_guess_spread(&to->guess, to->be, &from->guess);
}

void model_select_memory(struct model *m, int index)
{
    m->cell->ops->select_memory(m->cell, index);
}

/* `first` is the element of the whole batch's mask at which this one begins. */
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
    if (mask.data == NULL || !m->cell->io.drops_positions)
        return mask;
    return segment(m, &m->mask_out);
}

/* Puts x [B,L,E], e or its gradient, under the masks of whole words and of the embedding's numbers.
 */
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
        op_graph_break(m->be); /* as in embedding_eval */
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
        op_graph_break(m->be);
}

/* Draws the masks. Those of words are then looked up token by token. */
static void draw_masks(struct model *m)
{
    const struct cell_io *io = &m->cell->io;
    struct tensor word = in_use(m, &m->mask_word), out = output_mask(m);
    draw_mask(m, &m->mask_in, io->dropout_in, MASK_IN, first_element(m, &m->mask_in));
    draw_mask(m, &out, io->dropout_out, MASK_OUT, first_element(m, &out));
    draw_mask(m, &m->mask_word, m->config.model.emb_dropout, MASK_WORD, 0); /* of all streams */
    if (word.data == NULL)
        return;
    struct tensor token = segment(m, &m->mask_token);
    token = tensor_shape(&token, 2, tensor_count(&token), 1, 1, 1);
    gather_by_token(m, &word, &token);
}

/* The segment's tokens, embedded, into m->e. */
static void embed(struct model *m)
{
    struct tensor e = segment(m, &m->e), rows = tensor_matrix(&e);
    embedding_eval(&m->vocab.embedding, m->be, &m->vocab.input, &rows);
    mask_embedding(m, &e);
}

void model_begin(struct model *m, const int32_t *input, int64_t length, const struct masks *masks)
{
    assert(length >= 1 && length <= m->plan.length);
    assert(masks->source == MASKS_NONE || m->plan.train);
    struct clusters clusters = embedding_index_clusters(&m->vocab.embedding);
    int64_t n = m->plan.batch * length;
    workspace_enter(m->ws, PHASE_EMBED);
    m->length = length;
    m->masks = *masks;
    equilibrium_begin(m->eq, masks);
    loss_terms_begin(&m->terms, &m->config);
    cluster_index_set(&m->vocab.input, m->be, &clusters, input, n);
    draw_masks(m);
    embed(m);
    struct tensor e = segment(m, &m->e);
    workspace_enter(m->ws, PHASE_BEGIN);
    m->cell->ops->begin(m->cell, &e, masks);
}

/* The columns of a state [B,L,W] that the softmax sees. */
static struct tensor state_columns(const struct model *m, const struct tensor *h)
{
    const struct cell_io *io = &m->cell->io;
    size_t skip = (size_t)io->output_start * dtype_size(h->dtype);
    return tensor_make((char *)h->data + skip, h->dtype, 3, h->dim[0], h->dim[1], io->output, 1);
}

/* What the softmax sees of a state, which is all of it or some columns of each position. */
static void take_output(struct model *m, const struct tensor *h)
{
    struct tensor mask = output_mask(m);
    m->q = *h;
    if (m->sees_all && mask.data == NULL)
        return;
    m->q = segment(m, &m->out);
    if (m->sees_all) {
        op_mul_bcast(m->be, &m->q, h, &mask);
        return;
    }
    if (m->cell->io.head) {
        m->cell->ops->head(m->cell, h, &m->q);
        m->state = *h;
        if (mask.data != NULL)
            op_mul_bcast(m->be, &m->q, &m->q, &mask);
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
    workspace_enter(m->ws, PHASE_FORWARD);
    if (layers == 0)
        start = initial_guess_eval(&m->guess, m->be, &e);
    TRY(equilibrium_solve(m->eq, &e, &start, layers, gradient, err));
    struct tensor h = equilibrium_output(m->eq);
    take_output(m, &h);
    return STATUS_OK;
}

/* From the gradient of what the softmax sees to that of the state. */
static void give_output(struct model *m)
{
    struct tensor dq = segment(m, &m->dq), mask = output_mask(m);
    if (m->sees_all) {
        if (mask.data != NULL)
            op_mul_bcast(m->be, &dq, &dq, &mask);
        return;
    }
    struct tensor dh = segment(m, &m->dstate);
    if (m->cell->io.head) {
        if (mask.data != NULL)
            op_mul_bcast(m->be, &dq, &dq, &mask);
        m->cell->ops->head_vjp(m->cell, &m->state, &dq, &dh);
        return;
    }
    struct copy_block p = {.to = state_columns(m, &dh), .from = dq, .mask = mask};
    p.to_batch = dh.dim[1] * dh.dim[2];
    p.to_row = dh.dim[2];
    op_fill(m->be, &dh, 0.0);
    op_copy_block(m->be, &p);
}

/* The loss of m->q. */
static void loss(struct model *m, const struct tensor *nll, double scale, bool gradient)
{
    struct softmax_loss p = {
        .q = tensor_matrix(&m->q),
        .targets = m->target,
        .index = &m->vocab.target,
        .nll = tensor_prefix(nll, 1, m->plan.batch * m->length, 1, 1, 1),
        .scale = scale,
    };
    if (gradient) {
        struct tensor dq = segment(m, &m->dq);
        p.dq = tensor_matrix(&dq);
    }
    adaptive_softmax_nll(&m->vocab.softmax, m->be, &p);
    if (gradient)
        give_output(m);
}

void model_loss(struct model *m, const int32_t *target, double scale, bool gradient)
{
    workspace_enter(m->ws, PHASE_LOSS);
    m->target = target;
    m->scale = scale;
    cluster_index_set(&m->vocab.target, m->be, &m->vocab.softmax.clusters, target,
                      m->plan.batch * m->length);
    loss(m, &m->nll, scale, gradient);
}

void model_output_loss(struct model *m, const struct tensor *h, const int32_t *target, double scale,
                       bool gradient)
{
    take_output(m, h);
    model_loss(m, target, scale, gradient);
}

void model_weigh_term(struct model *m, enum loss_term_id id, double weight,
                      const struct rng_key *key)
{
    loss_terms_weigh(&m->terms, id, weight, key);
}

bool model_read_term(struct model *m, enum loss_term_id id, double *value)
{
    return loss_terms_read(&m->terms, id, value);
}

struct tensor model_state_gradient(const struct model *m)
{
    return segment(m, m->dstate.data != NULL ? &m->dstate : &m->dq);
}

/* The loss at another output state, for the loss terms (struct loss_segment). */
static struct tensor loss_at(void *model, const struct tensor *h, const struct tensor *nll,
                             double scale)
{
    struct model *m = model;
    take_output(m, h);
    loss(m, nll, scale, true);
    return model_state_gradient(m);
}

/* The embedded tokens, for the loss terms too. */
static struct tensor embedded(void *model)
{
    const struct model *m = model;
    return segment(m, &m->e);
}

enum status model_backward(struct model *m, struct error *err)
{
    struct tensor dh = model_state_gradient(m);
    struct tensor de = segment(m, &m->de), rows = tensor_matrix(&de);
    struct loss_segment current = {.cell = m->cell,
                                   .eq = m->eq,
                                   .scale = m->scale,
                                   .model = m,
                                   .loss_at = loss_at,
                                   .embedded = embedded};
    workspace_enter(m->ws, PHASE_BACKWARD);
    TRY(equilibrium_solve_adjoint(m->eq, &dh, err));
    workspace_enter(m->ws, PHASE_GRADIENTS);
    loss_terms_apply(&m->terms, &current);
    TRY(equilibrium_propagate(m->eq, &de, err));
    m->cell->ops->end_backward(m->cell, &de);
    mask_embedding(m, &de);
    embedding_vjp(&m->vocab.embedding, m->be, &m->vocab.input, &rows);
    return backend_check(m->be, err);
}

void model_remember(struct model *m)
{
    struct tensor e = segment(m, &m->e);
    workspace_enter(m->ws, PHASE_REMEMBER);
    equilibrium_remember(m->eq);
    initial_guess_remember(&m->guess, m->be, &e);
}

enum status model_report(const struct model *m, struct solve_report *forward,
                         struct solve_report *backward, struct error *err)
{
    return equilibrium_report(m->eq, forward, backward, err);
}

enum status model_set_limits(struct model *m, enum solve_direction direction, int64_t max_iter,
                             double tol, enum solve_stop stop, struct error *err)
{
    return equilibrium_set_limits(m->eq, direction, max_iter, tol, stop, err);
}

void model_finish_gradients(struct model *m)
{
    workspace_enter(m->ws, PHASE_UPDATE);
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
