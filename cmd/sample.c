/* deq sample continues a text with a checkpoint. */
#include "base/clock.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/find_checkpoint.h"
#include "cmd/output.h"
#include "data/text_decode.h"
#include "data/text_encode.h"
#include "generate/generation.h"
#include "store/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct request {
    const char *prompt, *prompt_file, *checkpoint, *device;
    char found[PATHS_MAX]; /* the checkpoint */
    struct sampling how;
    int64_t tokens, seed, threads;
    double tol; /* 0: as configured */
    bool unk, raw, json, verbose;
};

static const struct option_rule options[] = {
    OPTION("prompt", TEXT, prompt, .value = "TEXT", .empty = true,
           .help = "The text to continue, read as tokenize reads a text. A model of words ends a "
                   "line with <eos> and takes words that it does not know as <unk>, if it has one. "
                   "A byte model takes any text. An empty prompt stands for the beginning of a "
                   "line. - reads standard input."),
    OPTION("prompt-file", TEXT, prompt_file, .value = "FILE",
           .help = "Reads the prompt from a file. A line end at its end counts, so that the text "
                   "goes on with a new line."),
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
    OPTION("raw", FLAG, raw,
           .help = "Prints the words of a vocabulary that is divided at blanks as they are. "
                   "Otherwise punctuation is joined to the words it belongs to."),
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
    struct text_decoder decoder;
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
    struct text_bytes word = text_decode(&o->decoder, token);
    if (word.blank)
        TRY(put(o, " ", 1, err));
    o->line_start = word.text[word.len - 1] == '\n';
    if (!o->stream && word.text[0] == '\0') /* of bytes, where it would end the text */
        return put(o, REPLACEMENT, strlen(REPLACEMENT), err);
    return put(o, word.text, word.len, err);
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

/* The bytes of a prompt and where they came from, for messages. */
struct prompt {
    const char *name; /* borrows */
    const char *text; /* borrows from the command line, or is `read` */
    char *read;       /* owns */
    size_t size;
};

static enum status read_all(FILE *in, struct prompt *p, struct error *err)
{
    size_t capacity = 0;
    for (;;) {
        if (p->size == capacity) {
            size_t grown = capacity == 0 ? 4096 : 2 * capacity;
            TRY(mem_grow((void **)&p->read, capacity, grown, 1, err));
            capacity = grown;
        }
        size_t n = fread(p->read + p->size, 1, capacity - p->size, in);
        p->size += n;
        p->text = p->read;
        if (n == 0)
            return ferror(in) == 0
                       ? STATUS_OK
                       : error_set(err, STATUS_IO, "%s: cannot read: %s", p->name, strerror(errno));
    }
}

/* Takes the prompt from where the options say. */
static enum status get_prompt(const struct request *r, struct prompt *p, struct error *err)
{
    *p = (struct prompt){.name = "--prompt", .text = r->prompt};
    if (r->prompt != NULL && strcmp(r->prompt, "-") == 0) {
        p->name = "standard input";
        return read_all(stdin, p, err);
    }
    if (r->prompt != NULL) {
        p->size = strlen(r->prompt);
        return STATUS_OK;
    }
    p->name = r->prompt_file;
    FILE *in = fopen(r->prompt_file, "re");
    if (in == NULL)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open the prompt: %s", r->prompt_file,
                         strerror(errno));
    enum status status = read_all(in, p, err);
    fclose(in);
    return status;
}

static void warn_unknown(const struct prompt *p, const struct text_unknown *u)
{
    if (u->count == 0)
        return;
    fprintf(stderr, "deq sample: warning: %s: \"%s\" is not in the vocabulary and becomes <unk>",
            p->name, u->first);
    if (u->near[0] != '\0')
        fprintf(stderr, "; did you mean \"%s\"?", u->near);
    if (u->count > 1)
        fprintf(stderr, " (%lld words are unknown)", (long long)u->count);
    fputc('\n', stderr);
}

/* Makes ids of the prompt. The caller frees *out. */
static enum status encode_prompt(const struct prompt *p, const struct vocab *vocab,
                                 struct text_encoding *out, struct error *err)
{
    enum status status = text_encode(out, vocab, p->text, p->size, TEXT_OPEN, false, err);
    if (status == STATUS_OK)
        warn_unknown(p, &out->unknown);
    else
        error_prefix(err, "%s", p->name);
    return status;
}

static enum status sample(const struct request *r, const struct prompt *from, struct generator *g,
                          const struct vocab *vocab, struct error *err)
{
    enum status status = STATUS_OK;
    struct output o = {.decoder =
                           text_decoder_begin(vocab, r->raw ? TEXT_DECODE_RAW : TEXT_DECODE_PRETTY),
                       .stream = !r->json,
                       .line_start = true};
    struct text_encoding prompt;
    int64_t made = 0;
    double seconds;
    TRY(encode_prompt(from, vocab, &prompt, err));
    for (int64_t i = 0; i < prompt.count && from->size > 0; i++)
        TRY_OUT(put_token(&o, prompt.ids[i], err));
    fflush(stdout);
    TRY_OUT(generator_feed(g, prompt.ids, prompt.count, err));
    double start = clock_seconds(), evals = g->evals;
    int64_t before = g->positions;
    TRY_OUT(generate(r, g, &o, &made, err));
    seconds = clock_seconds() - start;
    evals = g->positions > before ? (g->evals - evals) / (double)(g->positions - before) : 0;
    if (r->json)
        TRY_OUT(print_json(r, &o, made, seconds, evals, err));
    else if (!o.line_start)
        putchar('\n');
    if (r->verbose)
        fprintf(stderr, "%lld tokens, %.1f tokens/s, %.1f evaluations a token\n", (long long)made,
                (double)made / seconds, evals);
out:
    text_encoding_free(&prompt);
    mem_free(o.text);
    return status;
}

static enum status run(struct request *r, const struct prompt *prompt, struct backend *be,
                       struct error *err)
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
    TRY_OUT(sample(r, prompt, &g, from.vocab, err));
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
    struct prompt prompt;
    TRY(command_read(&command_sample, &r, argc, argv, NULL, err));
    if ((r.prompt == NULL) == (r.prompt_file == NULL))
        return error_set(err, STATUS_USAGE,
                         "want --prompt TEXT, --prompt - for standard input, or "
                         "--prompt-file FILE (try deq help sample)");
    TRY(find_checkpoint(r.checkpoint, r.found, err));
    r.checkpoint = r.found;
    TRY(device_open(&be, r.device, (int)r.threads, err));
    enum status status = get_prompt(&r, &prompt, err);
    if (status == STATUS_OK)
        status = run(&r, &prompt, &be, err);
    mem_free(prompt.read);
    backend_close(&be);
    return status;
}

const struct command command_sample = {
    .name = "sample",
    .summary = "continue a text",
    .stray = "a checkpoint is named by --checkpoint, and a prompt is one argument, so quote it",
    .forms =
        (const char *const[]){"--prompt TEXT [OPTION]...", "--prompt-file FILE [OPTION]...", NULL},
    .description = "Continues a text and prints words as they are drawn. Only the new position is "
                   "solved for, against keys and values of the earlier ones. With --json the text "
                   "comes at the end, in the object.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq sample --prompt \"And God said\" --tokens 60 --top-p 0.9",
            "printf 'And God said' | deq sample --prompt -",
            NULL,
        },
    .run = run_command,
};
