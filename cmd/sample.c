/* deq sample: text from a checkpoint. */
#include "base/clock.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/options.h"
#include "cmd/paths.h"
#include "cmd/report_json.h"
#include "data/prompt.h"
#include "generate/generation.h"
#include "store/snapshot.h"

#include <errno.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char usage[] =
    "usage: deq sample --prompt TEXT [OPTION]...\n"
    "\n"
    "Continues a text, printing words as they come. Only the new position is solved for,\n"
    "against keys and values of the earlier ones.\n"
    "\n"
    "      --prompt TEXT       words of the vocabulary, separated by blanks (a byte model takes\n"
    "                          any text); empty: the beginning of a line\n"
    "      --checkpoint FILE   default: the newest runs/*/best.bin, named on stderr\n"
    "      --tokens N          tokens to add (default: 100)\n"
    "      --temperature X     below 1 surer, above 1 wilder, 0: always the likeliest\n"
    "                          (default: 1)\n"
    "      --top-k N           only the N likeliest tokens (default: 0, all)\n"
    "      --top-p X           only the likeliest tokens that make up X together (default: 1)\n"
    "      --tol X             a position stops at a relative residual of X (default: as\n"
    "                          configured, or 0.03 where that is a fixed number of evaluations;\n"
    "                          what it costs in perplexity: deq eval --decode --tol X)\n"
    "      --seed N            of the random numbers: the same seed, the same text (default: 1)\n"
    "      --unk               let <unk> be drawn too\n"
    "      --device NAME       auto, cpu, cuda, or ref (default: auto)\n"
    "      --threads N         processor threads (default: all)\n"
    "      --json              no streaming; one JSON object: text, tokens, tokens_per_s, ...\n"
    "  -v, --verbose           tokens/s and evaluations per token at the end, on stderr\n"
    "  -h, --help              this help\n"
    "\n"
    "Example:\n"
    "  deq sample --prompt \"And God said\" --tokens 60 --top-p 0.9\n";

struct request {
    const char *prompt, *checkpoint, *device;
    char found[PATHS_MAX]; /* the checkpoint, when none was named */
    struct sampling how;
    int64_t tokens, seed, threads;
    double tol; /* 0: as configured */
    bool unk, json, verbose;
};

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    int operand;
    const struct option_rule rules[] = {
        OPTION("prompt", TEXT, &r->prompt, .empty = true),
        OPTION("checkpoint", TEXT, &r->checkpoint),
        OPTION("tokens", INT, &r->tokens, .min = 0, .max = INT64_C(1) << 40),
        OPTION("temperature", REAL, &r->how.temperature, .low = 0, .high = 1e6),
        OPTION("top-k", INT, &r->how.top_k, .min = 0, .max = INT32_MAX),
        OPTION("top-p", REAL, &r->how.top_p, .low = 1e-9, .high = 1),
        OPTION("tol", REAL, &r->tol, .low = 1e-12, .high = 1),
        OPTION("seed", INT, &r->seed, .min = 0, .max = INT64_MAX),
        OPTION("unk", FLAG, &r->unk),
        OPTION("device", TEXT, &r->device),
        OPTION("verbose", FLAG, &r->verbose, .letter = 'v'),
        OPTION("threads", INT, &r->threads, .min = 1, .max = OPTION_THREADS_MAX),
        OPTION("json", FLAG, &r->json),
        {0},
    };
    TRY(options_read(rules, argc, argv, &operand, err));
    if (operand < argc)
        return error_set(err, STATUS_USAGE, "unexpected \"%s\" (%s)", argv[operand],
                         access(argv[operand], F_OK) == 0 ? "a checkpoint is named by --checkpoint"
                                                          : "a prompt is one argument: quote it");
    if (r->prompt == NULL)
        return error_set(err, STATUS_USAGE, "want --prompt TEXT (try deq help sample)");
    return STATUS_OK;
}

/* The newest best checkpoint under ./runs. */
static enum status find_checkpoint(struct request *r, struct error *err)
{
    glob_t found;
    struct timespec newest = {0};
    if (glob("runs/*/best.bin", 0, NULL, &found) != 0)
        return error_set(err, STATUS_NOINPUT,
                         "no runs/*/best.bin here: name one with --checkpoint, or train a model");
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct stat info;
        if (stat(found.gl_pathv[i], &info) != 0)
            continue;
        const struct timespec *t = &info.st_mtim;
        if (t->tv_sec > newest.tv_sec ||
            (t->tv_sec == newest.tv_sec && t->tv_nsec > newest.tv_nsec)) {
            newest = *t;
            snprintf(r->found, sizeof r->found, "%s", found.gl_pathv[i]);
        }
    }
    globfree(&found);
    r->checkpoint = r->found;
    fprintf(stderr, "using %s\n", r->checkpoint);
    return STATUS_OK;
}

/* U+FFFD, which JSON gets for bytes that are no UTF-8. */
#define REPLACEMENT "\xEF\xBF\xBD"

/* Text as it grows: to stdout at once, or into a buffer. */
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
    report_json_begin(&w);
    json_write_string(&w, "text", o->text != NULL ? o->text : "");
    json_write_int(&w, "tokens", made);
    json_write_real(&w, "tokens_per_s", (double)made / seconds);
    json_write_real(&w, "nfe_mean", evals);
    json_write_int(&w, "seed", r->seed);
    json_write_string(&w, "checkpoint", r->checkpoint);
    return report_json_print(&w, err);
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
    struct request r = {.device = "auto",
                        .tokens = 100,
                        .seed = 1,
                        .how = {.temperature = 1, .top_p = 1, .excluded = -1}};
    struct backend be;
    TRY(parse(&r, argc, argv, err));
    if (r.checkpoint == NULL)
        TRY(find_checkpoint(&r, err));
    signal(SIGPIPE, SIG_IGN); /* a reader that leaves ends the text, not the program */
    TRY(device_open(&be, r.device, (int)r.threads, err));
    enum status status = run(&r, &be, err);
    backend_close(&be);
    return status;
}

const struct command command_sample = {
    .name = "sample",
    .summary = "continue a text",
    .usage = usage,
    .run = run_command,
};
