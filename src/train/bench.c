#include "train/bench.h"

#include "base/clock.h"
#include "base/mem.h"
#include <math.h>
#include <stdlib.h>

enum { WARM_STEPS = 3, SEED = 1 };

enum status bench_train_setting(struct config *config, struct error *err)
{
    static const char *const settings[] = {
        "model.d_model=256",
        "model.n_head=8",
        "model.d_inner=1024",
        "model.wnorm=true",
        "model.dropout=0",
        "model.init_std=0.05",
        "train.batch=8",
        "train.tgt_len=64",
        "train.mem_len=64",
        "train.pretrain_steps=0",
        "train.clip=0.25",
        "solver.forward.method=broyden",
        "solver.forward.scope=batch",
        "solver.forward.stop=fixed",
        "solver.forward.max_iter=13",
        "solver.forward.history=11",
        "solver.backward.method=broyden",
        "solver.backward.scope=batch",
        "solver.backward.stop=fixed",
        "solver.backward.max_iter=12",
        "solver.backward.history=11",
    };
    config_defaults(config);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        TRY(config_set(config, settings[i], err));
    return config_resolve(config, 10000, err);
}

struct bench {
    struct model *model;
    struct optimizer optimizer;
    int32_t *tokens; /* owns: input and target [2 * B*L] */
    int64_t count;   /* B*L */
    uint64_t drawn;
};

/* Token ids whose frequency falls like 1/rank, as that of words. */
static void draw_tokens(struct bench *b)
{
    double vocab = (double)b->model->config.model.vocab_size;
    struct rng_key key = {SEED, rng_stream(RNG_SAMPLE, 0, 0)};
    for (int64_t i = 0; i < 2 * b->count; i++)
        b->tokens[i] = (int32_t)(pow(vocab, rng_uniform(key, b->drawn++)) - 1);
}

static enum status one_step(struct bench *b, int64_t n, struct error *err)
{
    struct model *m = b->model;
    struct masks masks = {.source = MASKS_DRAWN, .seed = SEED, .draw = (uint64_t)n};
    double norm;
    draw_tokens(b);
    model_refresh(m);
    model_begin(m, b->tokens, m->plan.length, &masks);
    TRY(model_solve(m, 0, true, err));
    model_loss(m, b->tokens + b->count, 1.0 / (double)b->count, true);
    TRY(model_backward(m, err));
    model_remember(m);
    (void)model_read_loss(m, NULL);
    model_finish_gradients(m);
    optimizer_step(&b->optimizer, m->config.train.lr, &norm);
    return backend_check(m->be, err);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum status timed_steps(struct bench *b, int64_t steps, bench_between_fn between, void *ctx,
                               struct bench_step_result *r, double *times, struct error *err)
{
    struct backend *be = b->model->be;
    for (int64_t i = 0; i < WARM_STEPS; i++)
        TRY(one_step(b, i, err));
    backend_reset_stats(be);
    for (int64_t i = 0; i < steps; i++) {
        double start = clock_seconds();
        TRY(one_step(b, WARM_STEPS + i, err));
        times[i] = clock_seconds() - start;
        r->total_seconds += times[i];
        if (between != NULL)
            between(ctx);
    }
    for (int i = 0; i < OP_COUNT; i++)
        r->stat[i] = be->stat[i];
    qsort(times, (size_t)steps, sizeof *times, compare);
    r->seconds = times[steps / 2];
    r->fastest = times[0];
    return STATUS_OK;
}

enum status bench_train(struct backend *be, const struct config *config, int64_t steps,
                        bench_between_fn between, void *ctx, struct bench_step_result *r,
                        struct error *err)
{
    enum status status = STATUS_OK;
    const struct config_train *c = &config->train;
    struct model_plan plan = {
        .batch = c->batch, .length = c->tgt_len, .mem_len = c->mem_len, .train = true};
    struct bench b = {.count = c->batch * c->tgt_len};
    struct solve_report forward, backward;
    double *times = NULL;
    *r = (struct bench_step_result){.tokens = b.count};
    TRY_OUT(mem_alloc((void **)&times, (size_t)steps, sizeof *times, err));
    TRY_OUT(mem_alloc((void **)&b.tokens, (size_t)(2 * b.count), sizeof *b.tokens, err));
    TRY_OUT(model_create(&b.model, be, config, NULL, &plan, err));
    TRY_OUT(params_initialize(b.model->params, SEED, err));
    TRY_OUT(optimizer_create(&b.optimizer, b.model->params, c, err));
    r->parameters = params_distinct(b.model->params, NULL);
    TRY_OUT(timed_steps(&b, steps, between, ctx, r, times, err));
    TRY_OUT(equilibrium_report(b.model->eq, &forward, &backward, err));
    r->forward_evals = (double)forward.evals;
    r->backward_evals = (double)backward.evals;
out:
    optimizer_free(&b.optimizer);
    model_free(b.model);
    mem_free(b.tokens);
    mem_free(times);
    return status;
}
