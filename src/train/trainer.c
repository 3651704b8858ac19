#include "train/trainer.h"

#include "base/clock.h"
#include "train/schedule.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum status trainer_resolve_data(struct config *config, struct vocab **vocab, struct error *err)
{
    char path[CONFIG_MAX_PATH + 16];
    snprintf(path, sizeof path, "%s/vocab.txt", config->data.dir);
    enum status status = vocab_load(vocab, path, err);
    if (status == STATUS_NOINPUT) {
        char why[sizeof err->text];
        snprintf(why, sizeof why, "%.700s", err->text);
        return error_set(err, status, "%s (data.dir: make shards with deq tokenize --out %s)", why,
                         config->data.dir);
    }
    TRY(status);
    status = config_resolve(config, vocab_size(*vocab), err);
    if (status != STATUS_OK) {
        vocab_free(*vocab);
        *vocab = NULL;
    }
    return status;
}

static enum status continue_from(struct trainer *t, struct snapshot *from, struct error *err)
{
    t->state = from->state;
    if (vocab_hash(from->vocab) != vocab_hash(t->vocab))
        return error_set(err, STATUS_DATA, "%s: trained on another vocabulary than %s/vocab.txt",
                         checkpoint_path(from->file), t->config.data.dir);
    TRY(snapshot_read_params(from, t->model->params, err));
    TRY(snapshot_read_optimizer(from, &t->optimizer, err));
    TRY(snapshot_read_memory(from, t->model, err));
    return stream_seek(t->stream, t->state.epoch, t->state.segment, err);
}

enum status trainer_create(struct trainer *t, struct backend *be, const struct config *config,
                           struct snapshot *from, struct error *err)
{
    enum status status = STATUS_OK;
    const struct config_train *c = &config->train;
    *t = (struct trainer){.be = be, .config = *config, .state.best_nll = INFINITY};
    struct stream_config data = {
        .dir = t->config.data.dir, .split = "train", .batch = c->batch, .length = c->tgt_len};
    struct model_plan plan = {.batch = c->batch / c->accumulate,
                              .length = c->tgt_len,
                              .mem_len = c->mem_len,
                              .memories = (int)c->accumulate,
                              .train = true};
    TRY_OUT(backend_set_precision(be, (enum precision)c->precision, err));
    TRY_OUT(trainer_resolve_data(&t->config, &t->vocab, err));
    TRY_OUT(stream_open(&t->stream, &data, err));
    TRY_OUT(model_create(&t->model, be, &t->config, NULL, &plan, err));
    TRY_OUT(optimizer_create(&t->optimizer, t->model->params, c, err));
    if (from != NULL)
        TRY_OUT(continue_from(t, from, err));
    else
        TRY_OUT(params_initialize(t->model->params, (uint64_t)c->seed, err));
    return backend_check(be, err);
out:
    trainer_free(t);
    return status;
}

void trainer_free(struct trainer *t)
{
    optimizer_free(&t->optimizer);
    model_free(t->model);
    stream_close(t->stream);
    vocab_free(t->vocab);
    *t = (struct trainer){0};
}

static void add_report(struct solve_summary *s, const struct solve_report *r, double weight)
{
    s->evals_mean += weight * r->evals_mean;
    s->rel_mean += weight * r->rel_mean;
    s->evals_max = r->evals_max > s->evals_max ? r->evals_max : s->evals_max;
    if (!(r->rel_max <= s->rel_max))
        s->rel_max = r->rel_max;
    s->restarts += r->restarts;
    s->unconverged += r->rows - r->reasons[SOLVE_CONVERGED_ABS] - r->reasons[SOLVE_CONVERGED_REL] -
                      r->reasons[SOLVE_FIXED];
}

static enum status summarise(struct trainer *t, struct step_report *r, struct error *err)
{
    double weight = 1.0 / (double)t->config.train.accumulate;
    struct solve_report forward, backward;
    TRY(equilibrium_report(t->model->eq, &forward, &backward, err));
    add_report(&r->forward, &forward, weight);
    add_report(&r->backward, &backward, weight);
    return STATUS_OK;
}

/* Part `index` of the batch, from its tokens to its gradients. */
static enum status train_part(struct trainer *t, const struct batch *batch, int index,
                              struct step_report *r, struct error *err)
{
    struct model *m = t->model;
    int64_t n = m->plan.batch * batch->L, skip = index * n;
    struct masks masks = {.source = MASKS_DRAWN,
                          .seed = (uint64_t)t->config.train.seed,
                          .draw = (uint64_t)t->state.micro};
    model_select_memory(m, index);
    model_begin(m, batch->input + skip, batch->L, &masks);
    TRY(model_solve(m, r->layers, true, err));
    model_loss(m, batch->target + skip, 1.0 / (double)(batch->B * batch->L), true);
    TRY(model_backward(m, err));
    model_remember(m);
    r->loss += model_read_loss(m, NULL) * (double)n;
    r->tokens += n;
    t->state.micro++;
    return summarise(t, r, err);
}

static enum status train_segment(struct trainer *t, struct step_report *r, struct error *err)
{
    struct batch batch;
    TRY(stream_next(t->stream, &batch, err));
    if (batch.first)
        model_reset_memory(t->model);
    for (int i = 0; i < t->config.train.accumulate; i++)
        TRY(train_part(t, &batch, i, r, err));
    t->state.epoch = batch.epoch;
    t->state.segment = batch.segment + 1;
    if (t->state.segment == stream_segments(t->stream)) {
        t->state.epoch++;
        t->state.segment = 0;
    }
    return STATUS_OK;
}

enum status trainer_step(struct trainer *t, struct step_report *r, struct error *err)
{
    const struct config_train *c = &t->config.train;
    double start = clock_seconds();
    *r = (struct step_report){.step = t->state.step + 1};
    r->layers = r->step <= c->pretrain_steps ? c->pretrain_layers : t->config.model.layers;
    model_refresh(t->model);
    TRY(train_segment(t, r, err));
    model_finish_gradients(t->model);
    r->loss /= (double)r->tokens;
    r->lr = schedule_rate(c, r->step, t->config.model.compat);
    optimizer_step(&t->optimizer, r->lr, &r->grad_norm);
    r->skipped = !isfinite(r->grad_norm);
    if (r->skipped) {
        t->state.skipped++;
        model_reset_memory(t->model);
    }
    t->state.step++;
    t->state.tokens += r->tokens;
    t->state.updates = t->optimizer.updates;
    r->seconds = clock_seconds() - start;
    t->state.seconds += r->seconds;
    return backend_check(t->be, err);
}

struct snapshot_source trainer_snapshot(const struct trainer *t)
{
    return (struct snapshot_source){.config = &t->config,
                                    .vocab = t->vocab,
                                    .state = &t->state,
                                    .model = t->model,
                                    .optimizer = &t->optimizer};
}
