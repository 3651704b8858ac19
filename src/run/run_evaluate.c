/* The evaluations of a run. */
#include "run/run_impl.h"

/* Ranks share the streams of an evaluation where they can be divided; else each makes all of it. */
static bool shares_evaluation(const struct trainer *t)
{
    return t->config.eval.batch % dist_size(t->dist) == 0;
}

enum status run_open_validation(struct run *run, struct error *err)
{
    const struct trainer *t = &run->trainer;
    struct config c = t->config;
    struct stream_config data = {
        .dir = c.data.dir, .split = "valid", .batch = c.eval.batch, .length = c.eval.tgt_len};
    if (shares_evaluation(t)) {
        int ranks = dist_size(t->dist);
        data.share = (struct stream_share){1, ranks, dist_rank(t->dist)};
        c.eval.batch /= ranks;
    }
    enum status status = stream_open(&run->valid, &data, err);
    if (status == STATUS_NOINPUT) {
        run_log_message(run, "no validation split in %s: training without evaluation", c.data.dir);
        return STATUS_OK;
    }
    TRY(status);
    return evaluation_model(&run->eval_model, t->be, &c, t->model->params, false, err);
}

bool run_evaluation_due(const struct run *run)
{
    const struct config_train *c = &run->trainer.config.train;
    const struct train_state *state = &run->trainer.state;
    bool now = state->step == c->steps || (c->eval_every > 0 && state->step % c->eval_every == 0);
    return run->eval_model != NULL && now && state->evaluated < state->step;
}

static bool on_progress(void *ctx, int64_t tokens, double nll)
{
    struct run *run = ctx;
    (void)nll;
    if (run->observer->evaluating != NULL)
        run->observer->evaluating(run->observer->ctx, tokens, stream_tokens_per_epoch(run->valid));
    return !run_must_stop(run);
}

enum status run_evaluate(struct run *run, bool *best, struct error *err)
{
    struct trainer *t = &run->trainer;
    const struct config *c = &t->config;
    struct evaluation_options options = {.max_iter = c->eval.max_iter,
                                         .leak_segments = 1,
                                         .dist = shares_evaluation(t) ? t->dist : NULL,
                                         .progress = on_progress,
                                         .ctx = run};
    struct evaluation_result result;
    *best = false;
    if (t->state.step <= c->train.pretrain_steps)
        options.layers = c->train.pretrain_layers;
    model_refresh(run->eval_model);
    enum status status = evaluation_run(run->eval_model, run->valid, &options, &result, err);
    if (status == STATUS_STOPPED)
        return STATUS_OK;
    TRY(status);
    *best = result.nll < t->state.best_nll;
    t->state.evaluated = t->state.step;
    if (*best) {
        t->state.best_nll = result.nll;
        t->state.best_step = t->state.step;
    }
    TRY(run_log_evaluation(run, &result, *best, err));
    if (run->observer->evaluation != NULL)
        run->observer->evaluation(run->observer->ctx, t, &result, *best);
    return STATUS_OK;
}
