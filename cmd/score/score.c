/* deq score gives every line of a text, or every continuation of a context, its log-probability. */
#include "cmd/score/score.h"

#include "base/clock.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/find_checkpoint.h"
#include "cmd/output.h"
#include "store/snapshot.h"

#include <stdio.h>

enum { LENGTH_MAX = 1 << 20 };

struct request {
    const char *checkpoint, *text, *pairs, *device;
    char found[PATHS_MAX]; /* the checkpoint */
    int64_t batch, tgt_len, max_iter, threads;
    double tol;
    bool tokens, no_eos, json;
};

static const struct option_rule options[] = {
    OPTION("tokens", FLAG, tokens,
           .help = "Prints every token with its log-probability, its rank among all tokens (1 for "
                   "the most probable) and the evaluations of f that its position took."),
    OPTION("pairs", TEXT, pairs, .value = "FILE",
           .help = "Scores pairs in place of lines. A line of FILE is a JSON object with strings "
                   "`context` and `continuation`. The answer is the log-probability of the "
                   "continuation, and whether greedy decoding of the context would have said it. "
                   "- reads standard input."),
    OPTION("no-eos", FLAG, no_eos,
           .help = "Leaves out the token of the line end, which is <eos> or the newline byte."),
    OPTION("tol", REAL, tol, .value = "X", .low = 1e-12, .high = 1,
           .help = "Solves each position to a relative residual of X.", .initial = "1e-6"),
    OPTION("max-iter", INT, max_iter, .value = "N", .min = 1, .max = 10000,
           .help = "Evaluations of f at most for it.", .initial = "500"),
    OPTION("batch", INT, batch, .value = "N", .min = 1, .max = LENGTH_MAX,
           .help = "Lines side by side.", .unset = "as many as are fast"),
    OPTION("tgt-len", INT, tgt_len, .value = "N", .min = 1, .max = LENGTH_MAX,
           .help =
               "Positions of a line that are solved at once. A longer line goes on with memory.",
           .unset = "as many as are fast"),
    OPTION_DEVICE("auto"),
    OPTION_THREADS,
    OPTION("json", FLAG, json,
           .help = "Prints a JSON object for each line or pair, and at last one for all. Their "
                   "fields are listed below."),
    {0},
};

static const struct json_field fields[] = {
    {"line", "Only in the object of a line. Its number, from 1."},
    {"pair", "Only in the object of a pair. Its number, from 1."},
    {"logprob", "Log-probability of the line or continuation, natural logarithm."},
    {"tokens", "Tokens that were scored, the line end included."},
    {"unknown", "Those of them that are <unk>."},
    {"ppl", "Perplexity per token. null without tokens."},
    {"ppl_known", "Perplexity of the tokens that are not <unk>."},
    {"bits_per_byte", "Only where no token is <unk>. Bits per byte of the text."},
    {"bits_per_byte_known", "Only where a token is <unk>. Bits per byte of the other words."},
    {"greedy", "Only with --pairs. Whether greedy decoding would have said the continuation. In "
               "the last object, the number of pairs of which that is so."},
    {"pieces[]",
     "Only with --tokens. For each token its text, with unknown true where it is <unk>, "
     "logprob, rank and nfe, the evaluations of f."},
    {"checkpoint", "Only in the last object, as are the following. The checkpoint."},
    {"lines", "Lines that were scored, or with --pairs pairs."},
    {"nfe_mean", "Mean evaluations of f until a position had converged."},
    {"nfe_max", "The most evaluations of a position."},
    {"nfe_paid", "Mean evaluations that were computed a token."},
    {"residual_mean", "Mean relative residual of the solves. null for layers."},
    {"residual_max", "The largest relative residual."},
    {"unconverged", "Positions that did not reach the tolerance within --max-iter."},
    {"seconds", "Time it took."},
    {"tokens_per_s", "Tokens scored per second."},
    {0},
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    struct operands operands;
    TRY(command_read(&command_score, r, argc, argv, &operands, err));
    r->text = operands.count > 1 ? operands.text[1] : "-";
    if (r->pairs != NULL && operands.count > 1)
        return error_set(err, STATUS_USAGE, "%s and --pairs: leave one of them out", r->text);
    if (r->pairs != NULL && r->no_eos)
        return error_set(err, STATUS_USAGE,
                         "--no-eos: a continuation ends as it is given; leave out the option");
    TRY(find_checkpoint(operands.text[0], r->found, err));
    r->checkpoint = r->found;
    return STATUS_OK;
}

/* Says what may surprise. */
static void warn_before(const struct score_plan *plan, const struct vocab *vocab)
{
    if (plan->other_scope)
        fputs("deq score: the checkpoint's solver mixes positions (solver.forward.scope), so that "
              "predictions would see later tokens; solved with the scope prefix instead\n",
              stderr);
    if (!plan->invariant)
        fprintf(stderr,
                "deq score: results of this model depend on where segments begin; lines are cut "
                "every %lld tokens (eval.tgt_len)\n",
                (long long)plan->config.eval.tgt_len);
    if (!vocab_is_bytes(vocab) && vocab_eos(vocab) < 0)
        fprintf(stderr,
                "deq score: the vocabulary has no %s, so that line ends and the first word of each "
                "line are not scored\n",
                VOCAB_EOS);
}

static void warn_after(const struct request *r, const struct scorer *s,
                       const struct score_output *o)
{
    double unknown = (double)o->total.unknown / (double)o->total.tokens;
    if (s->unconverged > 0)
        fprintf(stderr,
                "deq score: warning: %lld of %lld positions did not reach the tolerance (largest "
                "residual %.2g); a higher --max-iter may help\n",
                (long long)s->unconverged, (long long)s->positions, o->total.residual_max);
    output_warn_unknown("score", unknown, "scored", r->pairs != NULL ? r->pairs : r->text);
}

static enum status run(const struct request *r, struct backend *be, struct error *err)
{
    enum status status = STATUS_OK;
    struct snapshot from;
    struct scorer *s = NULL;
    struct score_plan plan;
    struct score_output o = {
        .json = r->json, .tokens = r->tokens, .pairs = r->pairs != NULL, .start = clock_seconds()};
    TRY(snapshot_open(&from, r->checkpoint, err));
    score_prepare(&plan, &from.config, r->tol, r->max_iter);
    plan.batch = r->batch;
    plan.length = r->tgt_len;
    plan.unk = vocab_unk(from.vocab);
    plan.ranks = r->tokens || o.pairs;
    o.vocab = from.vocab;
    warn_before(&plan, from.vocab);
    TRY_OUT(scorer_create(&s, be, &plan, err));
    TRY_OUT(snapshot_read_params(&from, &s->params, err));
    if (o.pairs)
        TRY_OUT(score_pairs(s, r->pairs, &o, err));
    else
        TRY_OUT(score_lines(s, r->text, r->no_eos, &o, err));
    TRY_OUT(score_print_total(&o, s, r->checkpoint, err));
    warn_after(r, s, &o);
out:
    scorer_free(s);
    snapshot_close(&from);
    return status;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {0};
    struct backend be;
    TRY(parse(&r, argc, argv, err));
    TRY(device_open(&be, r.device, (int)r.threads, err));
    enum status status = run(&r, &be, err);
    backend_close(&be);
    return status;
}

const struct command command_score = {
    .name = "score",
    .summary = "log-probabilities of lines, tokens and continuations",
    .operands = "CHECKPOINT [FILE]",
    .forms = (const char *const[]){"CHECKPOINT [FILE|-] [OPTION]...",
                                   "CHECKPOINT --pairs FILE [OPTION]...", NULL},
    .description =
        "Prints a line for each line of a text, with its log-probability, tokens and perplexity, "
        "and the total at the end. Without FILE the text is standard input. The text is read as "
        "deq tokenize reads one.\n"
        "Each line is a text of its own. Its first token is predicted from a line's beginning, "
        "which is <eos>, or a newline byte, and its end is scored too. Nothing is dropped. A token "
        "sees as many tokens before it as deq sample does, eval.mem_len + eval.tgt_len - 1.\n"
        "Positions are solved until they have converged, so that results depend neither on the "
        "lines beside a line nor on how many positions are solved at once, to about a millionth. A "
        "larger --tol is faster and less exact.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq score runs/kjv/best.bin text.txt",
            "echo 'In the beginning' | deq score runs/kjv/best.bin --tokens",
            "deq score runs/kjv/best.bin --pairs pairs.jsonl --json",
            NULL,
        },
    .run = run_command,
};
