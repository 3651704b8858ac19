/* deq eval: perplexity of a checkpoint, and what it costs. */
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/eval_report.h"
#include "cmd/load_config.h"
#include "cmd/options.h"
#include "cmd/progress.h"
#include "generate/generation.h"
#include "store/snapshot.h"
#include "train/evaluation.h"
#include "train/trainer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: deq eval CHECKPOINT [OPTION]...\n"
    "\n"
    "Perplexity of a checkpoint over a split: streams side by side, segment after segment with\n"
    "memory, every position but the first of each stream scored once. Reports also how far the\n"
    "solver came, and the leak: the largest change of a log-probability when later tokens of\n"
    "its segment are replaced. It must be 0; solvers that mix positions have one.\n"
    "\n"
    "      --data DIR          folder of shards (default: the one trained on)\n"
    "      --split NAME        valid, test or train (default: valid)\n"
    "      --batch N           streams (default, as for the next two: the checkpoint's eval.*)\n"
    "      --tgt-len N         positions of a segment\n"
    "      --mem-len N         positions of memory\n"
    "      --nfe LIST          a table against exactly so many evaluations of f:\n"
    "                          1,2,4,8,12,16,30\n"
    "      --tol X             positions stop by themselves at a relative residual of X, after\n"
    "                          eval.max_iter evaluations at most\n"
    "      --decode            token by token, as deq sample does: segments of one position,\n"
    "                          with a memory of eval.mem_len + eval.tgt_len - 1 (and, unless\n"
    "                          the configuration or --nfe say how positions stop, the tolerance\n"
    "                          there)\n"
    "      --set KEY=VALUE     change a key of solver.* or eval.*, or train.precision (products\n"
    "                          are in fp32 otherwise, however they were in training); may be\n"
    "                          repeated\n"
    "      --check-causality   test for leaks in every segment, not just in a few\n"
    "      --spectral-radius   how fast plain iteration contracts: the spectral radius of f's\n"
    "                          Jacobian at the equilibrium, in four segments (power method)\n"
    "      --device NAME       auto, cpu, cuda, or ref (default: auto)\n"
    "      --threads N         processor threads (default: all)\n"
    "      --json              one JSON object as the last line: ppl, nll, tokens, token (what\n"
    "                          one is: word, byte or symbol), ppl_word, bits_per_byte,\n"
    "                          nfe_mean, nfe_max, leak, tokens_per_s, ...; null: has no meaning\n"
    "  -h, --help              this help\n"
    "\n"
    "Example:\n"
    "  deq eval runs/kjv/best.bin --split test --nfe 4,8,12,30\n"
    "  deq eval runs/kjv/best.bin --decode --tol 5e-2\n";

enum { MAX_NFE = 64 };

/* Segments tested for leaks without --check-causality, and for the spectral radius. */
enum { LEAK_SEGMENTS = 4, SPECTRUM_SEGMENTS = 4 };

struct request {
    const char *checkpoint, *data, *split, *device;
    int64_t batch, tgt_len, mem_len, threads;
    int64_t nfe[MAX_NFE];
    int nfe_count;
    struct option_list set;
    double tol; /* 0: as configured */
    bool decode, check_causality, spectrum, json;
};

static enum status parse_nfe(struct request *r, const char *text, struct error *err)
{
    const char *p = text;
    for (;;) {
        char *end;
        errno = 0;
        long long value = strtoll(p, &end, 10);
        if (end == p || errno != 0 || value < 1 || value > 10000 || (*end != ',' && *end != '\0'))
            return error_set(err, STATUS_USAGE, "--nfe: want numbers as 1,2,4,8, got \"%s\"", text);
        if (r->nfe_count == MAX_NFE)
            return error_set(err, STATUS_USAGE, "--nfe: at most %d numbers", MAX_NFE);
        r->nfe[r->nfe_count++] = value;
        if (*end == '\0')
            return STATUS_OK;
        p = end + 1;
    }
}

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    const char *nfe = NULL;
    int operand;
    const struct option_rule rules[] = {
        OPTION("data", TEXT, &r->data),
        OPTION("split", CHOICE, &r->split, .choices = OPTION_SPLITS),
        OPTION("batch", INT, &r->batch, .min = 1, .max = 1 << 20),
        OPTION("tgt-len", INT, &r->tgt_len, .min = 1, .max = 1 << 20),
        OPTION("mem-len", INT, &r->mem_len, .min = 0, .max = 1 << 20),
        OPTION("nfe", TEXT, &nfe),
        OPTION("tol", REAL, &r->tol, .low = 1e-12, .high = 1),
        OPTION("decode", FLAG, &r->decode),
        OPTION("set", LIST, &r->set),
        OPTION("check-causality", FLAG, &r->check_causality),
        OPTION("spectral-radius", FLAG, &r->spectrum),
        OPTION("device", TEXT, &r->device),
        OPTION("threads", INT, &r->threads, .min = 1, .max = OPTION_THREADS_MAX),
        OPTION("json", FLAG, &r->json),
        {0},
    };
    TRY(options_read(rules, argc, argv, &operand, err));
    if (nfe != NULL)
        TRY(parse_nfe(r, nfe, err));
    if (operand == argc)
        return error_set(err, STATUS_USAGE, "want a checkpoint (try deq help eval)");
    r->checkpoint = argv[operand++];
    if (operand < argc)
        return error_set(err, STATUS_USAGE, "unexpected \"%s\"", argv[operand]);
    if (r->tol > 0 && r->nfe_count > 0)
        return error_set(err, STATUS_USAGE,
                         "--tol and --nfe: positions stop by a tolerance, or "
                         "after a number of evaluations");
    if (r->decode && r->tgt_len > 0)
        return error_set(err, STATUS_USAGE,
                         "--decode: segments have one position; without --tgt-len");
    return STATUS_OK;
}

/* How positions stop, and segments of one for --decode. */
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

/* What the command line changes of the checkpoint's configuration. */
static enum status apply(const struct request *r, struct config *config, struct error *err)
{
    for (int i = 0; i < r->set.count; i++) {
        if (strncmp(r->set.text[i], "solver.", 7) != 0 &&
            strncmp(r->set.text[i], "eval.", 5) != 0 &&
            strncmp(r->set.text[i], "train.precision=", 16) != 0)
            return error_set(err, STATUS_USAGE,
                             "--set %s: only solver.*, eval.* and train.precision can be changed "
                             "here",
                             r->set.text[i]);
        TRY(config_set(config, r->set.text[i], err));
    }
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
    struct backend be;
    struct snapshot from;
    struct config config;
    struct stream *stream; /* owns */
    struct model *model;   /* owns */
};

/* The folder that a checkpoint names may be elsewhere by now. */
static enum status open_split(struct evaluation *e, const struct request *r,
                              const struct stream_config *data, struct error *err)
{
    struct error why;
    enum status status = stream_open(&e->stream, data, err);
    if (status != STATUS_NOINPUT || r->data != NULL)
        return status;
    why = *err;
    return error_set(err, status, "%.800s (%s is where it was trained; --data names another)",
                     why.text, data->dir);
}

static enum status open_all(struct evaluation *e, const struct request *r, struct error *err)
{
    TRY(device_open(&e->be, r->device, (int)r->threads, err));
    TRY(snapshot_open(&e->from, r->checkpoint, err));
    e->config = e->from.config;
    e->config.train.precision = PRECISION_FP32;
    TRY(apply(r, &e->config, err));
    if (e->config.model.layers > 0 && r->nfe_count > 0)
        return error_set(err, STATUS_USAGE,
                         "--nfe: %s holds an explicit network of %lld layers, with no other number "
                         "of evaluations",
                         r->checkpoint, (long long)e->config.model.layers);
    struct stream_config data = {.dir = e->config.data.dir,
                                 .split = r->split,
                                 .batch = e->config.eval.batch,
                                 .length = e->config.eval.tgt_len};
    TRY(open_split(e, r, &data, err));
    if (stream_vocab_hash(e->stream) != vocab_hash(e->from.vocab))
        return error_set(err, STATUS_DATA,
                         "%s: trained on another vocabulary than that of the shards in %s: "
                         "tokenize the text with --vocab FILE, which deq info --vocab %s prints",
                         r->checkpoint, e->config.data.dir, r->checkpoint);
    TRY(trainer_set_precision(&e->be, &e->config.train, err));
    TRY(evaluation_check_memory(&e->be, &e->config, r->spectrum, err));
    TRY(evaluation_model(&e->model, &e->be, &e->config, NULL, r->spectrum, err));
    TRY(snapshot_read_params(&e->from, e->model->params, err));
    model_refresh(e->model);
    return STATUS_OK;
}

static void close_all(struct evaluation *e)
{
    model_free(e->model);
    stream_close(e->stream);
    snapshot_close(&e->from);
    if (e->be.ops != NULL)
        backend_close(&e->be);
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
    };
    enum status status = evaluation_run(e->model, e->stream, &how, result, show_progress, e, err);
    if (progress_live())
        fputs("\r\033[K", stderr);
    return status;
}

static enum status report(struct evaluation *e, const struct request *r, struct error *err)
{
    struct evaluation_result rows[MAX_NFE], whole;
    const struct eval_report about = {.checkpoint = r->checkpoint,
                                      .step = e->from.state.step,
                                      .split = r->split,
                                      .config = &e->config,
                                      .stream = e->stream,
                                      .nfe = r->nfe,
                                      .rows = rows,
                                      .row_count = r->nfe_count};
    if (r->nfe_count > 0 && !r->json)
        eval_report_head();
    for (int i = 0; i < r->nfe_count; i++) {
        TRY(evaluate(e, r, r->nfe[i], &rows[i], err));
        if (!r->json)
            eval_report_row(r->nfe[i], &rows[i]);
    }
    if (r->nfe_count > 0) /* the last row stands for the whole */
        whole = rows[r->nfe_count - 1];
    else
        TRY(evaluate(e, r, 0, &whole, err));
    if (r->json)
        return eval_report_json(&about, &whole, err);
    if (r->nfe_count == 0)
        eval_report_text(&about, &whole);
    return STATUS_OK;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.device = "auto", .split = "valid", .mem_len = -1};
    struct evaluation e = {0};
    TRY(parse(&r, argc, argv, err));
    enum status status = open_all(&e, &r, err);
    if (status == STATUS_OK)
        status = report(&e, &r, err);
    close_all(&e);
    return status;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "perplexity of a checkpoint, and what it costs",
    .usage = usage,
    .run = run_command,
};
