/* What a model holds: its parameters, its parts, their memory. */
#include "deq/model.h"

#include "base/mem.h"

enum status model_declare(struct params *params, const struct config_model *model,
                          struct error *err)
{
    TRY(vocabulary_layers_declare(params, model, err));
    TRY(cell_kind_of(model)->declare(params, model, err));
    struct cell_io io = cell_kind_of(model)->io(model);
    return initial_guess_declare(params, model, io.state, io.input, err);
}

static enum status declare_params(struct model *m, struct error *err)
{
    params_init(&m->own, m->be);
    TRY(model_declare(&m->own, &m->config.model, err));
    return params_commit(&m->own, m->plan.train, err);
}

static enum status create_cell(struct model *m, struct error *err)
{
    const struct config_model *c = &m->config.model;
    struct loss_term_needs terms = {0};
    if (m->plan.train)
        terms = loss_terms_needs(&m->config);
    struct cell_plan plan = {
        .batch = m->plan.batch,
        .length = m->plan.length,
        .mem_len = m->plan.mem_len,
        .memories = m->plan.memories > 0 ? m->plan.memories : 1,
        .tapes = equilibrium_tapes(&m->config, m->plan.train) + terms.spare_tape,
        .one_vjp = equilibrium_one_vjp(&m->config, m->plan.train) && !terms.cell,
        .evals_end =
            m->plan.train && equilibrium_evals_end(&m->config) && !terms.cell && !m->plan.replay,
        .keep_all = equilibrium_keeps_all(&m->config),
        .rows = !m->plan.train || m->config.solver.forward.stop != STOP_FIXED,
        .idle = &m->eq->idle,
        .train = m->plan.train,
        .vjp = m->plan.train || m->plan.vjp,
        .tangents = terms.tangents,
        .keep_states = m->plan.train || m->plan.keep_states,
    };
    return cell_kind_of(c)->create(&m->cell, m->params, c, &plan, err);
}

/* Gradients of what the softmax sees, of the state, of embedded tokens. They live through the
 * backward solve: planned before others take what idle memory lasts as long. */
static enum status plan_gradients(struct model *m, const struct cell_io *io, struct error *err)
{
    struct backend *be = m->be;
    enum dtype real = be->ops->real;
    int64_t b = m->plan.batch, l = m->plan.length;
    if (!m->plan.train)
        return STATUS_OK;
    m->dq = tensor_make(NULL, real, 3, b, l, io->output, 1);
    m->dq_lent = idle_take(&m->eq->idle, &m->dq, true);
    if (!m->dq_lent)
        TRY(op_alloc(be, &m->dq, real, 3, b, l, io->output, 1, err));
    if (io->output != io->state)
        TRY(op_alloc(be, &m->dstate, real, 3, b, l, io->state, 1, err));
    if (io->input != io->output)
        TRY(op_alloc(be, &m->de, real, 3, b, l, io->input, 1, err));
    return STATUS_OK;
}

static enum status plan_masks(struct model *m, struct error *err)
{
    struct backend *be = m->be;
    enum dtype real = be->ops->real;
    const struct cell_io *io = &m->cell->io;
    const struct config_model *c = &m->config.model;
    int64_t b = m->plan.batch, l = m->plan.length;
    bool positions = io->drops_positions;
    if (io->dropout_in > 0)
        TRY(op_alloc(be, &m->mask_in, real, 3, b, 1, io->input, 1, err));
    if (io->dropout_out > 0)
        TRY(op_alloc(be, &m->mask_out, real, 3, b, positions ? l : 1, positions ? 1 : io->output, 1,
                     err));
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
    const struct cell_io *io = &m->cell->io;
    int64_t b = m->plan.batch, l = m->plan.length;
    m->e = tensor_make(NULL, real, 3, b, l, io->input, 1);
    /* from several tables it is not looked up again: how many rows each has differs by the batch,
     * and ends what a device runs at once */
    bool again = m->plan.train && embedding_index_clusters(&m->vocab.embedding).count == 1;
    m->e_lent = again && idle_take(&m->eq->idle, &m->e, false);
    if (!m->e_lent)
        TRY(op_alloc(be, &m->e, real, 3, b, l, io->input, 1, err));
    TRY(op_alloc(be, &m->nll, real, 1, b * l, 1, 1, 1, err));
    if (m->plan.train)
        TRY(plan_masks(m, err));
    if (!m->sees_all || m->mask_out.data != NULL)
        TRY(op_alloc(be, &m->out, real, 3, b, l, io->output, 1, err));
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

/* Of weight-normalised matrices the cell holds the effective values; their gradients gather where
 * those of the parameters do. */
static size_t effective_bytes(const struct model *m)
{
    const struct params *p = m->params;
    int64_t numbers = 0;
    for (int i = 0; i < p->count; i++)
        if (p->list[i].norm_of >= 0)
            numbers += param_count(&p->list[p->list[i].norm_of]);
    return (size_t)numbers * dtype_size(m->be->ops->real);
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
    struct cell_io io = cell_kind_of(&config->model)->io(&config->model);
    struct equilibrium_plan solve = {plan->batch, plan->length, io.state, plan->train};
    TRY_OUT(equilibrium_create(&m->eq, be, config, &solve, err));
    bytes->solver = m->eq->solver_bytes;
    bytes->states = since(be, &mark) - bytes->solver;
    TRY_OUT(plan_gradients(m, &io, err));
    bytes->ends = since(be, &mark);
    /* Losses come between solves and their gradients. What is lent from here on may lie there. */
    struct tensor logits = idle_largest(&m->eq->idle, be->ops->real);
    TRY_OUT(create_cell(m, err));
    equilibrium_attach(m->eq, m->cell, config);
    m->sees_all = io.output == io.state;
    bytes->parameters += effective_bytes(m);
    bytes->cell = since(be, &mark) - effective_bytes(m);
    bytes->remembered = remembered_bytes(m);
    TRY_OUT(vocabulary_layers_create(&m->vocab, m->params, &config->model,
                                     plan->batch * plan->length, &logits, err));
    bytes->vocabulary = since(be, &mark);
    TRY_OUT(plan_tensors(m, err));
    TRY_OUT(initial_guess_create(&m->guess, m->params, &config->model, plan->batch, plan->length,
                                 plan->train, err));
    if (plan->train) {
        struct loss_term_plan terms = {.config = &m->config,
                                       .batch = plan->batch,
                                       .length = plan->length,
                                       .cell = m->cell,
                                       .spare_tape = equilibrium_tapes(config, true),
                                       .guess = &m->guess};
        TRY_OUT(loss_terms_create(&m->terms, &terms, err));
        equilibrium_set_monitor(m->eq, loss_terms_observe, &m->terms);
    }
    bytes->ends += since(be, &mark);
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
    struct tensor *const owned[] = {&m->out,       &m->nll,        &m->dstate,
                                    &m->de,        &m->mask_in,    &m->mask_out,
                                    &m->mask_word, &m->mask_token, &m->found};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        op_release(m->be, owned[i]);
    if (!m->e_lent)
        op_release(m->be, &m->e);
    if (!m->dq_lent)
        op_release(m->be, &m->dq);
    initial_guess_free(&m->guess, m->be);
    loss_terms_free(&m->terms);
    equilibrium_free(m->eq);
    if (m->cell != NULL)
        m->cell->ops->free(m->cell);
    vocabulary_layers_free(&m->vocab, m->be);
    params_free(&m->own);
    mem_free(m);
}
