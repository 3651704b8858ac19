/* deq tokenize: text to vocabulary and shards. */
#include "cmd/commands.h"
#include "cmd/options.h"
#include "cmd/output.h"
#include "cmd/progress.h"

#include "base/clock.h"
#include "data/copy_memory.h"
#include "data/tokenize.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static const char usage[] =
    "usage: deq tokenize --train FILE [--valid FILE] [--test FILE] --out DIR [OPTION]...\n"
    "       deq tokenize --task copy-memory [--delay N] --out DIR [OPTION]...\n"
    "\n"
    "Turns text into DIR/vocab.txt (one word a line, in the order of ids) and shards of token\n"
    "ids (DIR/train-00000.bin, ...), which the other subcommands read.\n"
    "\n"
    "Texts:\n"
    "      --train FILE        training text; the vocabulary is counted on it\n"
    "      --valid FILE        validation text\n"
    "      --test FILE         test text\n"
    "      --out DIR           output folder, made if missing\n"
    "      --force             replace vocab.txt and the shards in a folder that is not empty\n"
    "\n"
    "Tokens:\n"
    "      --words             words between white space (space, tab, line ends; no other\n"
    "                          character), and <eos> at the end of every line; text is UTF-8, a\n"
    "                          byte order mark at its start is left out (default)\n"
    "      --bytes             256 byte tokens, any file\n"
    "      --lower             turn the letters A-Z to a-z first; letters outside ASCII stay as\n"
    "                          they are\n"
    "\n"
    "Vocabulary (words only): <eos>, then words by falling count.\n"
    "      --min-count N       words seen fewer times in the training text become <unk>\n"
    "                          (default: 1)\n"
    "      --max-vocab N       at most N words, <eos> and <unk> among them; the rest become\n"
    "                          <unk>\n"
    "      --vocab FILE        use this vocabulary (a vocab.txt) instead of counting\n"
    "      --unk map|error     words outside the vocabulary: make them <unk>, or stop at the\n"
    "                          first (default: map if the vocabulary has <unk>)\n"
    "\n"
    "Tasks, made instead of read:\n"
    "      --task copy-memory  ten symbols of 1..8, zeros, a 9, and the symbols are to be given\n"
    "                          again: 20,000 sequences of N + 20 to train on, 400 to validate,\n"
    "                          2,000 to test\n"
    "      --delay N           steps from a symbol to its recall (default: 400)\n"
    "      --seed N            of the symbols (default: 1111)\n"
    "\n"
    "Output:\n"
    "      --shard-tokens N    tokens in a shard (default: 16777216)\n"
    "      --json              print the result as one JSON object: vocab, train_tokens,\n"
    "                          valid_tokens, test_tokens, bytes, seconds, mb_per_s, shards\n"
    "  -h, --help              this help\n"
    "\n"
    "Example:\n"
    "  deq tokenize --train train.txt --valid valid.txt --min-count 3 --out data/x\n";

struct request {
    struct tokenize_config config;
    bool words, unk_given, json;
    bool task;           /* copy-memory, the only one */
    int64_t delay, seed; /* -1: not given */
};

/* A sequence beyond this is no longer a test of memory but of patience. */
enum { DELAY_MAX = 100000, DELAY = 400, SEED = 1111 };

/* More than any text has, and small enough for sums. */
static const int64_t count_max = INT64_C(1) << 40;

/* Options that must, or cannot, stand together. */
static enum status check_request(const struct request *r, struct error *err)
{
    const struct tokenize_config *c = &r->config;
    const char *wrong = NULL;
    bool text = r->words || c->bytes || c->lower || c->min_count > 0 || c->max_vocab > 0 ||
                c->vocab != NULL || r->unk_given;
    for (int i = 0; i < SPLITS; i++)
        text = text || c->text[i] != NULL;
    if (r->task && text)
        wrong = "--task makes its own tokens: options of texts and vocabularies have no meaning";
    else if (!r->task && (r->delay >= 0 || r->seed >= 0))
        wrong = "--delay and --seed are those of --task copy-memory";
    else if (!r->task && c->text[SPLIT_TRAIN] == NULL)
        wrong = "--train FILE is missing";
    else if (c->out == NULL)
        wrong = "--out DIR is missing";
    else if (r->words && c->bytes)
        wrong = "--words and --bytes exclude each other";
    else if (c->bytes && (c->min_count > 0 || c->max_vocab > 0 || r->unk_given))
        wrong = "--min-count, --max-vocab and --unk have no meaning with --bytes";
    else if (c->vocab != NULL && (c->min_count > 0 || c->max_vocab > 0))
        wrong = "--min-count and --max-vocab choose a vocabulary, --vocab gives one: leave one out";
    if (wrong != NULL)
        return error_set(err, STATUS_USAGE, "%s (try deq help tokenize)", wrong);
    return STATUS_OK;
}

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    struct tokenize_config *c = &r->config;
    const char *task = NULL, *unk = NULL;
    int operand;
    const struct option_rule rules[] = {
        OPTION("train", TEXT, &c->text[SPLIT_TRAIN]),
        OPTION("valid", TEXT, &c->text[SPLIT_VALID]),
        OPTION("test", TEXT, &c->text[SPLIT_TEST]),
        OPTION("out", TEXT, &c->out),
        OPTION("words", FLAG, &r->words),
        OPTION("bytes", FLAG, &c->bytes),
        OPTION("lower", FLAG, &c->lower),
        OPTION("min-count", INT, &c->min_count, .min = 1, .max = count_max),
        OPTION("max-vocab", INT, &c->max_vocab, .min = 2, .max = count_max),
        OPTION("vocab", TEXT, &c->vocab),
        OPTION("unk", CHOICE, &unk, .choices = "map or error"),
        OPTION("shard-tokens", INT, &c->shard_tokens, .min = 1, .max = count_max),
        OPTION("force", FLAG, &c->force),
        OPTION("json", FLAG, &r->json),
        OPTION("task", CHOICE, &task, .choices = "copy-memory"),
        OPTION("delay", INT, &r->delay, .min = 1, .max = DELAY_MAX),
        OPTION("seed", INT, &r->seed, .min = 0, .max = count_max),
        {0},
    };
    TRY(options_read(rules, argc, argv, &operand, err));
    if (operand < argc)
        return error_set(err, STATUS_USAGE,
                         "\"%s\": not an option (texts are given by --train, --valid and --test)",
                         argv[operand]);
    r->task = task != NULL;
    r->unk_given = unk != NULL;
    if (r->unk_given)
        c->unk = strcmp(unk, "map") == 0 ? TOKENIZE_UNK_MAP : TOKENIZE_UNK_ERROR;
    return check_request(r, err);
}

/* When the progress line was last written, for a line a fifth of a second at most. */
struct text_progress {
    double last;
    bool shown;
};

static void show_progress(void *context, const char *what, int64_t done, int64_t total)
{
    struct text_progress *p = context;
    double time = clock_seconds();
    if (time - p->last < 0.2)
        return;
    p->last = time;
    p->shown = true;
    fprintf(stderr, "\r%-12s %8.1f MB", what, (double)done * 1e-6);
    if (total > 0)
        fprintf(stderr, " of %.1f (%3.0f %%)  ", (double)total * 1e-6,
                100.0 * (double)(done < total ? done : total) / (double)total);
    fflush(stderr);
}

static void print_text(const struct request *r, const struct tokenize_result *x, double seconds)
{
    printf("vocabulary  %lld %s\n", (long long)x->vocab, r->config.bytes ? "bytes" : "words");
    if (r->task)
        printf("sequences   of %lld positions\n", (long long)copy_memory_length(r->delay));
    for (int i = 0; i < SPLITS; i++) {
        if (r->config.text[i] == NULL && !r->task)
            continue;
        printf("%-11s %lld tokens", split_name(i), (long long)x->tokens[i]);
        if (x->unknown[i] > 0)
            printf(", %lld (%.2f %%) made <unk>", (long long)x->unknown[i],
                   100.0 * (double)x->unknown[i] / (double)x->tokens[i]);
        printf("\n");
    }
    printf("written     %lld shards in %s, %.1f s, %.1f MB/s\n", (long long)x->shards,
           r->config.out, seconds, (double)x->bytes * 1e-6 / seconds);
}

static enum status print_json(const struct tokenize_result *x, double seconds, struct error *err)
{
    struct json_writer w;
    report_json_begin(&w);
    json_write_int(&w, "vocab", x->vocab);
    json_write_int(&w, "train_tokens", x->tokens[SPLIT_TRAIN]);
    json_write_int(&w, "valid_tokens", x->tokens[SPLIT_VALID]);
    json_write_int(&w, "test_tokens", x->tokens[SPLIT_TEST]);
    json_write_int(&w, "bytes", x->bytes);
    json_write_real(&w, "seconds", seconds);
    json_write_real(&w, "mb_per_s", (double)x->bytes * 1e-6 / seconds);
    json_write_int(&w, "shards", x->shards);
    return report_json_print(&w, err);
}

static enum status make_task(const struct request *r, struct tokenize_result *result,
                             struct error *err)
{
    struct copy_memory_config c = {
        .delay = r->delay,
        .out = r->config.out,
        .force = r->config.force,
        .sequences = {COPY_MEMORY_TRAIN, COPY_MEMORY_VALID, COPY_MEMORY_TEST},
        .shard_tokens = r->config.shard_tokens,
        .seed = (uint64_t)r->seed,
    };
    return copy_memory_run(&c, result, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.delay = -1, .seed = -1};
    struct tokenize_result result;
    struct text_progress progress = {0};
    TRY(parse(&r, argc, argv, err));
    if (progress_live()) {
        r.config.progress = show_progress;
        r.config.progress_context = &progress;
    }
    double start = clock_seconds();
    r.delay = r.delay < 0 ? DELAY : r.delay;
    r.seed = r.seed < 0 ? SEED : r.seed;
    enum status status =
        r.task ? make_task(&r, &result, err) : tokenize_run(&r.config, &result, err);
    double seconds = clock_seconds() - start;
    if (progress.shown)
        fprintf(stderr, "\r%60s\r", "");
    if (status != STATUS_OK)
        return status;
    if (r.json)
        return print_json(&result, seconds, err);
    print_text(&r, &result, seconds);
    return STATUS_OK;
}

const struct command command_tokenize = {
    .name = "tokenize",
    .summary = "turn text into a vocabulary and shards of token ids",
    .usage = usage,
    .run = run_command,
};
