/* deq sample continues a text with a checkpoint. */
#include "base/clock.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/find_checkpoint.h"
#include "cmd/output.h"
#include "data/prompt.h"
#include "generate/generation.h"
#include "store/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct request {
    const char *prompt, *checkpoint, *device;
    char found[PATHS_MAX]; /* the checkpoint */
    struct sampling how;
    int64_t tokens, seed, threads;
    double tol; /* 0: as configured */
    bool unk, json, verbose;
};

static const struct option_rule options[] = {
    OPTION("prompt", TEXT, prompt, .value = "TEXT", .required = true, .empty = true,
           .help = "The text to continue, in words of the vocabulary with blanks between them. A "
                   "byte model takes any text. An empty prompt stands for the beginning of a "
                   "line."),
    OPTION("checkpoint", TEXT, checkpoint, .value = "FILE",
           .help = "The checkpoint to use, or the folder of a run. Of a run it is best.bin, or "
                   "last.bin where there was no validation text.",
           .unset = "the newest run under ./runs, named on stderr"),
    OPTION("tokens", INT, tokens, .value = "N", .min = 0, .max = INT64_C(1) << 40,
           .help = "Tokens to add.", .initial = "100"),
    OPTION("temperature", REAL, how.temperature, .value = "X", .low = 0, .high = 1e6,
           .help = "Below 1 the text is surer, above 1 wilder. At 0 every token is the likeliest.",
           .initial = "1"),
    OPTION("top-k", INT, how.top_k, .value = "N", .min = 0, .max = INT32_MAX,
           .help = "Draws from the N likeliest tokens only. 0 allows all.", .initial = "0"),
    OPTION("top-p", REAL, how.top_p, .value = "X", .low = 1e-9, .high = 1,
           .help = "Draws from the likeliest tokens only whose probabilities add up to X.",
           .initial = "1"),
    OPTION("tol", REAL, tol, .value = "X", .low = 1e-12, .high = 1,
           .help = "Solves each position to a relative residual of X. `deq eval --decode --tol X` "
                   "tells what that costs in perplexity.",
           .unset = "as configured, or 0.03 where the configuration fixes the number of "
                    "evaluations"),
    OPTION("seed", INT, seed, .value = "N", .min = 0, .max = INT64_MAX,
           .help = "Seed of the random numbers. The same seed gives the same text.",
           .initial = "1"),
    OPTION("unk", FLAG, unk, .help = "Lets <unk> be drawn too."),
    OPTION_DEVICE("auto"),
    OPTION_THREADS,
    OPTION_JSON,
    OPTION("verbose", FLAG, verbose, .letter = 'v',
           .help = "Prints tokens/s and evaluations per token on stderr at the end."),
    {0},
};

static const struct json_field fields[] = {
    {"text", "The prompt and its continuation."},
    {"tokens", "Tokens that were added."},
    {"tokens_per_s", "Tokens drawn per second."},
    {"nfe_mean", "Mean evaluations of f per token."},
    {"seed", "The seed."},
    {"checkpoint", "The checkpoint that was used."},
    {0},
};

/* U+FFFD, which stands in JSON for bytes that are no UTF-8. */
#define REPLACEMENT "\xEF\xBF\xBD"

/* Text as it grows. It goes to stdout at once, or into a buffer. */
struct output {
    const struct vocab *vocab;
    bool stream, line_start;
    char *text; /* owns */
    size_t len, capacity;
};

static enum status put(struct output *o, const char *bytes, size_t len, struct error *err)
{
    if (o->stream) {
        fwrite(bytes, 1, len, stdout);
        return STATUS_OK;
    }
    if (o->len + len + 1 > o->capacity) {
        size_t grown = 2 * (o->len + len + 1);
        TRY(mem_grow((void **)&o->text, o->len, grown, 1, err));
        o->capacity = grown;
    }
    memcpy(o->text + o->len, bytes, len);
    o->len += len;
    o->text[o->len] = '\0';
    return STATUS_OK;
}

static enum status put_token(struct output *o, int32_t token, struct error *err)
{
    size_t len;
    const char *word = vocab_word(o->vocab, token, &len);
    if (vocab_is_bytes(o->vocab) && !o->stream && word[0] == '\0')
        return put(o, REPLACEMENT, strlen(REPLACEMENT), err); /* else it would end the text */
    if (vocab_is_bytes(o->vocab))
        return put(o, word, len, err);
    if (token == vocab_eos(o->vocab)) {
        o->line_start = true;
        return put(o, "\n", 1, err);
    }
    if (!o->line_start)
        TRY(put(o, " ", 1, err));
    o->line_start = false;
    return put(o, word, len, err);
}

/* Draws and prints until done, or until nobody reads any more. */
static enum status generate(const struct request *r, struct generator *g, struct output *o,
                            int64_t *made, struct error *err)
{
    for (*made = 0; *made < r->tokens; (*made)++) {
        int32_t token;
        TRY(generator_draw(g, &token, err));
        TRY(put_token(o, token, err));
        if (o->stream && fflush(stdout) != 0)
            return STATUS_OK;
        if (*made + 1 < r->tokens)
            TRY(generator_feed(g, &token, 1, err));
    }
    return STATUS_OK;
}

static enum status print_json(const struct request *r, const struct output *o, int64_t made,
                              double seconds, double evals, struct error *err)
{
    struct json_writer w;
    output_json_begin(&w);
    json_write_string(&w, "text", o->text != NULL ? o->text : "");
    json_write_int(&w, "tokens", made);
    json_write_real(&w, "tokens_per_s", (double)made / seconds);
    json_write_real(&w, "nfe_mean", evals);
    json_write_int(&w, "seed", r->seed);
    json_write_string(&w, "checkpoint", r->checkpoint);
    return output_json_print(&w, err);
}

static enum status sample(const struct request *r, struct generator *g, const struct vocab *vocab,
                          struct error *err)
{
    enum status status = STATUS_OK;
    struct output o = {.vocab = vocab, .stream = !r->json, .line_start = true};
    int32_t *prompt = NULL;
    int64_t count, made = 0;
    double seconds;
    status = prompt_encode(vocab, r->prompt, &prompt, &count, err);
    if (status != STATUS_OK) {
        error_prefix(err, "--prompt");
        return status;
    }
    for (int64_t i = 0; i < count && r->prompt[0] != '\0'; i++)
        TRY_OUT(put_token(&o, prompt[i], err));
    fflush(stdout);
    TRY_OUT(generator_feed(g, prompt, count, err));
    double start = clock_seconds(), evals = g->evals;
    int64_t before = g->positions;
    TRY_OUT(generate(r, g, &o, &made, err));
    seconds = clock_seconds() - start;
    evals = g->positions > before ? (g->evals - evals) / (double)(g->positions - before) : 0;
    if (r->json)
        TRY_OUT(print_json(r, &o, made, seconds, evals, err));
    else if (!vocab_is_bytes(vocab))
        putchar('\n');
    if (r->verbose)
        fprintf(stderr, "%lld tokens, %.1f tokens/s, %.1f evaluations a token\n", (long long)made,
                (double)made / seconds, evals);
out:
    mem_free(prompt);
    mem_free(o.text);
    return status;
}

static enum status run(struct request *r, struct backend *be, struct error *err)
{
    enum status status = STATUS_OK;
    struct snapshot from;
    struct model *model = NULL;
    struct generator g = {0};
    TRY(snapshot_open(&from, r->checkpoint, err));
    if (r->tol > 0) {
        from.config.solver.forward.stop = STOP_REL;
        from.config.solver.forward.tol = r->tol;
    }
    r->how.excluded = r->unk ? -1 : vocab_unk(from.vocab);
    TRY_OUT(generation_check_memory(be, &from.config, err));
    TRY_OUT(generation_model(&model, be, &from.config, NULL, err));
    TRY_OUT(snapshot_read_params(&from, model->params, err));
    model_refresh(model);
    TRY_OUT(generator_create(&g, model, &r->how, (uint64_t)r->seed, err));
    TRY_OUT(sample(r, &g, from.vocab, err));
out:
    generator_free(&g);
    model_free(model);
    snapshot_close(&from);
    return status;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.how.excluded = -1};
    struct backend be;
    TRY(command_read(&command_sample, &r, argc, argv, NULL, err));
    TRY(find_checkpoint(r.checkpoint, r.found, err));
    r.checkpoint = r.found;
    TRY(device_open(&be, r.device, (int)r.threads, err));
    enum status status = run(&r, &be, err);
    backend_close(&be);
    return status;
}

const struct command command_sample = {
    .name = "sample",
    .summary = "continue a text",
    .stray = "a checkpoint is named by --checkpoint, and a prompt is one argument, so quote it",
    .description = "Continues a text and prints words as they are drawn. Only the new position is "
                   "solved for, against keys and values of the earlier ones. With --json the text "
                   "comes at the end, in the object.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq sample --prompt \"And God said\" --tokens 60 --top-p 0.9",
            NULL,
        },
    .run = run_command,
};
