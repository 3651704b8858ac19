/* deq tokenize turns text into a vocabulary and shards of token ids. */
#include "cmd/commands.h"
#include "cmd/find_checkpoint.h"
#include "cmd/output.h"
#include "cmd/progress.h"
#include "cmd/tokenize_from.h"

#include "base/clock.h"
#include "data/copy_memory.h"
#include "data/tokenize.h"
#include "store/snapshot.h"

#include <omp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct request {
    struct tokenize_config config;
    struct option_list texts[SPLITS];
    const char *task, *unk, *split, *share[SPLITS], *from, *to;
    bool words, json;
    int64_t delay, seed, threads; /* -1: not given */
    int64_t vocab_size;
};

/* Training on delays longer than DELAY_MAX would take too long to be of use. */
enum { SUBWORDS_MAX = 1 << 24, DELAY_MAX = 100000, DELAY = 400, SEED = 1111 };

/* Share of single bytes above which subwords are not those of a text. */
#define FALLBACK_MAX 0.2

/* More than any text has, and small enough for sums. */
#define COUNT_MAX (INT64_C(1) << 40)

static const struct option_rule options[] = {
    OPTION("train", LIST, texts[SPLIT_TRAIN], .group = "Texts", .value = "FILE",
           .help = "The training text. The vocabulary is counted on it. Several files are one "
                   "text, in order. - reads standard input, and a FILE.gz is unpacked. May be "
                   "repeated."),
    OPTION("valid", LIST, texts[SPLIT_VALID], .value = "FILE",
           .help = "The validation text, in the same forms. May be repeated."),
    OPTION("test", LIST, texts[SPLIT_TEST], .value = "FILE",
           .help = "The test text. May be repeated."),
    OPTION("valid-share", TEXT, share[SPLIT_VALID], .value = "SHARE",
           .help = "Takes a share of the training text, such as 5%, for validation instead. Whole "
                   "paragraphs are drawn, or lines if the text has too few paragraphs, evenly "
                   "over its length."),
    OPTION("test-share", TEXT, share[SPLIT_TEST], .value = "SHARE",
           .help = "The same for the test."),
    OPTION("out", TEXT, config.out, .value = "DIR",
           .help = "The folder to write to. It is made if missing.", .required = true),
    OPTION("force", FLAG, config.force,
           .help = "Replaces vocab.txt and the shards in a folder that is not empty."),
    OPTION("words", FLAG, words, .group = "Tokens",
           .help = "Makes tokens of words and of <eos>, which ends every line. This is the "
                   "default. The text is UTF-8, and a byte order mark at its start is left out."),
    OPTION("bytes", FLAG, config.bytes, .help = "Makes 256 byte tokens from any file."),
    OPTION("split", CHOICE, split, .value = "auto|blanks|punctuation",
           .choices = "auto, blanks or punctuation",
           .help = "How words are divided. blanks does it at spaces, tabs and line ends and at no "
                   "other character, as texts in the style of WikiText want. punctuation also "
                   "divides punctuation from words, such that deq sample gives the text back as "
                   "it was. auto looks at the training text and says what it took.",
           .unset = "auto, or what the vocabulary of --vocab says"),
    OPTION("subwords", INT, config.subwords, .value = "N", .min = 2, .max = SUBWORDS_MAX,
           .help = "Makes N subwords of the training text, which are frequent pieces of words and "
                   "the 256 bytes, and encodes the texts in them. Every text comes back as it was. "
                   "They are trained by SentencePiece on at most 16 MiB, drawn from the text."),
    OPTION("model-type", CHOICE, config.model_type, .value = "unigram|bpe",
           .choices = "unigram or bpe", .help = "How subwords are trained.", .unset = "unigram"),
    OPTION("tokenizer", TEXT, config.tokenizer, .value = "FILE",
           .help = "Uses this .model file of SentencePiece instead of training one."),
    OPTION("lower", FLAG, config.lower,
           .help = "Turns the letters A-Z to a-z first. Letters outside ASCII stay as they are."),
    OPTION("min-count", INT, config.min_count, .group = "Vocabulary of words", .value = "N",
           .min = 1, .max = COUNT_MAX,
           .help = "Words seen fewer than N times in the training text become <unk>.",
           .unset = "1 with --split blanks, since such texts often have their own <unk>; else the "
                    "smallest N above 1 that keeps at most 25 * sqrt(tokens) words"),
    OPTION("max-vocab", INT, config.max_vocab, .value = "N", .min = 2, .max = COUNT_MAX,
           .help = "Keeps at most N words, <eos> and <unk> among them. Rarer words become <unk>."),
    OPTION("vocab", TEXT, config.vocab, .value = "FILE",
           .help = "Uses this vocabulary instead of counting one. It is a vocab.txt, or that of a "
                   "checkpoint or of a folder of shards. That of subwords comes with its "
                   "tokenizer."),
    OPTION("unk", CHOICE, unk, .value = "map|error", .choices = "map or error",
           .help =
               "What becomes of words outside the vocabulary. They become <unk>, which a counted "
               "vocabulary then has, or the first one is an error.",
           .unset = "map with --split punctuation, with shares, and if the vocabulary has <unk>; "
                    "else error"),
    OPTION("task", CHOICE, task, .group = "Tasks, made instead of read", .value = "copy-memory",
           .choices = "copy-memory",
           .help = "Makes sequences of ten symbols 1..8, zeros and a 9, after which the symbols "
                   "have to be repeated. 20,000 sequences of N + 20 positions are for training, "
                   "400 for validation and 2,000 for the test."),
    OPTION("delay", INT, delay, .value = "N", .min = 1, .max = DELAY_MAX,
           .help = "Steps from a symbol to its repetition.", .unset = "400"),
    OPTION("from", TEXT, from, .group = "Tokens that are there already", .value = "DIR",
           .help = "Copies the tokens of a folder in place of reading a text. It holds shards, or "
                   "token files of llm.c, nanoGPT or NumPy. Training reads such files as they are, "
                   "too."),
    OPTION("to", CHOICE, to, .value = "shards|llmc", .choices = "shards or llmc",
           .help = "The form to write them in, shards or token files of llm.c.", .unset = "shards"),
    OPTION("vocab-size", INT, vocab_size, .value = "N", .min = 1, .max = INT32_MAX,
           .help = "Ids that the tokens of another program have, where none of vocab.txt, "
                   "tokenizer.model and tokenizer.json lies beside them and --vocab names none."),
    OPTION("seed", INT, seed, .value = "N", .min = 0, .max = COUNT_MAX,
           .help =
               "Seed of the symbols, of what --valid-share and --test-share draw, and of the text "
               "that --subwords are trained on.",
           .unset = "1111"),
    OPTION("shard-tokens", INT, config.shard_tokens, .group = "Output", .value = "N", .min = 1,
           .max = COUNT_MAX, .help = "Tokens in a shard.", .initial = "16777216"),
    OPTION("threads", INT, threads, .value = "N", .min = 1, .max = TOKENIZE_THREADS_MAX,
           .help = "Processor threads.",
           .unset = "OMP_NUM_THREADS, or one for each processor that may be used, at most 16"),
    OPTION_JSON,
    {0},
};

static const struct json_field fields[] = {
    {"vocab", "Words or pieces of the vocabulary."},
    {"train_tokens", "Tokens of the training text."},
    {"valid_tokens", "Tokens of the validation text."},
    {"test_tokens", "Tokens of the test text."},
    {"train_unknown", "Share of the training tokens that became <unk>."},
    {"valid_unknown", "The same for the validation text."},
    {"test_unknown", "The same for the test text."},
    {"split", "How words were divided, blanks or punctuation, or else subwords or bytes."},
    {"min_count", "The count below which words became <unk>, 0 if none were counted."},
    {"units", "Only with --valid-share or --test-share. What was drawn, paragraphs or lines."},
    {"valid_share", "Only with --valid-share. The share of the bytes that was drawn."},
    {"test_share", "Only with --test-share. The share of the bytes that was drawn."},
    {"train_bytes_per_token", "Only for subwords. Bytes of training text a token."},
    {"valid_bytes_per_token", "Only for subwords. The same for the validation text."},
    {"test_bytes_per_token", "Only for subwords. The same for the test text."},
    {"lossless", "Only for subwords. Whether every text comes back as it was."},
    {"sampled", "Only for subwords. Bytes of text that they were trained on, or 0."},
    {"bytes", "Bytes of text that were read."},
    {"seconds", "Time it took."},
    {"mb_per_s", "Megabytes of text per second."},
    {"shards", "Shards that were written."},
    {0},
};

static bool has_subword_options(const struct tokenize_config *c)
{
    return c->subwords > 0 || c->tokenizer != NULL || c->model_type != NULL;
}

/* What is wrong with the options of subwords, or NULL. */
static const char *check_subword_options(const struct request *r)
{
    const struct tokenize_config *c = &r->config;
    if (!has_subword_options(c))
        return NULL;
    if (c->subwords == 0 && c->tokenizer == NULL)
        return "--model-type says how --subwords N are trained";
    if ((c->subwords > 0) + (c->tokenizer != NULL) + (c->vocab != NULL) > 1)
        return "--subwords, --tokenizer and --vocab each name the tokens; give one of them";
    if (c->model_type != NULL && c->tokenizer != NULL)
        return "--model-type says how --subwords N are trained; --tokenizer is trained already";
    if (r->words || c->bytes)
        return "subwords, --words and --bytes exclude each other";
    if (c->lower || r->split != NULL || r->unk != NULL || c->min_count > 0 || c->max_vocab > 0)
        return "--split, --lower, --unk, --min-count and --max-vocab have no meaning for subwords";
    return NULL;
}

/* Whether one of the options of texts and vocabularies was given. */
static bool has_text_options(const struct request *r)
{
    const struct tokenize_config *c = &r->config;
    bool text = r->words || c->bytes || c->lower || c->min_count > 0 || c->max_vocab > 0 ||
                c->vocab != NULL || r->unk != NULL || r->split != NULL || has_subword_options(c);
    for (int i = 0; i < SPLITS; i++)
        text = text || r->texts[i].count > 0 || r->share[i] != NULL;
    return text;
}

/* Checks what the options of texts want of each other. */
static const char *wrong_texts(const struct request *r)
{
    int standard = 0;
    for (int i = 0; i < SPLITS; i++) {
        if (r->texts[i].count > 0 && r->share[i] != NULL)
            return i == SPLIT_VALID ? "--valid and --valid-share exclude each other"
                                    : "--test and --test-share exclude each other";
        for (int k = 0; k < r->texts[i].count; k++)
            standard += strcmp(r->texts[i].text[k], "-") == 0;
    }
    if (standard > 1)
        return "standard input (-) can be read only once";
    return NULL;
}

/* Whether anything but a vocabulary was given that says how a text is read. */
static bool reads_text(const struct request *r)
{
    struct request others = *r;
    others.config.vocab = NULL;
    return r->task != NULL || has_text_options(&others);
}

/* Checks which options must stand together and which cannot. */
static enum status check_request(const struct request *r, struct error *err)
{
    const struct tokenize_config *c = &r->config;
    const char *wrong = wrong_texts(r);
    if (r->from != NULL && reads_text(r))
        return error_set(err, STATUS_USAGE,
                         "--from takes tokens that are there; options of texts and tasks have no "
                         "meaning (try deq help tokenize)");
    if (r->from != NULL)
        return STATUS_OK;
    if (r->to != NULL || r->vocab_size > 0)
        return error_set(err, STATUS_USAGE,
                         "--to and --vocab-size are those of --from DIR (try deq help tokenize)");
    bool task = r->task != NULL,
         shares = r->share[SPLIT_VALID] != NULL || r->share[SPLIT_TEST] != NULL;
    if (task && has_text_options(r))
        wrong = "--task makes its own tokens; options of texts and vocabularies have no meaning";
    else if (!task && r->delay >= 0)
        wrong = "--delay is that of --task copy-memory";
    else if (!task && !shares && c->subwords == 0 && r->seed >= 0)
        wrong = "--seed is that of --valid-share, --test-share, --subwords and --task copy-memory";
    else if (!task && r->texts[SPLIT_TRAIN].count == 0)
        wrong = "--train FILE is missing";
    else if (r->words && c->bytes)
        wrong = "--words and --bytes exclude each other";
    else if (c->bytes &&
             (c->min_count > 0 || c->max_vocab > 0 || r->unk != NULL || r->split != NULL))
        wrong = "--split, --min-count, --max-vocab and --unk have no meaning with --bytes";
    else if (c->vocab != NULL && (c->min_count > 0 || c->max_vocab > 0))
        wrong = "--min-count and --max-vocab choose a vocabulary, --vocab gives one; leave one out";
    else if (c->vocab != NULL && c->split != TOKENIZE_SPLIT_AUTO)
        wrong = "--vocab says how words are divided; leave out --split";
    else if (wrong == NULL)
        wrong = check_subword_options(r);
    if (wrong != NULL)
        return error_set(err, STATUS_USAGE, "%s (try deq help tokenize)", wrong);
    return STATUS_OK;
}

/* Reads "5%" or "0.05". */
static enum status read_share(const char *option, const char *text, double *share,
                              struct error *err)
{
    char *end;
    double value = strtod(text, &end);
    bool percent = *end == '%', digits = strspn(text, ".0123456789") == strlen(text) - percent;
    if (percent)
        value /= 100;
    if (!digits || end == text || end[percent] != '\0' || !(value >= 1e-6 && value <= 0.5))
        return error_set(err, STATUS_USAGE,
                         "--%s: want a share of at most a half, as 5%% or 0.05, got \"%.100s\"",
                         option, text);
    *share = value;
    return STATUS_OK;
}

static enum status parse(struct request *r, int argc, char **argv, struct error *err)
{
    struct tokenize_config *c = &r->config;
    TRY(command_read(&command_tokenize, r, argc, argv, NULL, err));
    if (r->split != NULL && strcmp(r->split, "auto") != 0)
        c->split =
            strcmp(r->split, "blanks") == 0 ? TOKENIZE_SPLIT_BLANKS : TOKENIZE_SPLIT_PUNCTUATION;
    if (r->unk != NULL)
        c->unk = strcmp(r->unk, "map") == 0 ? TOKENIZE_UNK_MAP : TOKENIZE_UNK_ERROR;
    for (int i = 0; i < SPLITS; i++)
        c->text[i] = (struct text_files){.path = r->texts[i].text, .count = r->texts[i].count};
    if (r->share[SPLIT_VALID] != NULL)
        TRY(read_share("valid-share", r->share[SPLIT_VALID], &c->share[SPLIT_VALID], err));
    if (r->share[SPLIT_TEST] != NULL)
        TRY(read_share("test-share", r->share[SPLIT_TEST], &c->share[SPLIT_TEST], err));
    return check_request(r, err);
}

/* When the progress line was last written, so that it changes five times a second at most. */
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

static bool has_subwords(const struct tokenize_result *x)
{
    return x->rule.split == TEXT_SPLIT_SUBWORDS;
}

/* Bytes of text a token of a split, 0 for a split not given. */
static double bytes_per_token(const struct tokenize_result *x, int split)
{
    return x->tokens[split] > 0 ? (double)x->split_bytes[split] / (double)x->tokens[split] : 0;
}

static bool has_split(const struct request *r, int split)
{
    return r->task != NULL || r->texts[split].count > 0 || r->share[split] != NULL;
}

/* Says how words were divided and chosen, where that was decided here. */
static void print_choices(const struct request *r, const struct tokenize_result *x)
{
    static const char *const part[PARTS] = {"", "validation", "the test"};
    const struct text_drawn *d = &x->drawn;
    double bytes = (double)(d->bytes[PART_REST] + d->bytes[PART_VALID] + d->bytes[PART_TEST]);
    for (int i = PART_VALID; i < PARTS; i++)
        if (r->share[i] != NULL)
            printf("drawn       %lld of %lld %s for %s, %.2g %% of the bytes, with seed %lld\n",
                   (long long)d->drawn[i], (long long)d->units,
                   d->paragraphs ? "paragraphs" : "lines", part[i],
                   100 * (double)d->bytes[i] / bytes, (long long)r->seed);
    if (x->looked || (r->config.vocab != NULL && !r->config.bytes))
        printf("split       %s, %s\n",
               x->rule.split == TEXT_SPLIT_BLANKS ? "at blanks" : "at blanks and punctuation",
               x->looked ? text_look_reason(x->look) : "as the vocabulary says");
}

static void print_text(const struct request *r, const struct tokenize_result *x, double seconds)
{
    print_choices(r, x);
    printf("vocabulary  %lld %s", (long long)x->vocab,
           r->config.bytes   ? "bytes"
           : has_subwords(x) ? "subwords"
                             : "words");
    if (x->sampled > 0)
        printf(", trained on %.2g MB", (double)x->sampled * 1e-6);
    if (x->min_count > 1)
        printf(", each seen at least %lld times", (long long)x->min_count);
    printf("\n");
    if (r->task != NULL)
        printf("sequences   of %lld positions\n", (long long)copy_memory_length(r->delay));
    for (int i = 0; i < SPLITS; i++) {
        if (!has_split(r, i))
            continue;
        printf("%-11s %lld tokens", split_name(i), (long long)x->tokens[i]);
        if (has_subwords(x))
            printf(" of %.2f bytes", bytes_per_token(x, i));
        if (x->unknown[i] > 0)
            printf(", %lld (%.2f %%) made <unk>", (long long)x->unknown[i],
                   100.0 * (double)x->unknown[i] / (double)x->tokens[i]);
        printf("\n");
    }
    printf("written     %lld shards in %s, %.1f s, %.1f MB/s\n", (long long)x->shards,
           r->config.out, seconds, (double)x->bytes * 1e-6 / seconds);
    if (!has_split(r, SPLIT_VALID))
        printf(
            "no valid    best.bin and deq sample want a validation text: --valid-share 5%% draws "
            "one\n");
    if (r->task == NULL)
        printf("next        deq train --data %s\n", r->config.out);
}

/* The share of a split's tokens that became <unk>, 0 for a split not given. */
static double unknown_share(const struct tokenize_result *x, int split)
{
    return x->tokens[split] > 0 ? (double)x->unknown[split] / (double)x->tokens[split] : 0;
}

/* Warns of subwords that are not those of the text. */
static void warn_subwords(const struct request *r, const struct tokenize_result *x)
{
    if (x->lossy)
        fprintf(stderr,
                "deq tokenize: warning: %s: this tokenizer changes texts, or lacks pieces for some "
                "bytes, so that not every text comes back as it was and bits per byte are not "
                "exact; --subwords N trains one that loses nothing\n",
                r->config.tokenizer != NULL ? r->config.tokenizer : r->config.vocab);
    for (int i = 0; i < SPLITS; i++)
        if ((double)x->fallback[i] > FALLBACK_MAX * (double)x->tokens[i])
            fprintf(stderr,
                    "deq tokenize: warning: %s: %.1f %% of the tokens are single bytes, for which "
                    "the subwords have no piece: they are those of another kind of text\n",
                    r->texts[i].count > 0 ? r->texts[i].text[0] : split_name(i),
                    100 * (double)x->fallback[i] / (double)x->tokens[i]);
}

/* Warns of splits of which a model would see too little. */
static void warn_unknown(const struct request *r, const struct tokenize_result *x)
{
    for (int i = 0; i < SPLITS; i++)
        if (unknown_share(x, i) > OUTPUT_UNKNOWN_MAX)
            fprintf(stderr, "deq tokenize: warning: %s: %.1f %% of the tokens became <unk>: %s\n",
                    r->texts[i].count > 0 ? r->texts[i].text[0] : split_name(i),
                    100 * unknown_share(x, i),
                    r->config.vocab != NULL
                        ? "the vocabulary is that of another kind of text; without --vocab one is "
                          "counted for a new model, and --bytes needs none"
                    : x->min_count <= 2
                        ? "more training text leaves fewer, and --bytes none"
                        : "a lower --min-count, a larger --max-vocab or more training text leaves "
                          "fewer, and --bytes none");
}

static enum status print_json(const struct request *r, const struct tokenize_result *x,
                              double seconds, struct error *err)
{
    static const char *const shares[PARTS] = {"", "valid_share", "test_share"};
    const struct text_drawn *d = &x->drawn;
    double bytes = (double)(d->bytes[PART_REST] + d->bytes[PART_VALID] + d->bytes[PART_TEST]);
    struct json_writer w;
    output_json_begin(&w);
    json_write_int(&w, "vocab", x->vocab);
    json_write_int(&w, "train_tokens", x->tokens[SPLIT_TRAIN]);
    json_write_int(&w, "valid_tokens", x->tokens[SPLIT_VALID]);
    json_write_int(&w, "test_tokens", x->tokens[SPLIT_TEST]);
    json_write_real(&w, "train_unknown", unknown_share(x, SPLIT_TRAIN));
    json_write_real(&w, "valid_unknown", unknown_share(x, SPLIT_VALID));
    json_write_real(&w, "test_unknown", unknown_share(x, SPLIT_TEST));
    json_write_string(&w, "split", text_split_name(x->rule.split));
    json_write_int(&w, "min_count", x->min_count);
    if (d->units > 0)
        json_write_string(&w, "units", d->paragraphs ? "paragraphs" : "lines");
    for (int i = PART_VALID; i < PARTS; i++)
        if (r->share[i] != NULL)
            json_write_real(&w, shares[i], (double)d->bytes[i] / bytes);
    if (has_subwords(x)) {
        json_write_real(&w, "train_bytes_per_token", bytes_per_token(x, SPLIT_TRAIN));
        json_write_real(&w, "valid_bytes_per_token", bytes_per_token(x, SPLIT_VALID));
        json_write_real(&w, "test_bytes_per_token", bytes_per_token(x, SPLIT_TEST));
        json_write_bool(&w, "lossless", !x->lossy);
        json_write_int(&w, "sampled", x->sampled);
    }
    json_write_int(&w, "bytes", x->bytes);
    json_write_real(&w, "seconds", seconds);
    json_write_real(&w, "mb_per_s", (double)x->bytes * 1e-6 / seconds);
    json_write_int(&w, "shards", x->shards);
    return output_json_print(&w, err);
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

/* Loads a vocab.txt, or the vocabulary of a checkpoint, or of the folder of a run or of shards. */
static enum status load_vocab(struct vocab **out, const char *path, struct error *err)
{
    char found[PATHS_MAX];
    struct checkpoint *file;
    *out = NULL;
    int n = snprintf(found, sizeof found, "%s/vocab.txt", path);
    if (n > 0 && n < (int)sizeof found && access(found, F_OK) == 0)
        return vocab_load(out, found, err);
    TRY(find_checkpoint(path, found, err));
    if (checkpoint_open(&file, found, err) != STATUS_OK)
        return vocab_load(out, path, err);
    enum status status = snapshot_read_vocab(file, out, err);
    checkpoint_close(file);
    return status;
}

/* OpenMP knows OMP_NUM_THREADS and the processors that taskset or a batch system allows. */
static int choose_threads(const struct request *r)
{
    int most = omp_get_max_threads() < omp_get_thread_limit() ? omp_get_max_threads()
                                                              : omp_get_thread_limit();
    if (r->threads > 0)
        return (int)r->threads;
    return most < TOKENIZE_THREADS_MAX ? most : TOKENIZE_THREADS_MAX;
}

static enum status copy_tokens(const struct request *r, struct error *err)
{
    const struct tokens_from from = {.from = r->from,
                                     .out = r->config.out,
                                     .vocab = r->config.vocab,
                                     .vocab_size = r->vocab_size,
                                     .file_tokens = r->config.shard_tokens,
                                     .llmc = r->to != NULL && strcmp(r->to, "llmc") == 0,
                                     .force = r->config.force,
                                     .json = r->json};
    return tokenize_from(&from, load_vocab, err);
}

static enum status run_command(int argc, char **argv, struct error *err)
{
    struct request r = {.delay = -1, .seed = -1};
    struct tokenize_result result;
    struct text_progress progress = {0};
    TRY(parse(&r, argc, argv, err));
    if (r.from != NULL)
        return copy_tokens(&r, err);
    if (progress_live()) {
        r.config.progress = show_progress;
        r.config.progress_context = &progress;
    }
    double start = clock_seconds();
    r.config.load_vocab = load_vocab;
    r.config.threads = choose_threads(&r);
    r.delay = r.delay < 0 ? DELAY : r.delay;
    r.seed = r.seed < 0 ? SEED : r.seed;
    r.config.seed = (uint64_t)r.seed;
    if (r.config.subwords > 0 && r.config.model_type == NULL)
        r.config.model_type = "unigram";
    enum status status =
        r.task != NULL ? make_task(&r, &result, err) : tokenize_run(&r.config, &result, err);
    double seconds = clock_seconds() - start;
    if (progress.shown)
        fprintf(stderr, "\r%60s\r", "");
    if (status != STATUS_OK)
        return status;
    warn_unknown(&r, &result);
    warn_subwords(&r, &result);
    if (r.json)
        return print_json(&r, &result, seconds, err);
    print_text(&r, &result, seconds);
    return STATUS_OK;
}

static const struct command_file files[] = {
    {"DIR/train-00000.bin", "The first shard of the training text, and so on for valid and test."},
    {"DIR/vocab.txt", "A word a line, in the order of ids."},
    {"DIR/tokenizer.model", "The model of SentencePiece, for subwords."},
    {0},
};

const struct command command_tokenize = {
    .name = "tokenize",
    .summary = "turn text into a vocabulary and shards of token ids",
    .stray = "texts are given by --train, --valid and --test",
    .forms =
        (const char *const[]){
            "--train FILE... --out DIR [--valid-share 5%] [OPTION]...",
            "--from DIR --out DIR [--to shards|llmc] [OPTION]...",
            "--task copy-memory --out DIR [--delay N] [OPTION]...",
            NULL,
        },
    .description =
        "Turns text into shards of token ids, DIR/train-00000.bin and so on, and DIR/vocab.txt, "
        "which has one word a line in the order of ids. The other subcommands read them.\n"
        "A vocabulary of words is <eos> and then the words by falling count.",
    .options = options,
    .files = files,
    .json = fields,
    .examples =
        (const char *const[]){
            "deq tokenize --train my.txt --valid-share 5% --out data/my",
            "deq tokenize --train train.txt --valid valid.txt --min-count 3 --out data/x",
            "deq tokenize --train train.txt --valid valid.txt --subwords 8000 --out data/y",
            "deq tokenize --from data/my --to llmc --out llmc/my",
            "zcat *.gz | deq tokenize --train - --valid-share 5% --out data/many",
            NULL,
        },
    .run = run_command,
};
