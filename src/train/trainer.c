/* A training step, from the batch to the update, and what ranks merge. */
#include "train/trainer.h"

#include "base/clock.h"
#include "base/mem.h"
#include "data/folder_vocab.h"
#include "data/shard.h"
#include "train/schedule.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum status trainer_check_ranks(const struct config_train *c, int ranks, struct error *err)
{
    if (c->batch % (c->accumulate * ranks) == 0)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "train.batch: %lld cannot be divided among %d processes with train.accumulate "
                     "%lld: make it a multiple of %lld",
                     (long long)c->batch, ranks, (long long)c->accumulate,
                     (long long)(c->accumulate * ranks));
}

enum status trainer_resolve_data(struct config *config, const struct dist *dist,
                                 struct vocab **vocab, struct error *err)
{
    const struct folder_tokens tokens = {config->data.dir, config->data.format,
                                         config->model.vocab_size, config->data.end_of_text};
    enum status status = folder_vocab_load(vocab, &tokens, err);
    if (status == STATUS_NOINPUT) {
        char why[sizeof err->text], remedy[SHARD_REMEDY_MAX];
        snprintf(why, sizeof why, "%.400s", err->text);
        shard_remedy(config->data.dir, remedy);
        return error_set(err, status,
                         "%s (data.dir: %s, and --data names it where it lies elsewhere)", why,
                         remedy);
    }
    TRY(status);
    status = config_resolve(config, vocab_size(*vocab), err);
    if (status == STATUS_OK)
        status = trainer_check_ranks(&config->train, dist_size(dist), err);
    if (status != STATUS_OK) {
        vocab_free(*vocab);
        *vocab = NULL;
    }
    return status;
}

static enum status check_vocabulary(const struct trainer *t, const struct snapshot *from,
                                    struct error *err)
{
    if (vocab_hash(from->vocab) == vocab_hash(t->vocab))
        return STATUS_OK;
    return error_set(err, STATUS_DATA,
                     "%s: trained on another vocabulary than %s/vocab.txt: tokenize the text with "
                     "deq tokenize --vocab %s",
                     checkpoint_path(from->file), t->config.data.dir, checkpoint_path(from->file));
}

/* Whether the text is the one that the checkpoint was trained on. Files of older programs tell it
 * by its folder only. */
static bool same_text(const struct trainer *t, const struct snapshot *from)
{
    if (from->state.train_text != 0)
        return from->state.train_text == stream_digest(t->stream);
    return strcmp(t->config.data.dir, from->config.data.dir) == 0;
}

/* Goes to where the checkpoint stood, counted in tokens of the epoch. Another batch or length cuts
 * the text into other segments, of which the one that holds this place is taken. */
static enum status find_position(struct trainer *t, const struct snapshot *from, bool *aligned,
                                 struct error *err)
{
    struct train_state *s = &t->state;
    const struct config_train *then = &from->config.train;
    int64_t tokens = stream_tokens_per_segment(t->stream), at = s->position;
    bool same_cut =
        then->batch == t->config.train.batch && then->tgt_len == t->config.train.tgt_len;
    if (at < 0)
        at = s->segment * (same_cut ? tokens : then->batch * then->tgt_len);
    if (!same_text(t, from)) {
        t->dropped.text = s->step > 0;
        at = 0;
        s->epoch = 0;
    }
    s->segment = at / tokens;
    if (s->segment >=
        stream_segments(t->stream)) { /* streams have lost more tokens at their ends */
        s->segment = 0;
        s->epoch++;
        at = 0;
    }
    t->dropped.repeated = at - s->segment * tokens;
    *aligned = !t->dropped.text && then->batch == t->config.train.batch && t->dropped.repeated == 0;
    s->position = s->segment * tokens;
    return stream_seek(t->stream, s->epoch, s->segment, err);
}

static enum status continue_from(struct trainer *t, struct snapshot *from, struct error *err)
{
    bool aligned, taken = false;
    t->state = from->state;
    TRY(check_vocabulary(t, from, err));
    TRY(snapshot_read_training(from, t->model->params, &t->optimizer, err));
    t->dropped.optimizer = from->config.train.optimizer != t->config.train.optimizer;
    if (t->dropped.optimizer)
        t->state.updates = 0;
    else
        TRY(snapshot_read_optimizer(from, &t->optimizer, err));
    TRY(find_position(t, from, &aligned, err));
    if (aligned)
        TRY(snapshot_read_memory(from, t->model, t->dist, &taken, err));
    t->dropped.memory = !taken && checkpoint_find(from->file, "mem:0") != NULL;
    return STATUS_OK;
}

enum status trainer_take_weights(struct trainer *t, struct snapshot *from, struct error *err)
{
    TRY(check_vocabulary(t, from, err));
    TRY(snapshot_read_params(from, t->model->params, err));
    optimizer_begin_average(&t->optimizer);
    return STATUS_OK;
}

void trainer_show_average(struct trainer *t)
{
    struct params *p = t->model->params;
    if (t->optimizer.average.data == NULL)
        return;
    op_copy(t->be, &p->g, &p->w);
    op_copy(t->be, &p->w, &t->optimizer.average);
}

void trainer_hide_average(struct trainer *t)
{
    struct params *p = t->model->params;
    if (t->optimizer.average.data != NULL)
        op_copy(t->be, &p->w, &p->g);
}

enum status trainer_reset(struct trainer *t, unsigned what, struct error *err)
{
    struct train_state *s = &t->state;
    if (what & TRAINER_RESET_OPTIMIZER) {
        for (int i = 0; i < t->optimizer.kind->states; i++)
            op_fill(t->be, &t->optimizer.state[i], 0);
        t->optimizer.updates = s->updates = 0;
    }
    if (what & TRAINER_RESET_SCHEDULE)
        s->schedule_start = s->step;
    if (what & TRAINER_RESET_DATA) {
        s->epoch = s->segment = s->position = s->best_step = s->waited = 0;
        s->best_nll = INFINITY;
        s->best = (struct snapshot_figures){0};
        model_reset_memory(t->model);
        TRY(stream_seek(t->stream, 0, 0, err));
    }
    s->reset = what;
    return backend_check(t->be, err);
}

enum status trainer_set_precision(struct backend *be, const struct config_train *train,
                                  struct error *err)
{
    struct error why;
    enum status status = backend_set_precision(be, train->precision, &why);
    if (status != STATUS_OK)
        return error_set(err, status, "train.precision: %.800s", why.text);
    return STATUS_OK;
}

enum status trainer_create(struct trainer *t, struct backend *be, struct dist *dist,
                           const struct config *config, struct snapshot *from, struct error *err)
{
    enum status status = STATUS_OK;
    const struct config_train *c = &config->train;
    int ranks = dist_size(dist);
    *t = (struct trainer){.be = be, .dist = dist, .config = *config, .state.best_nll = INFINITY};
    struct stream_config data = {
        .dir = t->config.data.dir,
        .split = "train",
        .format = t->config.data.format,
        .batch = c->batch,
        .length = c->tgt_len,
        .partition = {.groups = c->accumulate, .ranks = ranks, .rank = dist_rank(dist)}};
    struct model_plan plan = {.batch = c->batch / c->accumulate / ranks,
                              .length = c->tgt_len,
                              .mem_len = c->mem_len,
                              .memories = (int)c->accumulate,
                              .train = true};
    TRY_OUT(trainer_set_precision(be, c, err));
    TRY_OUT(mem_alloc((void **)&t->reports, (size_t)ranks, sizeof *t->reports, err));
    TRY_OUT(trainer_resolve_data(&t->config, dist, &t->vocab, err));
    data.vocab = t->vocab;
    TRY_OUT(stream_open(&t->stream, &data, err));
    TRY_OUT(model_create(&t->model, be, &t->config, NULL, &plan, err));
    TRY_OUT(optimizer_create(&t->optimizer, t->model->params, c, dist, err));
    if (from != NULL)
        TRY_OUT(continue_from(t, from, err));
    else
        TRY_OUT(params_initialize(t->model->params, (uint64_t)c->seed, err));
    if (from == NULL)
        optimizer_begin_average(&t->optimizer);
    t->state.train_text = stream_digest(t->stream);
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
    mem_free(t->reports);
    *t = (struct trainer){0};
}

static void add_report(struct solve_summary *s, const struct solve_report *r, double weight)
{
    s->evals_mean += weight * r->evals_mean;
    s->evals_paid += weight * r->paid_mean;
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
    TRY(model_report(t->model, &forward, &backward, err));
    add_report(&r->forward, &forward, weight);
    add_report(&r->backward, &backward, weight);
    return STATUS_OK;
}

/* How far the solves of this part go, where that changes with time or chance. */
static enum status set_limits(struct trainer *t, const struct step_report *r, struct error *err)
{
    const struct solver_config *const config[2] = {&t->config.solver.forward,
                                                   &t->config.solver.backward};
    const struct config_limits *const change[2] = {&t->config.solver.forward_limits,
                                                   &t->config.solver.backward_limits};
    for (int i = 0; i < DIRECTION_COUNT; i++) {
        if (!schedule_limits_vary(change[i]))
            continue;
        struct solve_limits limits =
            schedule_limits(config[i], change[i], &t->config.train, r->step, t->state.micro, i);
        TRY(model_set_limits(t->model, i, limits.max_iter, limits.tol, config[i]->stop, err));
    }
    return STATUS_OK;
}

enum { DRAW_WHETHER, DRAW_DIRECTION };

/* Draws whether this part computes the Jacobian's penalty, and its direction. The weight is divided
 * among the parts and ranks, as that of the loss is. */
static void penalise(struct trainer *t, const struct step_report *r)
{
    uint64_t seed = (uint64_t)t->config.train.seed, micro = (uint64_t)t->state.micro;
    struct rng_key whether = {seed, rng_stream(RNG_PENALTY, micro, DRAW_WHETHER)};
    uint64_t own = DRAW_DIRECTION + (uint64_t)dist_rank(t->dist); /* each rank another one */
    struct rng_key direction = {seed, rng_stream(RNG_PENALTY, micro, own)};
    if (r->penalty_weight > 0 && rng_uniform(whether, 0) < t->config.jacobian.probability)
        model_weigh_term(t->model, TERM_JACOBIAN_PENALTY,
                         r->penalty_weight /
                             (double)(t->config.train.accumulate * dist_size(t->dist)),
                         &direction);
}

/* --- several ranks ---------------------------------------------------------------------------- */

void trainer_early_buckets(const struct params *p, const struct config *config, int64_t *from,
                           int64_t *to)
{
    int64_t first = p->total, end = 0, size = dist_bucket_size(p->total);
    *from = *to = 0;
    if (config->correction.weight > 0)
        return;
    for (int i = 0; i < p->count; i++) {
        const struct param *q = &p->list[i];
        if (strcmp(q->part, "softmax") != 0)
            continue;
        first = q->offset < first ? q->offset : first;
        end = q->offset + param_count(q);
    }
    first = (first + size - 1) / size;
    if (first >= end / size)
        return;
    *from = first;
    *to = end / size;
}

/* They travel while the backward solve runs. */
static void sum_output_layer(struct trainer *t)
{
    int64_t from, to;
    trainer_early_buckets(t->model->params, &t->config, &from, &to);
    dist_reduce_scatter_begin(t->dist, &t->model->params->g, from, to);
}

/* All others, when everything is complete. */
static void sum_gradients(struct trainer *t)
{
    const struct tensor *g = &t->model->params->g;
    int64_t from, to;
    trainer_early_buckets(t->model->params, &t->config, &from, &to);
    dist_reduce_scatter_begin(t->dist, g, 0, from);
    dist_reduce_scatter_begin(t->dist, g, to, dist_buckets(t->dist, t->model->params->total));
    dist_reduce_scatter_wait(t->dist);
}

static void merge_solve(struct solve_summary *s, const struct solve_summary *other)
{
    s->evals_mean += other->evals_mean;
    s->evals_paid += other->evals_paid;
    s->evals_max = other->evals_max > s->evals_max ? other->evals_max : s->evals_max;
    s->rel_mean += other->rel_mean;
    if (!(other->rel_max <= s->rel_max))
        s->rel_max = other->rel_max;
    s->restarts += other->restarts;
    s->unconverged += other->unconverged;
}

/* Merges the reports of all ranks, whose parts are of one size. Losses are still sums. */
static void merge_reports(struct trainer *t, struct step_report *r)
{
    int ranks = dist_size(t->dist);
    dist_all_gather_bytes(t->dist, r, sizeof *r, t->reports);
    *r = t->reports[0];
    for (int i = 1; i < ranks; i++) {
        const struct step_report *other = &t->reports[i];
        r->loss += other->loss;
        r->tokens += other->tokens;
        r->penalty += other->penalty;
        merge_solve(&r->forward, &other->forward);
        merge_solve(&r->backward, &other->backward);
    }
    r->penalty /= ranks;
    struct solve_summary *const both[] = {&r->forward, &r->backward};
    for (int i = 0; i < 2; i++) {
        both[i]->evals_mean /= ranks;
        both[i]->evals_paid /= ranks;
        both[i]->rel_mean /= ranks;
    }
}

/* --- the step --------------------------------------------------------------------------------- */

/* Figures of the part that came last. */
static enum status read_part(struct trainer *t, struct step_report *r, struct error *err)
{
    struct model *m = t->model;
    int64_t n = m->plan.batch * m->length;
    r->loss += model_read_loss(m, NULL) * (double)n;
    r->tokens += n;
    (void)model_read_term(m, TERM_JACOBIAN_PENALTY, &r->penalty); /* else an earlier part's stays */
    return summarise(t, r, err);
}

/* Part `index` of the batch, from its tokens to its gradients. */
static enum status train_part(struct trainer *t, const struct batch *batch, int index,
                              struct step_report *r, struct error *err)
{
    struct model *m = t->model;
    int64_t n = m->plan.batch * batch->L, skip = index * n;
    struct masks masks = {.source = MASKS_DRAWN,
                          .seed = (uint64_t)t->config.train.seed,
                          .draw = (uint64_t)t->state.micro,
                          .first = dist_rank(t->dist) * m->plan.batch};
    model_select_memory(m, index);
    model_begin(m, batch->input + skip, batch->L, &masks);
    penalise(t, r);
    TRY(set_limits(t, r, err));
    TRY(model_solve(m, r->layers, true, err));
    model_loss(m, batch->target + skip, 1.0 / (double)(t->config.train.batch * batch->L), true);
    if (index == t->config.train.accumulate - 1)
        sum_output_layer(t);
    TRY(model_backward(m, err));
    model_remember(m);
    t->state.micro++;
    return STATUS_OK;
}

static enum status train_segment(struct trainer *t, struct step_report *r, struct error *err)
{
    struct batch batch;
    TRY(stream_next(t->stream, &batch, err));
    if (batch.first)
        model_reset_memory(t->model);
    for (int i = 0; i < t->config.train.accumulate; i++) {
        if (i > 0)
            TRY(read_part(t, r, err));
        TRY(train_part(t, &batch, i, r, err));
    }
    t->state.epoch = batch.epoch;
    t->state.segment = batch.segment + 1;
    if (t->state.segment == stream_segments(t->stream)) {
        t->state.epoch++;
        t->state.segment = 0;
    }
    t->state.position = t->state.segment * stream_tokens_per_segment(t->stream);
    return STATUS_OK;
}

double trainer_rate(const struct trainer *t, int64_t n)
{
    struct config_train c = schedule_from(&t->config.train, t->state.schedule_start);
    return schedule_rate(&c, n - t->state.schedule_start, t->config.model.compat);
}

enum status trainer_step(struct trainer *t, struct step_report *r, struct error *err)
{
    const struct config_train *c = &t->config.train;
    double start = clock_seconds();
    *r = (struct step_report){.step = t->state.step + 1, .penalty = NAN};
    r->layers = r->step <= c->pretrain_steps ? c->pretrain_layers : t->config.model.layers;
    r->penalty_weight = schedule_penalty(&t->config.jacobian, c, r->step);
    model_refresh(t->model);
    TRY(train_segment(t, r, err));
    model_finish_gradients(t->model);
    sum_gradients(t);
    r->lr = trainer_rate(t, r->step);
    optimizer_step(&t->optimizer, r->lr, &r->grad_norm);
    TRY(read_part(t, r, err)); /* The first wait of the step comes after all its operations. */
    merge_reports(t, r);
    r->loss /= (double)r->tokens;
    r->skipped = !isfinite(r->grad_norm);
    if (r->skipped) {
        t->state.skipped++;
        model_reset_memory(t->model);
    }
    t->state.step++;
    t->state.tokens += r->tokens;
    t->state.updates = t->optimizer.updates;
    t->state.ranks = dist_size(t->dist);
    r->seconds = clock_seconds() - start;
    t->state.seconds += r->seconds;
    if (t->be->timeline != NULL)
        timeline_step(t->be->timeline, start, r->seconds);
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
