/* Several networks that take turns at training and evaluation. */
#include "bench/runtime_bench.h"

#include "base/mem.h"
#include "bench/bench.h"
#include "train/evaluation.h"
#include "train/trainer.h"

#include <math.h>

/* --- untrained -------------------------------------------------------------------------------- */

/* Evaluations of the last solves, 0 for an explicit network. */
static enum status last_evals(const struct bench *b, double *forward, double *backward,
                              struct error *err)
{
    struct solve_report f, g;
    TRY(model_report(bench_model(b), &f, &g, err));
    *forward = (double)f.evals;
    *backward = (double)g.evals;
    return STATUS_OK;
}

/* The networks that take turns. */
struct turns {
    int64_t count, steps;
    struct bench **bench; /* owns [count] */
    double *times;        /* owns [count * steps] seconds */
};

static enum status take_turns(struct turns *t, struct error *err)
{
    for (int64_t i = 0; i < t->count; i++)
        TRY(bench_warm(t->bench[i], err));
    for (int64_t n = 0; n < t->steps; n++)
        for (int64_t i = 0; i < t->count; i++)
            TRY(bench_step(t->bench[i], &t->times[i * t->steps + n], err));
    return STATUS_OK;
}

static enum status fill_row(const struct turns *t, int64_t i, bool train, struct runtime_row *row,
                            struct error *err)
{
    double ignored, median = bench_median(t->times + i * t->steps, t->steps);
    if (!train) {
        row->eval_tokens_per_s = (double)row->tokens / median;
        return last_evals(t->bench[i], &row->eval_forward, &ignored, err);
    }
    row->train_seconds = median;
    row->parameters = params_distinct(bench_model(t->bench[i])->params, NULL);
    return last_evals(t->bench[i], &row->forward, &row->backward, err);
}

static enum status run_turns(struct turns *t, struct backend *be, const struct config *configs,
                             bool train, struct runtime_row *rows, struct error *err)
{
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < t->count; i++)
        TRY_OUT(bench_open(&t->bench[i], be, &configs[i], train, 1, err));
    TRY_OUT(take_turns(t, err));
    for (int64_t i = 0; i < t->count; i++)
        TRY_OUT(fill_row(t, i, train, &rows[i], err));
out:
    for (int64_t i = 0; i < t->count; i++) {
        bench_close(t->bench[i]);
        t->bench[i] = NULL;
    }
    return status;
}

enum status runtime_untrained(struct backend *be, const struct config *configs, int64_t count,
                              const struct runtime_options *o, struct runtime_row *rows,
                              struct error *err)
{
    enum status status = STATUS_OK;
    struct turns t = {.count = count, .steps = o->steps};
    TRY_OUT(mem_alloc((void **)&t.bench, (size_t)count, sizeof *t.bench, err));
    TRY_OUT(mem_alloc((void **)&t.times, (size_t)(count * o->steps), sizeof *t.times, err));
    for (int64_t i = 0; i < count; i++)
        rows[i] = (struct runtime_row){.layers = configs[i].model.layers,
                                       .tokens = configs[i].train.batch * configs[i].train.tgt_len,
                                       .ppl = NAN};
    TRY_OUT(run_turns(&t, be, configs, true, rows, err));
    TRY_OUT(run_turns(&t, be, configs, false, rows, err));
out:
    mem_free(t.bench);
    mem_free(t.times);
    return status;
}

/* --- trained ---------------------------------------------------------------------------------- */

struct trained {
    struct snapshot from;
    struct trainer trainer;
    struct model *model;   /* owns, for evaluation, with the trainer's parameters */
    struct stream *stream; /* owns the split */
    double *train;         /* owns [steps] seconds of a step */
    double *eval;          /* owns [steps] tokens/s of an evaluation */
};

static enum status open_trained(struct trained *t, struct backend *be, const char *path,
                                const struct runtime_options *o, struct error *err)
{
    TRY(snapshot_open(&t->from, path, err));
    struct config *c = &t->from.config;
    for (int i = 0; i < o->setting_count; i++)
        TRY(config_set(c, o->settings[i], err));
    TRY(config_resolve(c, c->model.vocab_size, err));
    TRY(trainer_create(&t->trainer, be, NULL, c, &t->from, err));
    struct stream_config data = {.dir = c->data.dir,
                                 .split = o->split,
                                 .format = c->data.format,
                                 .vocab = t->from.vocab,
                                 .batch = c->eval.batch,
                                 .length = c->eval.tgt_len};
    TRY(stream_open(&t->stream, &data, err));
    TRY(evaluation_model(&t->model, be, c, t->trainer.model->params, false, err));
    TRY(mem_alloc((void **)&t->train, (size_t)o->steps, sizeof *t->train, err));
    return mem_alloc((void **)&t->eval, (size_t)o->steps, sizeof *t->eval, err);
}

static void close_trained(struct trained *t)
{
    mem_free(t->train);
    mem_free(t->eval);
    stream_close(t->stream);
    model_free(t->model);
    trainer_free(&t->trainer);
    snapshot_close(&t->from);
}

/* Must come before the training steps, which change the weights. */
static enum status evaluate(struct trained *t, int64_t round, struct runtime_row *r,
                            struct error *err)
{
    struct evaluation_result e;
    struct evaluation_options how = {.max_iter = t->from.config.eval.max_iter};
    model_refresh(t->model);
    TRY(evaluation_run(t->model, t->stream, &how, &e, err));
    t->eval[round] = e.tokens_per_s;
    r->ppl = e.ppl;
    r->eval_forward = e.nfe_mean;
    return STATUS_OK;
}

static enum status train(struct trained *t, int64_t round, struct runtime_row *r, struct error *err)
{
    struct step_report report;
    TRY(trainer_step(&t->trainer, &report, err));
    if (round >= 0)
        t->train[round] = report.seconds;
    r->tokens = report.tokens;
    r->forward = report.layers > 0 ? (double)report.layers : report.forward.evals_mean;
    r->backward = report.layers > 0 ? (double)report.layers : report.backward.evals_mean;
    return STATUS_OK;
}

enum status runtime_trained(struct backend *be, const char *const *checkpoints, int64_t count,
                            const struct runtime_options *o, struct runtime_row *rows,
                            struct error *err)
{
    enum { WARM = 2 };
    enum status status = STATUS_OK;
    struct trained *t = NULL;
    TRY(mem_alloc((void **)&t, (size_t)count, sizeof *t, err));
    for (int64_t i = 0; i < count; i++) {
        TRY_OUT(open_trained(&t[i], be, checkpoints[i], o, err));
        rows[i] =
            (struct runtime_row){.parameters = params_distinct(t[i].trainer.model->params, NULL),
                                 .layers = t[i].from.config.model.layers,
                                 .steps = t[i].from.state.step,
                                 .run_seconds = t[i].from.state.seconds};
    }
    enum { EVALUATIONS = 3 };
    int64_t evaluations = o->steps < EVALUATIONS ? o->steps : EVALUATIONS;
    for (int64_t n = 0; n < evaluations; n++)
        for (int64_t i = 0; i < count; i++)
            TRY_OUT(evaluate(&t[i], n, &rows[i], err));
    for (int64_t n = -WARM; n < o->steps; n++)
        for (int64_t i = 0; i < count; i++)
            TRY_OUT(train(&t[i], n, &rows[i], err));
    for (int64_t i = 0; i < count; i++) {
        rows[i].train_seconds = bench_median(t[i].train, o->steps);
        rows[i].eval_tokens_per_s = bench_median(t[i].eval, evaluations);
    }
out:
    for (int64_t i = 0; i < count; i++)
        close_trained(&t[i]);
    mem_free(t);
    return status;
}
