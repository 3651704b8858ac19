/* deq sample continues a text with a checkpoint. */
#include "cmd/sample/sample.h"

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/commands.h"
#include "cmd/device.h"
#include "cmd/find_checkpoint.h"
#include "cmd/output.h"
#include "store/snapshot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SAMPLES_MAX = 100000 };

/* U+FFFD, which stands in JSON for bytes that are no UTF-8. */
#define REPLACEMENT "\xEF\xBF\xBD"

struct request {
    const char *prompt, *prompt_file, *checkpoint, *device;
    char found[PATHS_MAX]; /* the checkpoint */
    struct sampling how;
    struct option_list stop;
    int64_t tokens, samples, seed, threads;
    double tol; /* 0: as configured */
    bool unk, raw, interactive, json, verbose;
};

static const struct option_rule options[] = {
    OPTION("prompt", TEXT, prompt, .value = "TEXT", .empty = true,
           .help = "The text to continue, read as tokenize reads a text. A model of words ends a "
                   "line with <eos> and takes words that it does not know as <unk>, if it has one. "
                   "A byte model takes any text. - reads standard input.",
           .unset = "the beginning of a line"),
    OPTION("prompt-file", TEXT, prompt_file, .value = "FILE",
           .help = "Reads the prompt from a file. A line end at its end counts, so that the text "
                   "goes on with a new line."),
    OPTION("checkpoint", TEXT, checkpoint, .value = "FILE",
           .help = "The same as CHECKPOINT. It is a file, or the folder of a run. Of a run it is "
                   "best.bin, or last.bin where there was no validation text.",
           .unset = "the newest run under ./runs, named on stderr"),
    OPTION("interactive", FLAG, interactive,
           .help = "Reads lines that the model continues, one after the other. It remembers what "
                   "was said before, as far as its memory reaches. An empty line lets it go on. "
                   "/clear makes it forget, /exit and Ctrl-D end, Ctrl-C ends the text under way."),
    OPTION("tokens", INT, tokens, .value = "N", .min = 0, .max = INT64_C(1) << 40,
           .help = "Tokens to add.", .initial = "100"),
    OPTION("samples", INT, samples, .letter = 'n', .value = "N", .min = 1, .max = SAMPLES_MAX,
           .help = "Continues the prompt N times, up to 8 texts at once. A text is the same "
                   "whatever N is.",
           .initial = "1"),
    OPTION("stop", LIST, stop, .value = "TEXT",
           .help = "Ends a continuation before TEXT, in which \\n stands for a line end. May be "
                   "repeated."),
    OPTION("seed", INT, seed, .value = "N", .min = 0, .max = INT64_MAX,
           .help = "Seed of the random numbers. The same seed gives the same text.",
           .initial = "1"),
    OPTION("repeat-penalty", REAL, how.repeat_penalty, .group = "Choice of a token, in this order",
           .value = "X", .low = 0.01, .high = 1e6,
           .help = "Makes the last tokens less likely: divides their logits by X if they are "
                   "positive and multiplies them by X if not.",
           .initial = "1"),
    OPTION("repeat-last", INT, how.repeat_last, .value = "N", .min = 0, .max = 1 << 20,
           .help = "The tokens that this penalty looks back, the prompt included.",
           .initial = "64"),
    OPTION("top-k", INT, how.top_k, .value = "N", .min = 0, .max = INT32_MAX,
           .help = "Draws from the N likeliest tokens only. 0 allows all.", .initial = "0"),
    OPTION("top-p", REAL, how.top_p, .value = "X", .low = 1e-9, .high = 1,
           .help = "Draws from the likeliest tokens only whose probabilities add up to X.",
           .initial = "1"),
    OPTION("min-p", REAL, how.min_p, .value = "X", .low = 0, .high = 1,
           .help = "Draws only from tokens at least X times as likely as the likeliest.",
           .initial = "0"),
    OPTION("temperature", REAL, how.temperature, .value = "X", .low = 0, .high = 1e6,
           .help = "Below 1 the text is surer, above 1 wilder. At 0 every token is the likeliest.",
           .initial = "1"),
    OPTION("unk", FLAG, unk, .help = "Lets <unk> be drawn too."),
    OPTION("tol", REAL, tol, .group = "Other options", .value = "X", .low = 1e-12, .high = 1,
           .help = "Solves each position to a relative residual of X. `deq eval --decode --tol X` "
                   "tells what that costs in perplexity.",
           .unset = "as configured, or 0.03 where the configuration fixes the number of "
                    "evaluations"),
    OPTION("raw", FLAG, raw,
           .help = "Prints the words of a vocabulary that is divided at blanks as they are. "
                   "Otherwise punctuation is joined to the words it belongs to."),
    OPTION_DEVICE("auto"),
    OPTION_THREADS,
    OPTION_JSON,
    OPTION("verbose", FLAG, verbose, .letter = 'v',
           .help = "Prints tokens/s and evaluations per token on stderr at the end, as is done on "
                   "a terminal."),
    {0},
};

static const struct json_field fields[] = {
    {"text", "The prompt and its continuation, of the first sample."},
    {"samples[]", "For each sample text, tokens (that were added), and stop, which is the text "
                  "that ended it or null."},
    {"tokens", "Tokens that were added, in all samples together."},
    {"tokens_per_s", "Tokens drawn per second."},
    {"nfe_mean", "Mean evaluations of f per token."},
    {"seed", "The seed."},
    {"checkpoint", "The checkpoint that was used."},
    {0},
};

/* --- the prompt ------------------------------------------------------------------------------- */

static enum status read_all(FILE *in, struct sample_prompt *p, struct error *err)
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
static enum status get_prompt(const struct request *r, struct sample_prompt *p, struct error *err)
{
    *p = (struct sample_prompt){.name = "--prompt", .text = r->prompt};
    if (r->prompt == NULL && r->prompt_file == NULL)
        return STATUS_OK;
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

static void warn_unknown(const struct sample_prompt *p, const struct text_unknown *u)
{
    if (u->count == 0)
        return;
    fprintf(stderr, "deq sample: warning: %s: \"%s\" is not in the vocabulary and becomes <unk>",
            p->name, u->first);
    if (u->near[0] != '\0')
        fprintf(stderr, "; did you mean \"%s\"?", u->near);
    if (u->count > 1)
        fprintf(stderr, " (%lld are unknown)", (long long)u->count);
    fputc('\n', stderr);
}

enum status sample_encode(const struct sample_prompt *p, const struct vocab *vocab,
                          struct text_encoding *out, struct error *err)
{
    enum status status = text_encode(out, vocab, p->text, p->size, TEXT_OPEN, false, err);
    if (status == STATUS_OK)
        warn_unknown(p, &out->unknown);
    else
        error_prefix(err, "%s", p->name);
    return status;
}

/* --- the texts -------------------------------------------------------------------------------- */

/* All samples of a command. */
struct samples {
    struct sample_text *text; /* owns [count] */
    int64_t count;
    int64_t shown; /* number of the text that is being shown, of those before which all has been */
    bool json, unread; /* not to be shown, and nobody reads what is shown */
    int64_t tokens;    /* made of all */
    double seconds, evals, solved;
};

bool sample_show(struct sample_text *t)
{
    size_t len;
    const char *text = sample_text_next(t, &len);
    if (len == 0)
        return true;
    fwrite(text, 1, len, stdout);
    return fflush(stdout) == 0;
}

/* Prints what may be shown of the texts, one after the other. A text that is not at its end holds
 * up those after it. */
static void show(struct samples *s)
{
    while (s->shown < s->count && !s->unread) {
        struct sample_text *t = &s->text[s->shown];
        s->unread = !sample_show(t);
        if (!t->ended)
            return;
        if (t->len > 0 && t->text[t->len - 1] != '\n')
            putchar('\n');
        s->shown++;
        if (s->shown < s->count)
            printf("--- sample %lld of %lld ---\n", (long long)s->shown + 1, (long long)s->count);
    }
}

/* Draws the next token of texts first .. first + streams - 1. Those at their end get none. */
static enum status draw(const struct sample_job *job, struct samples *s, struct generator *g,
                        int32_t *drawn, struct error *err)
{
    TRY(generator_draw(g, drawn, err));
    for (int64_t i = 0; i < g->streams; i++) {
        struct sample_text *t = &s->text[g->plan.first + i];
        if (t->ended)
            continue;
        TRY(sample_text_add(t, drawn[i], err));
        s->tokens++;
        t->ended |= t->tokens == job->tokens;
    }
    return STATUS_OK;
}

static bool all_ended(const struct samples *s, const struct generator *g)
{
    bool ended = true;
    for (int64_t i = 0; i < g->streams; i++)
        ended &= s->text[g->plan.first + i].ended;
    return ended;
}

/* Makes the texts of a generator that has been fed the prompt. */
static enum status make_texts(const struct sample_job *job, struct samples *s, struct generator *g,
                              struct error *err)
{
    int32_t drawn[GENERATION_STREAMS];
    for (;;) {
        if (!s->json)
            show(s);
        if (all_ended(s, g) || s->unread)
            return STATUS_OK;
        TRY(draw(job, s, g, drawn, err));
        if (!all_ended(s, g))
            TRY(generator_step(g, drawn, err));
    }
}

/* Makes the texts from number `first` on, as many as are made at once. */
static enum status make_group(const struct sample_job *job, struct samples *s, int64_t first,
                              const struct text_encoding *prompt, struct error *err)
{
    enum status status = STATUS_OK;
    struct generator g = {0};
    struct generator_plan plan = {
        .model = job->model, .how = job->how, .seed = job->seed, .first = first};
    int64_t left = s->count - first;
    int64_t streams = left < GENERATION_STREAMS ? left : GENERATION_STREAMS;
    if (streams > 1) {
        TRY_OUT(generation_batch_model(&plan.many, job->be, job->config, job->model->params,
                                       streams, err));
        model_refresh(plan.many);
    }
    TRY_OUT(generator_create(&g, &plan, err));
    TRY_OUT(generator_feed(&g, prompt->ids, prompt->count, err));
    double start = clock_seconds(), evals = g.evals;
    int64_t solved = g.solved;
    TRY_OUT(make_texts(job, s, &g, err));
    s->seconds += clock_seconds() - start;
    s->evals += g.evals - evals;
    s->solved += (double)(g.solved - solved);
out:
    generator_free(&g);
    model_free(plan.many);
    return status;
}

static double evaluations(const struct samples *s)
{
    return s->solved > 0 ? s->evals / s->solved : 0;
}

/* Writes a text as a string of a JSON object. */
static enum status write_text(const struct sample_text *t, struct json_writer *w, struct error *err)
{
    char *copy = NULL;
    size_t at = 0;
    TRY(mem_alloc((void **)&copy, t->len + 1, sizeof REPLACEMENT - 1, err));
    for (size_t i = 0; i < t->len; i++) {
        if (t->text[i] != '\0') {
            copy[at++] = t->text[i];
            continue;
        }
        memcpy(copy + at, REPLACEMENT, sizeof REPLACEMENT - 1); /* a NUL would end the string */
        at += sizeof REPLACEMENT - 1;
    }
    copy[at] = '\0';
    json_write_string(w, "text", copy);
    mem_free(copy);
    return STATUS_OK;
}

static enum status print_json(const struct sample_job *job, const struct samples *s,
                              struct error *err)
{
    struct json_writer w;
    output_json_begin(&w);
    TRY(write_text(&s->text[0], &w, err));
    json_write_array(&w, "samples");
    for (int64_t i = 0; i < s->count; i++) {
        json_write_object(&w, NULL);
        TRY(write_text(&s->text[i], &w, err));
        json_write_int(&w, "tokens", s->text[i].tokens);
        if (s->text[i].stop != NULL)
            json_write_string(&w, "stop", s->text[i].stop);
        else
            json_write_raw(&w, "stop", "null");
        json_write_end(&w);
    }
    json_write_end(&w);
    json_write_int(&w, "tokens", s->tokens);
    json_write_real(&w, "tokens_per_s", (double)s->tokens / s->seconds);
    json_write_real(&w, "nfe_mean", evaluations(s));
    json_write_int(&w, "seed", (int64_t)job->seed);
    json_write_string(&w, "checkpoint", job->checkpoint);
    return output_json_print(&w, err);
}

void sample_tell_speed(int64_t tokens, double seconds, double evals)
{
    fprintf(stderr, "%lld tokens, %.1f tokens/s, %.1f evaluations a token\n", (long long)tokens,
            tokens > 0 ? (double)tokens / seconds : 0, evals);
}

static enum status begin_texts(const struct sample_job *job, const struct sample_prompt *from,
                               struct samples *s, const struct text_encoding *prompt,
                               struct error *err)
{
    TRY(mem_alloc((void **)&s->text, (size_t)s->count, sizeof *s->text, err));
    for (int64_t i = 0; i < s->count; i++) {
        sample_text_begin(&s->text[i], job->vocab, &job->stops, job->raw);
        if (from->size > 0)
            TRY(sample_text_add_prompt(&s->text[i], prompt->ids, prompt->count, err));
        s->text[i].ended = job->tokens == 0;
    }
    if (s->count > 1 && !s->json)
        printf("--- sample 1 of %lld ---\n", (long long)s->count);
    return STATUS_OK;
}

static enum status make_samples(const struct sample_job *job, const struct sample_prompt *from,
                                int64_t samples, bool json, struct error *err)
{
    enum status status = STATUS_OK;
    struct samples s = {.count = samples, .json = json};
    struct text_encoding prompt;
    TRY_OUT(sample_encode(from, job->vocab, &prompt, err));
    TRY_OUT(begin_texts(job, from, &s, &prompt, err));
    for (int64_t first = 0; first < samples && !s.unread; first += GENERATION_STREAMS)
        TRY_OUT(make_group(job, &s, first, &prompt, err));
    if (json)
        TRY_OUT(print_json(job, &s, err));
    fflush(stdout);
    if (job->tell)
        sample_tell_speed(s.tokens, s.seconds, evaluations(&s));
out:
    for (int64_t i = 0; i < samples && s.text != NULL; i++)
        sample_text_free(&s.text[i]);
    mem_free(s.text);
    text_encoding_free(&prompt);
    return status;
}

/* --- the command ------------------------------------------------------------------------------ */

static enum status run(const struct request *r, const struct sample_prompt *prompt,
                       struct sample_job *job, struct error *err)
{
    enum status status = STATUS_OK;
    struct snapshot from;
    int64_t together = r->samples < GENERATION_STREAMS ? r->samples : GENERATION_STREAMS;
    TRY(snapshot_open(&from, r->checkpoint, err));
    if (r->tol > 0) {
        from.config.solver.forward.stop = STOP_REL;
        from.config.solver.forward.tol = r->tol;
    }
    job->config = &from.config;
    job->vocab = from.vocab;
    job->how.excluded = r->unk ? -1 : vocab_unk(from.vocab);
    TRY_OUT(generation_check_memory(job->be, &from.config, together, err));
    TRY_OUT(generation_model(&job->model, job->be, &from.config, NULL, err));
    TRY_OUT(snapshot_read_params(&from, job->model->params, err));
    model_refresh(job->model);
    status = r->interactive ? sample_dialogue(job, prompt, err)
                            : make_samples(job, prompt, r->samples, r->json, err);
out:
    model_free(job->model);
    snapshot_close(&from);
    return status;
}

/* Replaces \n by a line end, \t by a tabulator and \\ by one backslash. The caller frees *out. */
static enum status unescape(const char *text, char **out, struct error *err)
{
    char *to;
    TRY(mem_alloc((void **)out, strlen(text) + 1, 1, err));
    for (to = *out; *text != '\0'; text++) {
        const char *escape = text[0] == '\\' && text[1] != '\0' ? strchr("nt\\", text[1]) : NULL;
        if (escape != NULL)
            text++;
        *to++ = escape == NULL ? *text : *escape == 'n' ? '\n' : *escape == 't' ? '\t' : '\\';
    }
    *to = '\0';
    return STATUS_OK;
}

static enum status check_request(struct request *r, const struct operands *operands,
                                 struct error *err)
{
    struct stat info;
    const char *named = operands->count > 0 ? operands->text[0] : NULL;
    if (named != NULL && r->checkpoint != NULL)
        return error_set(
            err, STATUS_USAGE,
            "%.100s and --checkpoint: want one checkpoint, and a prompt is one argument, "
            "so quote it",
            named);
    if (named != NULL && r->prompt != NULL && stat(named, &info) != 0)
        return error_set(err, STATUS_NOINPUT,
                         "%.100s: no such checkpoint; a prompt is one argument, so quote it",
                         named);
    if (named != NULL)
        r->checkpoint = named;
    if (r->prompt != NULL && r->prompt_file != NULL)
        return error_set(err, STATUS_USAGE,
                         "want --prompt TEXT, --prompt - for standard input, or --prompt-file "
                         "FILE, not both (try deq help sample)");
    if (r->interactive && (r->json || r->samples > 1))
        return error_set(err, STATUS_USAGE, "--interactive: one text for a person; not with %s",
                         r->json ? "--json" : "--samples");
    if (r->interactive && r->prompt != NULL && strcmp(r->prompt, "-") == 0)
        return error_set(err, STATUS_USAGE,
                         "--interactive: lines come from standard input, so the prompt cannot");
    return STATUS_OK;
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    enum status status = STATUS_OK;
    struct request r = {.how.excluded = -1};
    struct operands operands;
    struct backend be = {0};
    struct sample_prompt prompt = {0};
    char *stops[OPTION_LIST_MAX] = {NULL};
    TRY(command_read(&command_sample, &r, argc, argv, &operands, err));
    TRY(check_request(&r, &operands, err));
    TRY(find_checkpoint(r.checkpoint, r.found, err));
    r.checkpoint = r.found;
    struct sample_job job = {.checkpoint = r.found,
                             .be = &be,
                             .how = r.how,
                             .seed = (uint64_t)r.seed,
                             .tokens = r.tokens,
                             .stops = {(const char *const *)stops, r.stop.count},
                             .raw = r.raw,
                             .tell = r.verbose || isatty(STDERR_FILENO) == 1};
    if (r.interactive)
        sample_dialogue_begin();
    TRY(device_open(&be, r.device, (int)r.threads, err));
    for (int i = 0; i < r.stop.count; i++)
        TRY_OUT(unescape(r.stop.text[i], &stops[i], err));
    TRY_OUT(get_prompt(&r, &prompt, err));
    TRY_OUT(run(&r, &prompt, &job, err));
out:
    for (int i = 0; i < r.stop.count; i++)
        mem_free(stops[i]);
    mem_free(prompt.read);
    backend_close(&be);
    return status;
}

const struct command command_sample = {
    .name = "sample",
    .summary = "continue a text",
    .operands = "[CHECKPOINT]",
    .stray = "want one checkpoint, and a prompt is one argument, so quote it",
    .forms = (const char *const[]){"[CHECKPOINT] [--prompt TEXT] [OPTION]...",
                                   "[CHECKPOINT] --prompt-file FILE [OPTION]...",
                                   "[CHECKPOINT] --interactive [OPTION]...", NULL},
    .description = "Continues a text and prints words as they are drawn. Only the new position is "
                   "solved for, against keys and values of the earlier ones. With --json the text "
                   "comes at the end, in the object.",
    .options = options,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq sample --prompt \"And God said\" --tokens 60 --top-p 0.9",
            "deq sample runs/kjv --prompt \"And God said\" -n 4 --stop '\\n' --min-p 0.05",
            "printf 'And God said' | deq sample --prompt -",
            NULL,
        },
    .run = run_command,
};
