/* Evaluates a checkpoint over a folder of shards. */
#include "cmd/eval/eval.h"

#include "cmd/progress.h"
#include "generate/generation.h"
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* Segments tested for leaks without --check-causality, and for the spectral radius. */
enum { LEAK_SEGMENTS = 4, SPECTRUM_SEGMENTS = 4 };

/* Sets how positions stop, and segments of one position for --decode. */
static void apply_stops(const struct request *r, struct config *config)
{
    struct solver_config *s = &config->solver.forward;
    double tol = r->tol;
    if (r->decode && tol == 0 && r->nfe_count == 0 && s->stop == STOP_FIXED)
        tol = GENERATION_TOL;
    if (tol > 0) {
        s->stop = STOP_REL;
        s->tol = tol;
    }
    if (!r->decode)
        return;
    config->eval.mem_len += config->eval.tgt_len - 1;
    config->eval.tgt_len = 1;
}

/* Changes the checkpoint's configuration as the command line says. */
static enum status apply(const struct request *r, struct config *config, struct error *err)
{
    TRY(eval_set(r, config, err));
    if (r->batch > 0)
        config->eval.batch = r->batch;
    if (r->tgt_len > 0)
        config->eval.tgt_len = r->tgt_len;
    if (r->mem_len >= 0)
        config->eval.mem_len = r->mem_len;
    apply_stops(r, config);
    TRY(load_config_data(config, r->data, err));
    return config_resolve(config, config->model.vocab_size, err);
}

struct evaluation {
    struct backend *be;    /* borrows */
    struct snapshot *from; /* borrows */
    const char *checkpoint;
    struct config config;
    struct stream *stream; /* owns */
    struct model *model;   /* owns */
};

/* Whether the command line names a batch. */
static bool names_batch(const struct request *r)
{
    for (int i = 0; i < r->set.count; i++)
        if (strncmp(r->set.text[i], "eval.batch=", 11) == 0)
            return true;
    return r->batch > 0;
}

/* Opens a split that is too short for the checkpoint's batch. One stream leaves out the least of a
 * text, and records are all read. */
static bool open_shorter(struct evaluation *e, const struct stream_config *data)
{
    struct stream_config alone = *data;
    struct error ignored;
    alone.batch = 1;
    if (stream_open(&e->stream, &alone, &ignored) != STATUS_OK)
        return false;
    bool records = stream_recall(e->stream) > 0;
    if (records) {
        alone.batch = stream_segments(e->stream);
        stream_close(e->stream);
        e->stream = NULL;
        if (stream_open(&e->stream, &alone, &ignored) != STATUS_OK)
            return false;
    }
    fprintf(stderr, "deq eval: the split %s is short: a batch of %lld in place of %lld\n",
            data->split, (long long)alone.batch, (long long)data->batch);
    e->config.eval.batch = alone.batch;
    return true;
}

/* Opens the data. The folder that a checkpoint names may be elsewhere by now. */
static enum status open_split(struct evaluation *e, const struct request *r,
                              const struct stream_config *data, struct error *err)
{
    struct error why;
    enum status status = stream_open(&e->stream, data, err);
    if (status == STATUS_DATA && !names_batch(r) && open_shorter(e, data))
        return STATUS_OK;
    if (status != STATUS_NOINPUT || r->data != NULL)
        return status;
    why = *err;
    return error_set(err, status, "%.800s (%s is where it was trained; --data names another)",
                     why.text, data->dir);
}

static enum status refuse_vocabulary(const struct evaluation *e, struct error *err)
{
    if (vocab_is_bytes(e->from->vocab))
        return error_set(err, STATUS_DATA,
                         "%s: a model of bytes, and the shards in %s are of words; tokenize the "
                         "text with --bytes",
                         e->checkpoint, e->config.data.dir);
    return error_set(err, STATUS_DATA,
                     "%s: trained on another vocabulary than that of the shards in %s; tokenize "
                     "the text with deq tokenize --vocab %s",
                     e->checkpoint, e->config.data.dir, e->checkpoint);
}

static enum status open_all(struct evaluation *e, const struct request *r, struct error *err)
{
    e->config = e->from->config;
    e->config.train.precision = PRECISION_FP32;
    TRY(apply(r, &e->config, err));
    if (e->config.model.layers > 0 && r->nfe_count > 0)
        return error_set(err, STATUS_USAGE,
                         "--nfe: %s holds an explicit network of %lld layers, with no other number "
                         "of evaluations",
                         e->checkpoint, (long long)e->config.model.layers);
    struct stream_config data = {.dir = e->config.data.dir,
                                 .split = r->split,
                                 .format = e->config.data.format,
                                 .vocab = e->from->vocab,
                                 .batch = e->config.eval.batch,
                                 .length = e->config.eval.tgt_len};
    TRY(open_split(e, r, &data, err));
    if (stream_vocab_hash(e->stream) != vocab_hash(e->from->vocab))
        return refuse_vocabulary(e, err);
    TRY(trainer_set_precision(e->be, &e->config.train, err));
    TRY(evaluation_check_memory(e->be, &e->config, r->spectrum, err));
    TRY(evaluation_model(&e->model, e->be, &e->config, NULL, r->spectrum, err));
    TRY(snapshot_read_params(e->from, e->model->params, err));
    model_refresh(e->model);
    return STATUS_OK;
}

static void close_all(struct evaluation *e)
{
    model_free(e->model);
    stream_close(e->stream);
}

static bool show_progress(void *ctx, int64_t tokens, double nll)
{
    const struct evaluation *e = ctx;
    if (progress_live())
        fprintf(stderr, "\r\033[K%lld of %lld tokens, ppl %.2f", (long long)tokens,
                (long long)stream_tokens_per_epoch(e->stream), exp(nll));
    return true;
}

static enum status evaluate(struct evaluation *e, const struct request *r, int64_t nfe,
                            struct evaluation_result *result, struct error *err)
{
    struct evaluation_options how = {
        .max_iter = nfe > 0 ? nfe : e->config.eval.max_iter,
        .fixed = nfe > 0,
        .spectrum_segments = r->spectrum ? SPECTRUM_SEGMENTS : 0,
        .leak_segments = r->check_causality ? stream_segments(e->stream) : LEAK_SEGMENTS,
        .vocab = e->from->vocab,
        .progress = show_progress,
        .ctx = e,
    };
    enum status status = evaluation_run(e->model, e->stream, &how, result, err);
    if (progress_live())
        fputs("\r\033[K", stderr);
    return status;
}

static enum status evaluate_all(struct evaluation *e, const struct request *r,
                                struct eval_report *report, struct error *err)
{
    report->config = e->config;
    report->token = stream_recall(e->stream) > 0 ? "symbol" : eval_token_name(e->from->vocab);
    report->tokens = stream_tokens(e->stream);
    if (r->nfe_count > 0 && !r->json)
        eval_print_nfe_head();
    for (int i = 0; i < r->nfe_count; i++) {
        TRY(evaluate(e, r, r->nfe[i], &report->rows[i], err));
        report->nfe[i] = r->nfe[i];
        if (!r->json)
            eval_print_nfe_row(r->nfe[i], &report->rows[i]);
    }
    report->row_count = r->nfe_count;
    if (r->nfe_count == 0)
        return evaluate(e, r, 0, &report->whole, err);
    report->whole = report->rows[r->nfe_count - 1]; /* the last row stands for the whole */
    return STATUS_OK;
}

enum status eval_shards(const struct request *r, struct backend *be, struct snapshot *from,
                        struct eval_report *report, struct error *err)
{
    struct evaluation e = {.be = be, .from = from, .checkpoint = report->checkpoint};
    enum status status = open_all(&e, r, err);
    if (status == STATUS_OK)
        status = evaluate_all(&e, r, report, err);
    close_all(&e);
    return status;
}
