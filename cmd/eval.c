/* deq eval measures the perplexity of a checkpoint and what it costs. */
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/find_checkpoint.h"
#include "cmd/load_config.h"
#include "cmd/output.h"
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

enum { MAX_NFE = 64, LENGTH_MAX = 1 << 20 };

/* Segments tested for leaks without --check-causality, and for the spectral radius. */
enum { LEAK_SEGMENTS = 4, SPECTRUM_SEGMENTS = 4 };

struct request {
    const char *checkpoint, *data, *split, *device, *nfe_list;
    char found[PATHS_MAX]; /* the checkpoint */
    int64_t batch, tgt_len, mem_len, threads;
    int64_t nfe[MAX_NFE];
    int nfe_count;
    struct option_list set;
    double tol; /* 0: as configured */
    bool decode, check_causality, spectrum, json;
};

static const struct option_rule options[] = {
    OPTION("data", TEXT, data, .value = "DIR", .help = "The folder of shards.",
           .unset = "the one that the model was trained on"),
    OPTION_SPLIT(split, "valid"),
    OPTION("batch", INT, batch, .value = "N", .min = 1, .max = LENGTH_MAX,
           .help = "Streams side by side.", .unset = "the checkpoint's eval.batch"),
    OPTION("tgt-len", INT, tgt_len, .value = "N", .min = 1, .max = LENGTH_MAX,
           .help = "Positions of a segment.", .unset = "the checkpoint's eval.tgt_len"),
    OPTION("mem-len", INT, mem_len, .value = "N", .min = 0, .max = LENGTH_MAX,
           .help = "Positions of memory.", .unset = "the checkpoint's eval.mem_len"),
    OPTION("nfe", TEXT, nfe_list, .value = "LIST",
           .help = "Evaluates once for each number in a list such as 1,2,4,8,12,16,30, with "
                   "exactly so many evaluations of f a position, and prints a table."),
    OPTION("tol", REAL, tol, .value = "X", .low = 1e-12, .high = 1,
           .help = "Stops each position at a relative residual of X, or after eval.max_iter "
                   "evaluations."),
    OPTION("decode", FLAG, decode,
           .help = "Evaluates token by token, as deq sample does. Segments have one position, and "
                   "the memory has eval.mem_len + eval.tgt_len - 1. Where neither the "
                   "configuration nor --nfe says how positions stop, the tolerance of deq sample "
                   "does."),
    OPTION_SET(" Here only solver.*, eval.* and train.precision can be changed. Products are "
               "computed in fp32, whatever the training used, unless train.precision is set."),
    OPTION("check-causality", FLAG, check_causality,
           .help = "Tests every segment for leaks instead of four."),
    OPTION("spectral-radius", FLAG, spectrum,
           .help = "Measures how fast plain iteration contracts, which is the spectral radius of "
                   "f's Jacobian at the equilibrium. It is found by the power method in four "
                   "segments."),
    OPTION_DEVICE("auto"),
    OPTION_THREADS,
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"checkpoint", "The checkpoint."},
    {"step", "Its training step."},
    {"data", "The folder of shards."},
    {"split", "The split."},
    {"token", "What a token is, which is word, subword, byte, id or symbol."},
    {"batch", "Streams side by side."},
    {"tgt_len", "Positions of a segment."},
    {"mem_len", "Positions of memory."},
    {"ppl", "Perplexity per token."},
    {"nll", "Mean negative log-likelihood of a token, natural logarithm."},
    {"nll_recall", "Only for a task. The same over recalled symbols."},
    {"recalled", "Only for a task. The share of symbols recalled right."},
    {"tokens", "Tokens that were scored."},
    {"ppl_word", "Perplexity per word. null if it has no meaning."},
    {"bits_per_byte", "Bits per byte of text. null for records, and where a token is <unk>, whose "
                      "bytes no loss pays for."},
    {"bits_per_byte_known", "Only where a token is <unk>. Bits per byte of the other words."},
    {"unknown", "Share of <unk> among the scored tokens."},
    {"nfe_mean", "Mean evaluations of f a position until it stopped."},
    {"nfe_max", "The most evaluations of a position."},
    {"nfe_paid", "Mean evaluations that were computed a position."},
    {"flops", "Floating-point operations a position."},
    {"residual_mean", "Mean relative residual of the solves. null for layers."},
    {"residual_max", "The largest relative residual."},
    {"leak", "Largest change of a log-probability by later tokens, in nats."},
    {"leak_mean", "The mean of these changes."},
    {"leak_positions", "Positions that were tested for a leak."},
    {"spectral_radius", "Only with --spectral-radius. Its mean over the sequences."},
    {"spectral_radius_max", "Only with --spectral-radius. The largest one."},
    {"spectral_radius_rayleigh",
     "Only with --spectral-radius. The Rayleigh quotient, as published."},
    {"spectral_radius_sequences", "Only with --spectral-radius. Sequences measured."},
    {"tokens_per_s", "Tokens scored per second."},
    {"seconds", "Time it took."},
    {"nfe[]", "Only with --nfe. For each number its evaluations and the fields from ppl on. The "
              "fields outside are then those of the last number."},
    {0},
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
    struct operands checkpoint;
    TRY(command_read(&command_eval, r, argc, argv, &checkpoint, err));
    TRY(find_checkpoint(checkpoint.text[0], r->found, err));
    r->checkpoint = r->found;
    if (r->nfe_list != NULL)
        TRY(parse_nfe(r, r->nfe_list, err));
    if (r->tol > 0 && r->nfe_count > 0)
        return error_set(err, STATUS_USAGE,
                         "--tol and --nfe: leave one out; positions stop by a tolerance or after a "
                         "number of evaluations");
    if (r->decode && r->tgt_len > 0)
        return error_set(err, STATUS_USAGE,
                         "--decode: segments have one position; leave out --tgt-len");
    return STATUS_OK;
}

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

/* Opens the data. The folder that a checkpoint names may be elsewhere by now. */
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

static enum status refuse_vocabulary(const struct evaluation *e, const struct request *r,
                                     struct error *err)
{
    if (vocab_is_bytes(e->from.vocab))
        return error_set(err, STATUS_DATA,
                         "%s: a model of bytes, and the shards in %s are of words; tokenize the "
                         "text with --bytes",
                         r->checkpoint, e->config.data.dir);
    return error_set(err, STATUS_DATA,
                     "%s: trained on another vocabulary than that of the shards in %s; tokenize "
                     "the text with --vocab FILE, which deq info --vocab %s prints",
                     r->checkpoint, e->config.data.dir, r->checkpoint);
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
                                 .format = e->config.data.format,
                                 .vocab = e->from.vocab,
                                 .batch = e->config.eval.batch,
                                 .length = e->config.eval.tgt_len};
    TRY(open_split(e, r, &data, err));
    if (stream_vocab_hash(e->stream) != vocab_hash(e->from.vocab))
        return refuse_vocabulary(e, r, err);
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
        .vocab = e->from.vocab,
        .progress = show_progress,
        .ctx = e,
    };
    enum status status = evaluation_run(e->model, e->stream, &how, result, err);
    if (progress_live())
        fputs("\r\033[K", stderr);
    return status;
}

/* --- the result
 * ----------------------------------------------------------------------------------- */

/* What was evaluated. All is borrowed. */
struct report {
    const char *checkpoint, *split;
    int64_t step;
    const struct config *config; /* as changed for the evaluation */
    const struct stream *stream;
    const struct vocab *vocab;
    const int64_t *nfe;                   /* [row_count] of --nfe */
    const struct evaluation_result *rows; /* [row_count], each at so many evaluations */
    int row_count;
};

static void write_result(struct json_writer *w, const struct evaluation_result *r)
{
    json_write_real(w, "ppl", r->ppl);
    json_write_real(w, "nll", r->nll);
    if (isfinite(r->nll_recall)) {
        json_write_real(w, "nll_recall", r->nll_recall);
        json_write_real(w, "recalled", r->recalled);
    }
    json_write_int(w, "tokens", r->tokens);
    json_write_real(w, "ppl_word", r->ppl_word);
    json_write_real(w, "bits_per_byte", r->bits_per_byte);
    if (r->unknown > 0)
        json_write_real(w, "bits_per_byte_known", r->bits_per_byte_known);
    json_write_real(w, "unknown", r->unknown);
    json_write_real(w, "nfe_mean", r->nfe_mean);
    json_write_int(w, "nfe_max", r->nfe_max);
    json_write_real(w, "nfe_paid", r->nfe_paid);
    json_write_real(w, "flops", r->flops);
    json_write_real(w, "residual_mean", r->rel_mean);
    json_write_real(w, "residual_max", r->rel_max);
    json_write_real(w, "leak", r->leak_max);
    json_write_real(w, "leak_mean", r->leak_mean);
    json_write_int(w, "leak_positions", r->leak_positions);
    if (r->radius_sequences > 0) {
        json_write_real(w, "spectral_radius", r->radius_mean);
        json_write_real(w, "spectral_radius_max", r->radius_max);
        json_write_real(w, "spectral_radius_rayleigh", r->rayleigh_mean);
        json_write_int(w, "spectral_radius_sequences", r->radius_sequences);
    }
    json_write_real(w, "tokens_per_s", r->tokens_per_s);
    json_write_real(w, "seconds", r->seconds);
}

/* What a token of the data is. In a text of words <eos> is one too. */
static const char *token_text(const struct report *a)
{
    if (stream_recall(a->stream) > 0)
        return "symbol";
    enum text_split split = vocab_rule(a->vocab).split;
    if (split == TEXT_SPLIT_IDS)
        return "id";
    if (split == TEXT_SPLIT_SUBWORDS)
        return "subword";
    return stream_is_bytes(a->stream) ? "byte" : "word";
}

static enum status print_json(const struct report *a, const struct evaluation_result *whole,
                              struct error *err)
{
    struct json_writer w;
    output_json_begin(&w);
    json_write_string(&w, "checkpoint", a->checkpoint);
    json_write_int(&w, "step", a->step);
    json_write_string(&w, "data", a->config->data.dir);
    json_write_string(&w, "split", a->split);
    json_write_string(&w, "token", token_text(a));
    json_write_int(&w, "batch", a->config->eval.batch);
    json_write_int(&w, "tgt_len", a->config->eval.tgt_len);
    json_write_int(&w, "mem_len", a->config->eval.mem_len);
    write_result(&w, whole);
    if (a->row_count > 0) {
        json_write_array(&w, "nfe");
        for (int i = 0; i < a->row_count; i++) {
            json_write_object(&w, NULL);
            json_write_int(&w, "evaluations", a->nfe[i]);
            write_result(&w, &a->rows[i]);
            json_write_end(&w);
        }
        json_write_end(&w);
    }
    return output_json_print(&w, err);
}

/* "5.12 per byte (nll ...), 8040 per word, ..." */
static void print_perplexity(const struct report *a, const struct evaluation_result *m)
{
    bool bytes = stream_is_bytes(a->stream);
    printf("  perplexity     %.3f per %s (nll %.5f)", m->ppl, bytes ? "byte" : "token", m->nll);
    if (isfinite(m->ppl_word)) /* of many bytes it can be any number */
        printf(bytes ? ", %.4g per word" : ", %.3f per word", m->ppl_word);
    if (m->unknown > 0)
        printf(", %.4f bits per byte of known words", m->bits_per_byte_known);
    else if (isfinite(m->bits_per_byte)) /* of token files the bytes are not known */
        printf(", %.4f bits per byte", m->bits_per_byte);
    putchar('\n');
}

/* Says where figures are of another text than the one that was given. */
static void warn_unknown(const struct report *a, const struct evaluation_result *m)
{
    if (m->unknown > OUTPUT_UNKNOWN_MAX)
        fprintf(stderr,
                "deq eval: warning: %.1f %% of the scored tokens are <unk>, so that the perplexity "
                "says little of the text in %s: a model with a larger vocabulary, or of bytes "
                "(deq tokenize --bytes), reads more of it\n",
                100 * m->unknown, a->config->data.dir);
}

static void print_text(const struct report *a, const struct evaluation_result *m)
{
    printf("%s (step %lld) on %s of %s\n", a->checkpoint, (long long)a->step, a->split,
           a->config->data.dir);
    if (isfinite(m->nll_recall))
        printf("  loss           %.4g over all positions, %.4g a recalled symbol (%.3f %% right)\n",
               m->nll, m->nll_recall, 100 * m->recalled);
    else
        print_perplexity(a, m);
    if (m->unknown > 0)
        printf("  unknown        %.2f %% of the scored tokens are <unk>\n", 100 * m->unknown);
    printf("  tokens scored  %lld of %lld; %lld streams, segments of %lld, memory of %lld\n",
           (long long)m->tokens, (long long)stream_tokens(a->stream),
           (long long)a->config->eval.batch, (long long)a->config->eval.tgt_len,
           (long long)a->config->eval.mem_len);
    printf("  evaluations    %.2f a position (%lld at most; %.2f computed)", m->nfe_mean,
           (long long)m->nfe_max, m->nfe_paid);
    if (isfinite(m->rel_mean))
        printf(", residual %.2e (%.2e at most)", m->rel_mean, m->rel_max);
    putchar('\n');
    printf("  operations     %.3g MFLOP a position\n", 1e-6 * m->flops);
    if (m->leak_positions > 0)
        printf("  leak           %.3g nats at most (mean %.3g, %lld positions tested)\n",
               m->leak_max, m->leak_mean, (long long)m->leak_positions);
    else
        printf("  leak           nothing to test, since %s\n",
               a->config->model.vocab_size < 2 ? "a vocabulary of one word has no other token"
                                               : "segments are too short to have later tokens");
    if (m->radius_sequences > 0)
        printf(
            "  spectral radius  %.3f on average, %.3f at most (%lld sequences; Rayleigh quotient "
            "as published: %.3f)\n",
            m->radius_mean, m->radius_max, (long long)m->radius_sequences, m->rayleigh_mean);
    printf("  speed          %.0f tokens/s (%.1f s)\n", m->tokens_per_s, m->seconds);
}

static void print_head(void)
{
    printf("evaluations  perplexity        nll  residual  (at most)      leak     (mean)  "
           "tokens/s\n");
}

static void print_row(int64_t nfe, const struct evaluation_result *m)
{
    printf("%11lld  %10.3f  %9.5f  %8.2e  %8.2e", (long long)nfe, m->ppl, m->nll, m->rel_mean,
           m->rel_max);
    if (m->leak_positions > 0)
        printf("  %8.3g  %9.3g", m->leak_max, m->leak_mean);
    else
        printf("  %8s  %9s", "-", "-");
    printf("  %8.0f\n", m->tokens_per_s);
}

/* --- the command
 * ---------------------------------------------------------------------------------- */

static enum status evaluate_and_print(struct evaluation *e, const struct request *r,
                                      struct error *err)
{
    struct evaluation_result rows[MAX_NFE], whole;
    const struct report about = {.checkpoint = r->checkpoint,
                                 .step = e->from.state.step,
                                 .split = r->split,
                                 .config = &e->config,
                                 .stream = e->stream,
                                 .vocab = e->from.vocab,
                                 .nfe = r->nfe,
                                 .rows = rows,
                                 .row_count = r->nfe_count};
    if (r->nfe_count > 0 && !r->json)
        print_head();
    for (int i = 0; i < r->nfe_count; i++) {
        TRY(evaluate(e, r, r->nfe[i], &rows[i], err));
        if (!r->json)
            print_row(r->nfe[i], &rows[i]);
    }
    if (r->nfe_count > 0) /* the last row stands for the whole */
        whole = rows[r->nfe_count - 1];
    else
        TRY(evaluate(e, r, 0, &whole, err));
    warn_unknown(&about, &whole);
    if (r->json)
        return print_json(&about, &whole, err);
    if (r->nfe_count == 0)
        print_text(&about, &whole);
    return STATUS_OK;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.mem_len = -1};
    struct evaluation e = {0};
    TRY(parse(&r, argc, argv, err));
    enum status status = open_all(&e, &r, err);
    if (status == STATUS_OK)
        status = evaluate_and_print(&e, &r, err);
    close_all(&e);
    return status;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "measure the perplexity of a checkpoint and what it costs",
    .operands = "CHECKPOINT",
    .description =
        "Measures the perplexity of a checkpoint over a split of the data. Streams run side by "
        "side, segment after segment with memory, and every position but the first of each stream "
        "is scored once. The report also says how far the solver came.\n"
        "The leak is the largest change of a log-probability when later tokens of its segment are "
        "replaced. It must be 0. Solvers that mix positions have a leak.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq eval runs/kjv/best.bin --split test --nfe 4,8,12,30",
            "deq eval runs/kjv/best.bin --decode --tol 5e-2",
            NULL,
        },
    .run = run_command,
};
