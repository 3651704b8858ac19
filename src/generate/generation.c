/* Incremental decoding of one text or several, with the cell's memory as cache. */
#include "generate/generation.h"

#include "backend/count/memory_check.h"
#include "base/mem.h"
#include <string.h>

static const struct masks no_masks = {.source = MASKS_NONE};

/* Statistics of a whole batch would let a text see the others. Of one text they are those of its
 * sequence. */
static struct config alone(const struct config *config)
{
    struct config c = *config;
    if (c.solver.forward.scope == SCOPE_BATCH && !c.solver.forward.line_search)
        c.solver.forward.scope = SCOPE_SEQUENCE;
    return c;
}

enum status generation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, struct error *err)
{
    struct config c = alone(config);
    /* memory and the position itself make a whole window */
    struct model_plan plan = {.batch = 1,
                              .length = config->eval.tgt_len,
                              .mem_len = config->eval.mem_len + config->eval.tgt_len - 1};
    return model_create(out, be, &c, shared, &plan, err);
}

enum status generation_batch_model(struct model **out, struct backend *be,
                                   const struct config *config, struct params *shared,
                                   int64_t streams, struct error *err)
{
    struct config c = alone(config);
    struct model_plan plan = {
        .batch = streams, .length = 1, .mem_len = config->eval.mem_len + config->eval.tgt_len - 1};
    assert(streams > 1 && streams <= GENERATION_STREAMS);
    if (c.solver.forward.line_search)
        return error_set(err, STATUS_CONFIG,
                         "solver.forward.line_search: one step length for all would mix the texts; "
                         "make them one at a time, each with a seed of its own");
    return model_create(out, be, &c, shared, &plan, err);
}

struct planned_generation {
    const struct config *config;
    int64_t streams;
};

static enum status plan_models(const void *what, struct backend *be, struct error *err)
{
    const struct planned_generation *p = what;
    struct model *m = NULL, *many = NULL;
    enum status status = generation_model(&m, be, p->config, NULL, err);
    if (status == STATUS_OK && p->streams > 1)
        status = generation_batch_model(&many, be, p->config, m->params, p->streams, err);
    model_free(many);
    model_free(m);
    return status;
}

enum status generation_check_memory(const struct backend *be, const struct config *config,
                                    int64_t streams, struct error *err)
{
    const struct planned_generation p = {config, streams};
    size_t wanted = 0, limit = memory_check_limit(be);
    if (limit == 0)
        return STATUS_OK;
    TRY(memory_check_measure(be, plan_models, &p, &wanted, err));
    if (wanted <= limit)
        return STATUS_OK;
    return error_set(err, STATUS_DEVICE,
                     "this model wants %.2f GiB of device memory, %.2f more than there are: end "
                     "what else runs there (nvidia-smi), or use --device cpu",
                     memory_check_gib(wanted), memory_check_gib(wanted - limit));
}

/* Every position stops by the tolerance, so that an easy token does not pay for a hard one. */
static enum status set_limits(struct model *m, struct error *err)
{
    const struct solver_config *c = &m->config.solver.forward;
    bool fixed = c->stop == STOP_FIXED;
    return model_set_limits(m, DIRECTION_FORWARD, m->config.eval.max_iter,
                            fixed ? GENERATION_TOL : c->tol, fixed ? STOP_REL : c->stop, err);
}

static enum status create_texts(struct generator *g, struct error *err)
{
    int64_t last = g->plan.how.repeat_last;
    for (int64_t i = 0; i < g->streams; i++) {
        uint64_t number = (uint64_t)(g->plan.first + i);
        g->text[i].key = (struct rng_key){g->plan.seed, rng_stream(RNG_SAMPLE, number, 0)};
        if (last > 0)
            TRY(mem_alloc((void **)&g->text[i].recent, (size_t)last, 2 * sizeof(int32_t), err));
    }
    return STATUS_OK;
}

enum status generator_create(struct generator *g, const struct generator_plan *plan,
                             struct error *err)
{
    enum status status = STATUS_OK;
    struct model *m = plan->model;
    int64_t vocab = m->config.model.vocab_size;
    assert(m->plan.batch == 1 && !m->plan.train);
    *g = (struct generator){.plan = *plan, .m = m, .window = m->plan.mem_len + 1};
    g->streams = plan->many != NULL ? plan->many->plan.batch : 1;
    TRY_OUT(set_limits(m, err));
    if (plan->many != NULL)
        TRY_OUT(set_limits(plan->many, err));
    TRY_OUT(sampler_create(&g->sampler, &plan->how, vocab, err));
    TRY_OUT(mem_alloc((void **)&g->logp, (size_t)(g->streams * vocab), sizeof *g->logp, err));
    TRY_OUT(mem_alloc((void **)&g->log_sum, (size_t)g->streams, sizeof *g->log_sum, err));
    TRY_OUT(create_texts(g, err));
    generator_forget(g);
    return STATUS_OK;
out:
    generator_free(g);
    return status;
}

void generator_free(struct generator *g)
{
    sampler_free(&g->sampler);
    mem_free(g->logp);
    mem_free(g->log_sum);
    for (int64_t i = 0; i < g->streams; i++)
        mem_free(g->text[i].recent);
    *g = (struct generator){0};
}

void generator_forget(struct generator *g)
{
    g->m = g->plan.model;
    model_reset_memory(g->m);
    for (int64_t i = 0; i < g->streams; i++)
        g->text[i].recent_count = 0;
}

/* Notes a token for the penalty. When the room is full, the newer half moves to the front. */
static void note_recent(const struct generator *g, struct generator_text *t, int32_t token)
{
    int64_t last = g->plan.how.repeat_last;
    if (last == 0)
        return;
    if (t->recent_count == 2 * last) {
        memcpy(t->recent, t->recent + last, (size_t)last * sizeof *t->recent);
        t->recent_count = last;
    }
    t->recent[t->recent_count++] = token;
}

/* All positions of a segment share one memory, which must not be longer than the last one may see.
 * With segments of one token it never is. */
static void limit_memory(struct generator *g, int64_t length)
{
    struct memory *memory;
    for (int i = 0; (memory = g->m->cell->ops->memory(g->m->cell, i)) != NULL; i++)
        memory_keep(memory, g->window - length);
}

/* Solves for tokens[streams,length] of the model that is fed now. */
static enum status feed_segment(struct generator *g, const int32_t *tokens, int64_t length,
                                struct error *err)
{
    struct model *m = g->m;
    struct solve_report report;
    if (m->plan.batch == 1)
        limit_memory(g, length);
    model_begin(m, tokens, length, &no_masks);
    TRY(model_solve(m, 0, false, err));
    TRY(model_report(m, &report, NULL, err));
    model_remember(m);
    g->evals += report.evals_mean * (double)(m->plan.batch * length);
    g->solved += m->plan.batch * length;
    g->positions += length;
    return STATUS_OK;
}

/* The log-probabilities of what follows the last position of each stream. */
static enum status read_logp(struct generator *g, struct error *err)
{
    struct model *m = g->m;
    int64_t rows = m->plan.batch, vocab = m->config.model.vocab_size;
    struct tensor q = tensor_matrix(&m->q), last = tensor_slice(&q, rows * m->length - rows, rows);
    double *log_sum = g->plan.how.repeat_penalty != 1 ? g->log_sum : NULL;
    TRY(adaptive_softmax_logp(&m->vocab.softmax, m->be, &last, g->logp, log_sum, err));
    for (int64_t i = rows; i < g->streams; i++) { /* what all texts share has been read once */
        memcpy(g->logp + i * vocab, g->logp, (size_t)vocab * sizeof *g->logp);
        g->log_sum[i] = g->log_sum[0];
    }
    return backend_check(m->be, err);
}

enum status generator_feed(struct generator *g, const int32_t *tokens, int64_t count,
                           struct error *err)
{
    struct model *m = g->m;
    assert(count >= 1 && m == g->plan.model);
    for (int64_t at = 0; at < count; at += m->length) {
        int64_t length = count - at < m->plan.length ? count - at : m->plan.length;
        TRY(feed_segment(g, tokens + at, length, err));
    }
    for (int64_t i = 0; i < g->streams; i++)
        for (int64_t k = 0; k < count; k++)
            note_recent(g, &g->text[i], tokens[k]);
    return read_logp(g, err);
}

enum status generator_step(struct generator *g, const int32_t *tokens, struct error *err)
{
    if (g->streams == 1)
        return generator_feed(g, tokens, 1, err);
    if (g->m != g->plan.many) {
        model_spread_memory(g->plan.many, g->m);
        g->m = g->plan.many;
    }
    TRY(feed_segment(g, tokens, 1, err));
    for (int64_t i = 0; i < g->streams; i++)
        note_recent(g, &g->text[i], tokens[i]);
    return read_logp(g, err);
}

enum status generator_draw(struct generator *g, int32_t *tokens, struct error *err)
{
    int64_t vocab = g->sampler.vocab;
    assert(g->positions > 0);
    for (int64_t i = 0; i < g->streams; i++) {
        const struct generator_text *t = &g->text[i];
        struct sampler_input in = {.logp = g->logp + i * vocab,
                                   .log_sum = g->log_sum[i],
                                   .recent = t->recent,
                                   .recent_count = t->recent_count,
                                   .u = rng_uniform(t->key, (uint64_t)g->positions)};
        TRY(sampler_pick(&g->sampler, &in, &tokens[i], err));
    }
    return STATUS_OK;
}
