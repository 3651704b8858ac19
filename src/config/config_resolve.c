/* What keys must satisfy together. Each key by itself was checked when it was read. */
#include "config/config.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static enum status check_cell(struct config *config, struct error *err)
{
    switch (config->model.cell) {
#define RESOLVE(NAME, name) \
    case CELL_##NAME:       \
        return name##_cell_resolve(config, err);
        CELLS(RESOLVE)
#undef RESOLVE
    }
    assert(!"a cell out of its range");
    return STATUS_INTERNAL;
}

static enum status check_layers(struct config *config, struct error *err)
{
    struct config_model *m = &config->model;
    if (m->layers == 0 && !m->tie_layers)
        return error_set(err, STATUS_CONFIG,
                         "model.tie_layers: false has no meaning without model.layers");
    if (config_is_layered(m) && m->blocks != 1)
        return error_set(
            err, STATUS_CONFIG,
            "model.blocks: set it to 1 with untied layers: model.layers counts blocks");
    if (config->gradient.recompute > 0 && m->blocks != 1)
        return error_set(err, STATUS_CONFIG,
                         "gradient.recompute: it does not keep what the memory of stacked blocks "
                         "needs; set it to 0, or model.blocks to 1");
    if (m->layers > 0) {
        config->train.pretrain_steps = 0; /* layers are unrolled from the start */
        m->start = START_ZERO;            /* nothing is solved */
    }
    return STATUS_OK;
}

static enum status check_clusters(struct config_model *m, struct error *err)
{
    int64_t previous = 0, width = m->d_embed;
    for (int64_t i = 0; i < m->cutoffs.count; i++) {
        int64_t cut = m->cutoffs.value[i];
        if (cut <= previous)
            return error_set(err, STATUS_CONFIG,
                             "model.cutoffs: must ascend, but %lld follows %lld", (long long)cut,
                             (long long)previous);
        if (m->vocab_size != 0 && cut >= m->vocab_size)
            return error_set(err, STATUS_CONFIG,
                             "model.cutoffs: %lld must be below the vocabulary of %lld tokens",
                             (long long)cut, (long long)m->vocab_size);
        previous = cut;
        width /= m->div_val;
    }
    if (m->div_val > 1 && m->cutoffs.count == 0)
        return error_set(err, STATUS_CONFIG,
                         "model.div_val: %lld has no meaning without model.cutoffs; set it to 1",
                         (long long)m->div_val);
    if (width == 0)
        return error_set(err, STATUS_CONFIG,
                         "model.div_val: %lld to the power %lld is more than model.d_embed %lld: "
                         "the last cluster would have no width",
                         (long long)m->div_val, (long long)m->cutoffs.count, (long long)m->d_embed);
    int64_t clusters = m->cutoffs.count + 1;
    if (m->tie_projs.count == 0) {
        m->tie_projs.count = clusters;
        for (int64_t i = 0; i < clusters; i++)
            m->tie_projs.value[i] = i > 0;
    }
    if (m->tie_projs.count != clusters)
        return error_set(err, STATUS_CONFIG,
                         "model.tie_projs: want %lld entries, one more than model.cutoffs, or "
                         "none; got %lld",
                         (long long)clusters, (long long)m->tie_projs.count);
    return STATUS_OK;
}

static enum status check_solver(const struct solver_config *s, const struct config_limits *limits,
                                const char *name, struct error *err)
{
    if (s->min_iter > s->max_iter)
        return error_set(err, STATUS_CONFIG, "solver.%s.min_iter: %lld is more than max_iter %lld",
                         name, (long long)s->min_iter, (long long)s->max_iter);
    if (limits->rand_delta >= s->max_iter)
        return error_set(err, STATUS_CONFIG,
                         "solver.%s.rand_delta: %lld would leave no evaluation of max_iter %lld",
                         name, (long long)limits->rand_delta, (long long)s->max_iter);
    if (s->line_search && s->method != SOLVE_BROYDEN)
        return error_set(err, STATUS_CONFIG,
                         "solver.%s.line_search: only the method broyden has one; set it to false",
                         name);
    return STATUS_OK;
}

/* Whether training steps apply f so many times and solve nothing. */
static bool gradient_replaces_solve(const struct config *c)
{
    return c->gradient.method == GRADIENT_UNROLL || c->gradient.method == GRADIENT_REVERSIBLE ||
           c->gradient.method == GRADIENT_TRUNCATED;
}

/* What undoing reversible steps may enlarge rounding errors by. In float32 1e-3 is then left. */
static const double MOST_UNDONE = 1e4;

static enum status check_gradient(const struct config *c, struct error *err)
{
    double damping = c->gradient.damping;
    if (c->gradient.method != GRADIENT_REVERSIBLE || c->model.layers > 0)
        return STATUS_OK;
    if (!(pow(1 - damping, -(double)c->gradient.steps) <= MOST_UNDONE))
        return error_set(err, STATUS_CONFIG,
                         "gradient.damping: undoing %lld reversible steps of %g would multiply "
                         "rounding errors by more than %g; lower it, to 0.5 as published, or "
                         "gradient.steps",
                         (long long)c->gradient.steps, damping, MOST_UNDONE);
    return STATUS_OK;
}

static enum status check_extra_losses(const struct config *c, struct error *err)
{
    const struct config_list *at = &c->correction.at;
    bool penalty = config_has_penalty(c);
    if (c->model.layers > 0 && (penalty || c->correction.weight > 0))
        return error_set(err, STATUS_CONFIG,
                         "%s.weight: an explicit network (model.layers %lld) has no equilibrium; "
                         "set it to 0",
                         penalty ? "jacobian" : "correction", (long long)c->model.layers);
    if (penalty && c->gradient.recompute > 0)
        return error_set(
            err, STATUS_CONFIG,
            "jacobian.weight: the penalty needs what gradient.recompute does not keep; "
            "set one of them to 0");
    if (c->correction.weight > 0 && at->count == 0)
        return error_set(err, STATUS_CONFIG,
                         "correction.weight: %g needs iterates in correction.at, for example [4]",
                         c->correction.weight);
    if (c->correction.weight > 0 && gradient_replaces_solve(c))
        return error_set(err, STATUS_CONFIG,
                         "correction.weight: this gradient.method has no solve whose iterates "
                         "could be corrected; set it to 0");
    for (int64_t i = 0; i < at->count; i++)
        if (at->value[i] < 1 || at->value[i] >= c->solver.forward.max_iter ||
            (i > 0 && at->value[i] <= at->value[i - 1]))
            return error_set(err, STATUS_CONFIG,
                             "correction.at: want ascending numbers below solver.forward.max_iter "
                             "%lld, got %lld",
                             (long long)c->solver.forward.max_iter, (long long)at->value[i]);
    return STATUS_OK;
}

static enum status check_train(const struct config_train *t, struct error *err)
{
    if (t->lr_min > t->lr)
        return error_set(err, STATUS_CONFIG, "train.lr_min: %g is more than train.lr %g", t->lr_min,
                         t->lr);
    if (t->cautious_decay && t->optimizer == OPTIMIZER_ADAM)
        return error_set(err, STATUS_CONFIG,
                         "train.cautious_decay: adam's weight decay is a term of its gradient; set "
                         "train.optimizer to adamw or muon, or this key to false");
    if (t->batch % t->accumulate != 0)
        return error_set(err, STATUS_CONFIG,
                         "train.accumulate: %lld does not divide train.batch %lld",
                         (long long)t->accumulate, (long long)t->batch);
    return STATUS_OK;
}

enum status config_resolve(struct config *config, int64_t vocab_size, struct error *err)
{
    struct config_model *m = &config->model;
    if (m->vocab_size != 0 && vocab_size != 0 && m->vocab_size != vocab_size)
        return error_set(err, STATUS_CONFIG,
                         "model.vocab_size: the configuration says %lld, the data in %s has %lld "
                         "tokens; set it to 0 to take the data's",
                         (long long)m->vocab_size, config->data.dir, (long long)vocab_size);
    if (m->vocab_size == 0)
        m->vocab_size = vocab_size;
    TRY(check_cell(config, err));
    TRY(check_layers(config, err));
    TRY(check_clusters(m, err));
    TRY(check_solver(&config->solver.forward, &config->solver.forward_limits, "forward", err));
    TRY(check_solver(&config->solver.backward, &config->solver.backward_limits, "backward", err));
    TRY(check_gradient(config, err));
    TRY(check_extra_losses(config, err));
    return check_train(&config->train, err);
}
