/* deq eval measures the perplexity of checkpoints and what it costs. */
#include "cmd/eval/eval.h"

#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/find_checkpoint.h"
#include "cmd/output.h"
#include "data/text_reader.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LENGTH_MAX = 1 << 20 };

static const struct option_rule options[] = {
    OPTION("data", TEXT, data, .value = "DIR", .help = "The folder of shards.",
           .unset = "the one that the model was trained on"),
    OPTION("text", TEXT, text, .value = "FILE",
           .help =
               "Evaluates over any text in place of shards, as one text of any length, solved "
               "until it has converged as deq score does. A token sees as many tokens before it "
               "as the last position of a segment, and the first one is predicted from a "
               "line's beginning. - reads standard input."),
    OPTION_SPLIT(split, "valid"),
    OPTION("batch", INT, batch, .value = "N", .min = 1, .max = LENGTH_MAX,
           .help = "Streams side by side.",
           .unset = "the checkpoint's eval.batch, or as many as a shorter split has"),
    OPTION("tgt-len", INT, tgt_len, .value = "N", .min = 1, .max = LENGTH_MAX,
           .help = "Positions of a segment.", .unset = "the checkpoint's eval.tgt_len"),
    OPTION("mem-len", INT, mem_len, .value = "N", .min = 0, .max = LENGTH_MAX,
           .help = "Positions of memory.", .unset = "the checkpoint's eval.mem_len"),
    OPTION("nfe", TEXT, nfe_list, .value = "LIST",
           .help = "Evaluates once for each number in a list such as 1,2,4,8,12,16,30, with "
                   "exactly so many evaluations of f a position, and prints a table."),
    OPTION("tol", REAL, tol, .value = "X", .low = 1e-12, .high = 1,
           .help = "Stops each position at a relative residual of X, or after eval.max_iter "
                   "evaluations.",
           .unset = "as configured, or 1e-6 with --text"),
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
    {"text", "Only with --text. The text, in place of data and split."},
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
    {"bits_per_byte",
     "Bits per byte of text. null for records and ids, and where a token is <unk>, whose "
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
    {"checkpoints[]",
     "For each checkpoint these fields, or checkpoint and error where it cannot be "
     "evaluated. With several checkpoints there are no fields outside."},
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
        if (r->nfe_count == EVAL_MAX_NFE)
            return error_set(err, STATUS_USAGE, "--nfe: at most %d numbers", EVAL_MAX_NFE);
        r->nfe[r->nfe_count++] = value;
        if (*end == '\0')
            return STATUS_OK;
        p = end + 1;
    }
}

/* What has no meaning for a text, which is one stream. */
static enum status check_text(const struct request *r, struct error *err)
{
    const struct {
        bool given;
        const char *name;
    } shards[] = {
        {r->data != NULL, "--data"},
        {r->batch > 0, "--batch"},
        {r->tgt_len > 0, "--tgt-len"},
        {r->nfe_count > 0, "--nfe"},
        {r->decode, "--decode"},
        {r->check_causality, "--check-causality"},
        {r->spectrum, "--spectral-radius"},
    };
    for (size_t i = 0; r->text != NULL && i < sizeof shards / sizeof *shards; i++)
        if (shards[i].given)
            return error_set(err, STATUS_USAGE, "--text and %s: leave one of them out",
                             shards[i].name);
    return STATUS_OK;
}

static enum status parse(struct request *r, int argc, char **argv, struct operands *checkpoints,
                         struct error *err)
{
    TRY(command_read(&command_eval, r, argc, argv, checkpoints, err));
    if (r->nfe_list != NULL)
        TRY(parse_nfe(r, r->nfe_list, err));
    if (r->tol > 0 && r->nfe_count > 0)
        return error_set(err, STATUS_USAGE,
                         "--tol and --nfe: leave one out; positions stop by a tolerance or after a "
                         "number of evaluations");
    if (r->nfe_count > 0 && checkpoints->count > 1)
        return error_set(err, STATUS_USAGE, "--nfe: one checkpoint at a time");
    if (r->decode && r->tgt_len > 0)
        return error_set(err, STATUS_USAGE,
                         "--decode: segments have one position; leave out --tgt-len");
    return check_text(r, err);
}

enum status eval_set(const struct request *r, struct config *config, struct error *err)
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
    return STATUS_OK;
}

/* --- the checkpoints --------------------------------------------------------------------------
 */

/* What all checkpoints share. */
struct session {
    const struct request *r;
    struct backend be;
    struct text_source text; /* owns its spool */
    struct json_writer json;
    bool several;
    bool unpaid; /* a row's bits per byte are those of the known words alone */
};

/* Standard input is read once, and kept where several checkpoints want it. */
static enum status open_text(struct session *s, struct error *err)
{
    const char *dir = getenv("TMPDIR");
    char piece[1 << 16];
    struct text_spool spool;
    enum status status = STATUS_OK;
    s->text = text_reader_source(s->r->text);
    if (!s->several || strcmp(s->r->text, "-") != 0)
        return STATUS_OK;
    TRY_OUT(text_spool_begin(&spool, dir != NULL ? dir : "/tmp", err));
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n == 0)
            break;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            status = error_set(err, STATUS_IO, "standard input: cannot read: %s", strerror(errno));
            goto out;
        }
        TRY_OUT(text_spool_write(&spool, piece, (size_t)n, err));
    }
    TRY_OUT(text_spool_finish(&spool, "standard input", &s->text, err));
out:
    text_spool_abandon(&spool);
    return status;
}

static enum status evaluate(struct session *s, const char *name, struct eval_report *report,
                            char found[PATHS_MAX], struct error *err)
{
    struct snapshot from;
    TRY(find_checkpoint(name, found, err));
    report->checkpoint = found;
    TRY(snapshot_open(&from, found, err));
    report->step = from.state.step;
    enum status status = s->r->text != NULL ? eval_text(s->r, &s->be, &from, &s->text, report, err)
                                            : eval_shards(s->r, &s->be, &from, report, err);
    snapshot_close(&from);
    return status;
}

static void write_failure(struct json_writer *w, const char *checkpoint, const struct error *err)
{
    json_write_object(w, NULL);
    json_write_string(w, "checkpoint", checkpoint);
    json_write_string(w, "error", err->text);
    json_write_end(w);
}

/* One checkpoint of several. A failing one is named, and the others are evaluated. */
static enum status evaluate_row(struct session *s, const char *name, struct eval_report *report,
                                struct error *err)
{
    char found[PATHS_MAX];
    enum status status = evaluate(s, name, report, found, err);
    if (status != STATUS_OK) {
        if (s->r->json)
            write_failure(&s->json, name, err);
        else
            eval_print_table_failure(name);
        fprintf(stderr, "deq eval: %s\n", err->text);
        return status;
    }
    eval_warn(s->r, report);
    if (s->r->json) {
        json_write_object(&s->json, NULL);
        eval_write(&s->json, s->r, report);
        json_write_end(&s->json);
    } else {
        eval_print_table_row(report);
        s->unpaid |= report->whole.unknown > 0;
    }
    fflush(stdout);
    return STATUS_OK;
}

static enum status evaluate_several(struct session *s, const struct operands *checkpoints,
                                    struct eval_report *report, struct error *err)
{
    int failed = 0;
    struct error one, first = {0};
    if (s->r->json) {
        output_json_begin(&s->json);
        json_write_array(&s->json, "checkpoints");
    } else {
        eval_print_table_head();
    }
    for (int i = 0; i < checkpoints->count; i++) {
        memset(report, 0, sizeof *report);
        if (evaluate_row(s, checkpoints->text[i], report, &one) != STATUS_OK && failed++ == 0)
            first = one;
    }
    if (s->r->json) {
        json_write_end(&s->json);
        TRY(output_json_print(&s->json, err));
    } else if (s->unpaid) {
        printf("* of the known words, without those that are <unk>\n");
    }
    if (failed > 0)
        return error_set(err, first.status, "%d of %d checkpoints could not be evaluated", failed,
                         checkpoints->count);
    return STATUS_OK;
}

static enum status evaluate_one(struct session *s, const char *name, struct eval_report *report,
                                struct error *err)
{
    char found[PATHS_MAX];
    TRY(evaluate(s, name, report, found, err));
    eval_warn(s->r, report);
    if (!s->r->json) {
        if (report->row_count == 0)
            eval_print(s->r, report);
        return STATUS_OK;
    }
    output_json_begin(&s->json);
    eval_write(&s->json, s->r, report);
    json_write_array(&s->json, "checkpoints");
    json_write_object(&s->json, NULL);
    eval_write(&s->json, s->r, report);
    json_write_end(&s->json);
    json_write_end(&s->json);
    return output_json_print(&s->json, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    enum status status = STATUS_OK;
    struct request r = {.mem_len = -1};
    struct eval_report *report = NULL;
    struct operands checkpoints;
    struct session s = {.r = &r, .text = {.spool = -1}};
    TRY(parse(&r, argc, argv, &checkpoints, err));
    s.several = checkpoints.count > 1;
    TRY(mem_alloc((void **)&report, 1, sizeof *report, err));
    TRY_OUT(device_open(&s.be, r.device, (int)r.threads, err));
    if (r.text != NULL)
        TRY_OUT(open_text(&s, err));
    if (s.several)
        TRY_OUT(evaluate_several(&s, &checkpoints, report, err));
    else
        TRY_OUT(evaluate_one(&s, checkpoints.text[0], report, err));
out:
    text_source_close(&s.text);
    if (s.be.ops != NULL)
        backend_close(&s.be);
    mem_free(report);
    return status;
}

const struct command command_eval = {
    .name = "eval",
    .summary = "measure the perplexity of checkpoints and what it costs",
    .operands = "CHECKPOINT...",
    .description =
        "Measures the perplexity of a checkpoint over a split of the data. Streams run side by "
        "side, segment after segment with memory, and every position but the first of each stream "
        "is scored once. The report also says how far the solver came. With --text it is that of "
        "any text, whose every token is scored. Several checkpoints make a table with a row for "
        "each.\n"
        "The leak is the largest change of a log-probability when later tokens of its segment are "
        "replaced. It must be 0. Solvers that mix positions have a leak.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq eval runs/kjv/best.bin --split test --nfe 4,8,12,30",
            "deq eval runs/kjv/best.bin --decode --tol 5e-2",
            "deq eval runs/*/best.bin --text my.txt",
            NULL,
        },
    .run = run_command,
};
