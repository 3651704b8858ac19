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

/* The last phase in which f is evaluated, see struct cell_plan. */
static enum phase last_eval(const struct model *m, const struct loss_term_needs *terms)
{
    if (m->plan.replay || (!m->plan.train && m->plan.vjp))
        return PHASE_REMEMBER;
    bool later = terms->spare_slot || equilibrium_recomputes(&m->config);
    return m->plan.train && later ? PHASE_GRADIENTS : PHASE_OUTPUT;
}

static enum cell_mode mode_of(const struct model_plan *plan, const struct loss_term_needs *terms)
{
    if (!plan->train)
        return plan->vjp ? CELL_VJP : CELL_EVAL;
    return terms->tangents ? CELL_TANGENT : CELL_TRAIN;
}

static enum status create_cell(struct model *m, const struct loss_term_needs *terms,
                               enum phase last_head, struct error *err)
{
    const struct config_model *c = &m->config.model;
    bool states = m->plan.train || m->plan.keep_states;
    struct cell_plan plan = {
        .ws = m->ws,
        .batch = m->plan.batch,
        .length = m->plan.length,
        .mem_len = m->plan.mem_len,
        .memories = m->plan.memories > 0 ? m->plan.memories : 1,
        .mode = mode_of(&m->plan, terms),
        .memory = states ? MEMORY_STATES : MEMORY_KEYS,
        .slots = equilibrium_slots(&m->config, m->plan.train) + terms->spare_slot,
        .spare_slots = terms->spare_slot,
        .later_slots = equilibrium_later_slots(&m->config),
        .last_eval = last_eval(m, terms),
        .last_head = last_head,
        .keep_hidden = equilibrium_keeps_all(&m->config),
        .rows = !m->plan.train || m->config.solver.forward.stop != STOP_FIXED,
    };
    return cell_kind_of(c)->create(&m->cell, m->params, c, &plan, err);
}

static void declare(struct model *m, struct tensor *t, const char *name, struct lifetime life,
                    const struct tensor *shape)
{
    struct buffer b = {.name = name, .dtype = m->be->ops->real, .ndim = shape->ndim, .life = life};
    for (int i = 0; i < shape->ndim; i++)
        b.dim[i] = shape->dim[i];
    workspace_declare(m->ws, t, &b);
}

/* A shape [B,L,width]. */
static struct tensor positions(const struct model *m, int64_t length, int64_t width)
{
    return tensor_make(NULL, m->be->ops->real, 3, m->plan.batch, length, width, 1);
}

static void declare_gradients(struct model *m, enum phase last_loss)
{
    const struct cell_io *io = &m->cell->io;
    int64_t l = m->plan.length;
    struct tensor out = positions(m, l, io->output), state = positions(m, l, io->state);
    struct tensor in = positions(m, l, io->input);
    struct lifetime loss =
        lives(PHASE_LOSS, last_loss > PHASE_BACKWARD ? last_loss : PHASE_BACKWARD);
    declare(m, &m->dq, "gradient of the output", m->sees_all ? loss : lives(PHASE_LOSS, last_loss),
            &out);
    if (!m->sees_all)
        declare(m, &m->dstate, "gradient of the output's state", loss, &state);
    declare(m, &m->de, "gradient of the embedding", lives(PHASE_GRADIENTS, PHASE_GRADIENTS), &in);
}

/* Tests and deq verify give masks by hand, so that they last. */
static void declare_masks(struct model *m)
{
    const struct cell_io *io = &m->cell->io;
    const struct config_model *c = &m->config.model;
    int64_t n = m->plan.batch * m->plan.length, l = m->plan.length;
    struct tensor in = positions(m, 1, io->input), out = positions(m, 1, io->output);
    struct tensor word = tensor_make(NULL, in.dtype, 2, c->vocab_size, 1, 1, 1), found = word;
    struct tensor token = positions(m, l, 1);
    found.dim[0] = n;
    if (io->dropout_in > 0)
        declare(m, &m->mask_in, "dropout: embedding", lives_always(), &in);
    if (io->dropout_out > 0)
        declare(m, &m->mask_out, "dropout: output", lives_always(),
                io->drops_positions ? &token : &out);
    if (c->emb_dropout == 0)
        return;
    declare(m, &m->mask_word, "dropout: words", lives_always(), &word);
    declare(m, &m->found, "dropout: words found", lives(PHASE_EMBED, PHASE_EMBED), &found);
    declare(m, &m->mask_token, "dropout: tokens", lives(PHASE_EMBED, PHASE_GRADIENTS), &token);
}

static void declare_tensors(struct model *m, enum phase last_loss)
{
    const struct cell_io *io = &m->cell->io;
    int64_t l = m->plan.length;
    struct tensor in = positions(m, l, io->input), out = positions(m, l, io->output);
    struct tensor losses = tensor_make(NULL, in.dtype, 1, m->plan.batch * l, 1, 1, 1);
    declare(m, &m->e, "embedded tokens", lives(PHASE_EMBED, PHASE_REMEMBER), &in);
    declare(m, &m->nll, "losses", lives(PHASE_LOSS, PHASE_UPDATE), &losses);
    if (!m->sees_all || (m->plan.train && io->dropout_out > 0))
        declare(m, &m->out, "output without the rest", lives(PHASE_OUTPUT, last_loss), &out);
    if (!m->plan.train)
        return;
    declare_masks(m);
    declare_gradients(m, last_loss);
}

static void note_bytes(struct model *m)
{
    struct model_bytes *b = &m->bytes;
    unsigned states = 1u << PART_WORK | 1u << PART_ACTIVATIONS;
    b->vocabulary = workspace_peak(m->ws, 1u << PART_LOGITS, NULL);
    b->remembered = workspace_peak(m->ws, 1u << PART_MEMORY, NULL);
    b->parameters = workspace_peak(m->ws, 1u << PART_PARAMETERS, NULL);
    if (m->own.ws != NULL)
        b->parameters += workspace_bytes(m->own.ws);
    b->activations = workspace_peak(m->ws, states, NULL);
    b->solver = workspace_peak(m->ws, states | 1u << PART_SOLVER, NULL) - b->activations;
    /* Bytes lost between buffers count too. */
    b->solver += workspace_bytes(m->ws) - workspace_peak(m->ws, ~0u, NULL);
}

/* Everything but the parameters: declared, then planned and allocated at once. */
static enum status create_parts(struct model *m, struct error *err)
{
    const struct model_plan *plan = &m->plan;
    const struct config *config = &m->config;
    struct loss_term_needs needs = {0};
    struct cell_io io = cell_kind_of(&config->model)->io(&config->model);
    struct equilibrium_plan solve = {m->ws, plan->batch, plan->length, io.state, plan->train};
    struct initial_guess_plan guess = {m->ws, plan->batch, plan->length, plan->train};
    if (plan->train)
        needs = loss_terms_needs(config);
    /* Without training, what the softmax sees and gives is read after the segment has ended too. */
    struct vocabulary_plan words = {.capacity = plan->batch * plan->length,
                                    .train = plan->train,
                                    .last_loss = !plan->train   ? PHASE_UPDATE
                                                 : needs.losses ? PHASE_GRADIENTS
                                                                : PHASE_LOSS};
    m->sees_all = io.output == io.state && !io.head;
    TRY(equilibrium_create(&m->eq, config, &solve, err));
    TRY(create_cell(m, &needs, words.last_loss, err));
    TRY(vocabulary_layers_create(&m->vocab, m->params, &config->model, m->ws, &words, err));
    declare_tensors(m, words.last_loss);
    initial_guess_bind(&m->guess, m->params, &config->model, &guess);
    struct loss_term_plan terms = {.ws = m->ws,
                                   .config = config,
                                   .batch = plan->batch,
                                   .length = plan->length,
                                   .cell = m->cell,
                                   .spare_slot = equilibrium_slots(config, true),
                                   .guess = &m->guess};
    if (plan->train)
        TRY(loss_terms_create(&m->terms, &terms, err));
    TRY(workspace_commit(m->ws, err));
    TRY(m->cell->ops->init(m->cell, err));
    equilibrium_attach(m->eq, m->cell, config);
    if (plan->train)
        equilibrium_set_monitor(m->eq, loss_terms_observe, &m->terms);
    return STATUS_OK;
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
    TRY_OUT(workspace_create(&m->ws, be, err));
    TRY_OUT(create_parts(m, err));
    note_bytes(m);
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
    loss_terms_free(&m->terms);
    equilibrium_free(m->eq);
    if (m->cell != NULL)
        m->cell->ops->free(m->cell);
    vocabulary_layers_free(&m->vocab);
    workspace_free(m->ws);
    params_free(&m->own);
    mem_free(m);
}
