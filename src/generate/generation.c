/* Incremental decoding with the cell's memory as cache. */
#include "generate/generation.h"

#include "backend/count/memory_check.h"
#include "base/mem.h"

static const struct masks no_masks = {.source = MASKS_NONE};

enum status generation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, struct error *err)
{
    /* memory and the position itself make a whole window */
    struct model_plan plan = {.batch = 1,
                              .length = config->eval.tgt_len,
                              .mem_len = config->eval.mem_len + config->eval.tgt_len - 1};
    return model_create(out, be, config, shared, &plan, err);
}

static enum status plan_model(const void *what, struct backend *be, struct error *err)
{
    struct model *m;
    TRY(generation_model(&m, be, what, NULL, err));
    model_free(m);
    return STATUS_OK;
}

enum status generation_check_memory(const struct backend *be, const struct config *config,
                                    struct error *err)
{
    size_t wanted = 0, limit = memory_check_limit(be);
    if (limit == 0)
        return STATUS_OK;
    TRY(memory_check_measure(be, plan_model, config, &wanted, err));
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

enum status generator_create(struct generator *g, struct model *m, const struct sampling *how,
                             uint64_t seed, struct error *err)
{
    int64_t vocab = m->config.model.vocab_size;
    assert(m->plan.batch == 1 && !m->plan.train);
    *g = (struct generator){.m = m, .window = m->plan.mem_len + 1};
    g->key = (struct rng_key){seed, rng_stream(RNG_SAMPLE, 0, 0)};
    enum status status = set_limits(m, err);
    if (status == STATUS_OK)
        status = sampler_create(&g->sampler, how, vocab, err);
    if (status == STATUS_OK)
        status = mem_alloc((void **)&g->logp, (size_t)vocab, sizeof *g->logp, err);
    if (status != STATUS_OK)
        generator_free(g);
    model_reset_memory(m);
    return status;
}

void generator_free(struct generator *g)
{
    sampler_free(&g->sampler);
    mem_free(g->logp);
    g->logp = NULL;
}

/* All positions of a segment share one memory, which must not be longer than the last one may see.
 */
static void limit_memory(struct generator *g, int64_t length)
{
    struct memory *memory;
    for (int i = 0; (memory = g->m->cell->ops->memory(g->m->cell, i)) != NULL; i++)
        memory_keep(memory, g->window - length);
}

static enum status feed_segment(struct generator *g, const int32_t *tokens, int64_t length,
                                struct error *err)
{
    struct model *m = g->m;
    struct solve_report report;
    limit_memory(g, length);
    model_begin(m, tokens, length, &no_masks);
    TRY(model_solve(m, 0, false, err));
    TRY(model_report(m, &report, NULL, err));
    model_remember(m);
    g->evals += report.evals_mean * (double)length;
    g->positions += length;
    return STATUS_OK;
}

enum status generator_feed(struct generator *g, const int32_t *tokens, int64_t count,
                           struct error *err)
{
    struct model *m = g->m;
    assert(count >= 1);
    for (int64_t at = 0; at < count; at += m->length) {
        int64_t length = count - at < m->plan.length ? count - at : m->plan.length;
        TRY(feed_segment(g, tokens + at, length, err));
    }
    struct tensor q = tensor_matrix(&m->q), last = tensor_slice(&q, m->length - 1, 1);
    TRY(adaptive_softmax_logp(&m->vocab.softmax, m->be, &last, g->logp, err));
    return backend_check(m->be, err);
}

enum status generator_draw(struct generator *g, int32_t *token, struct error *err)
{
    assert(g->positions > 0);
    double u = rng_uniform(g->key, (uint64_t)g->positions);
    return sampler_pick(&g->sampler, g->logp, u, token, err);
}
