#include "bench/runtime_bench.h"

#include "base/mem.h"
#include "bench/bench.h"
#include "train/evaluation.h"
#include "train/trainer.h"

#include <math.h>

/* --- untrained -------------------------------------------------------------------------------- */

/* Evaluations of the last solve; 0 of an explicit network. */
static enum status last_evals(const struct bench *b, double *forward, double *backward,
                              struct error *err)
{
    struct solve_report f, g;
    TRY(model_report(bench_model(b), &f, &g, err));
    *forward = (double)f.evals;
    *backward = (double)g.evals;
    return STATUS_OK;
}

/* Both directions of all of them, in turns. times: [count * steps] */
static enum status take_turns(struct bench **bench, int64_t count, int64_t steps, double *times,
                              struct error *err)
{
    for (int64_t i = 0; i < count; i++)
        TRY(bench_warm(bench[i], err));
    for (int64_t n = 0; n < steps; n++)
        for (int64_t i = 0; i < count; i++)
            TRY(bench_step(bench[i], &times[i * steps + n], err));
    return STATUS_OK;
}

static enum status one_direction(struct backend *be, const struct config *configs, int64_t count,
                                 bool train, int64_t steps, double *times, struct runtime_row *rows,
                                 struct error *err)
{
    enum status status = STATUS_OK;
    struct bench **bench = NULL;
    TRY(mem_alloc((void **)&bench, (size_t)count, sizeof *bench, err));
    for (int64_t i = 0; i < count; i++)
        TRY_OUT(bench_open(&bench[i], be, &configs[i], train, err));
    TRY_OUT(take_turns(bench, count, steps, times, err));
    for (int64_t i = 0; i < count; i++) {
        struct runtime_row *r = &rows[i];
        double ignored, median = bench_median(times + i * steps, steps);
        if (train) {
            r->train_seconds = median;
            r->parameters = params_distinct(bench_model(bench[i])->params, NULL);
            TRY_OUT(last_evals(bench[i], &r->forward, &r->backward, err));
        } else {
            r->eval_tokens_per_s = (double)r->tokens / median;
            TRY_OUT(last_evals(bench[i], &r->eval_forward, &ignored, err));
        }
    }
out:
    for (int64_t i = 0; i < count; i++)
        bench_close(bench[i]);
    mem_free(bench);
    return status;
}

enum status runtime_untrained(struct backend *be, const struct config *configs, int64_t count,
                              const struct runtime_options *o, struct runtime_row *rows,
                              struct error *err)
{
    enum status status = STATUS_OK;
    double *times = NULL;
    TRY(mem_alloc((void **)&times, (size_t)(count * o->steps), sizeof *times, err));
    for (int64_t i = 0; i < count; i++)
        rows[i] = (struct runtime_row){.layers = configs[i].model.layers,
                                       .tokens = configs[i].train.batch * configs[i].train.tgt_len,
                                       .ppl = NAN};
    TRY_OUT(one_direction(be, configs, count, true, o->steps, times, rows, err));
    TRY_OUT(one_direction(be, configs, count, false, o->steps, times, rows, err));
out:
    mem_free(times);
    return status;
}

/* --- trained ---------------------------------------------------------------------------------- */

struct trained {
    struct snapshot from;
    struct trainer trainer;
    struct model *model;   /* owns: for evaluation, with the trainer's parameters */
    struct stream *stream; /* owns: of the split */
    double *train, *eval;  /* owns: [steps] seconds of a step, tokens/s */
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
    struct stream_config data = {
        .dir = c->data.dir, .split = o->split, .batch = c->eval.batch, .length = c->eval.tgt_len};
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

/* Before any further step, which would change the weights. */
static enum status evaluate(struct trained *t, int64_t round, struct runtime_row *r,
                            struct error *err)
{
    struct evaluation_result e;
    struct evaluation_options how = {.max_iter = t->from.config.eval.max_iter};
    model_refresh(t->model);
    TRY(evaluation_run(t->model, t->stream, &how, &e, NULL, NULL, err));
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
