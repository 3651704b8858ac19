/* Counts the words of a text, chooses the vocabulary and writes the shards of all splits. */
#include "data/tokenize.h"

#include "base/mem.h"
#include "data/out_folder.h"
#include "data/pieces.h"
#include "data/shard.h"
#include "data/subword_train.h"
#include "data/subwords.h"
#include "data/vocab.h"
#include "data/word_count.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* One thread's state in the encoding of a split. */
struct encoder {
    struct encoding *shared;
    uint32_t *ids; /* owns [block_bytes + 1], narrowed in place to the stored width */
    struct subword_tokens subwords; /* used in place of ids */
    /* The fields below are of the block at hand. */
    int64_t count;      /* ids */
    const void *stored; /* borrows, the ids as they are stored */
    int64_t eos, unknown, words, fallback;
    bool inside, leaves_inside; /* of bytes and subwords, it begins and ends inside a word */
};

/* The encoding of one split. */
struct encoding {
    const struct vocab *vocab;
    struct shard_writer *writer;
    int64_t unk;            /* id for words outside the vocabulary, or -1 to refuse them */
    bool has_unk;           /* the vocabulary has <unk>, which the error's advice depends on */
    const char *given;      /* borrows the vocabulary's file, NULL if it was counted */
    bool counted;           /* the vocabulary was counted on this very text */
    int64_t unknown, words; /* so far */
    int64_t fallback;       /* so far, subwords that are bytes */
    bool inside;            /* of bytes and subwords, the text so far ends inside a word */
};

struct tokenizer {
    const struct tokenize_config *c;
    struct tokenize_result *result;
    struct out_folder folder;
    struct vocab *vocab;                 /* owns */
    struct shard_writer *writer[SPLITS]; /* owns */
    struct text_source text[SPLITS];     /* owns */
    struct text_rule rule;
    bool dropped, counted;
    int threads;
    size_t block_bytes;
    int64_t train_tokens; /* counted in the first pass, or -1 without one */
};

const char *split_name(int split)
{
    static const char names[SPLITS][8] = {"train", "valid", "test"};
    assert(split >= 0 && split < SPLITS);
    return names[split];
}

static enum status count_block(void *worker, const struct text_block *block, struct error *err)
{
    return word_count_text(worker, block->text, block->size, block->offset, err);
}

static struct text_pass make_pass(const struct tokenizer *t, int split, const char *what,
                                  void **workers)
{
    return (struct text_pass){.source = &t->text[split],
                              .what = what,
                              .rule = t->rule,
                              .block_bytes = t->block_bytes,
                              .threads = t->threads,
                              .workers = workers,
                              .progress = t->c->progress,
                              .progress_context = t->c->progress_context};
}

static bool has_shares(const struct tokenize_config *c)
{
    return c->share[SPLIT_VALID] > 0 || c->share[SPLIT_TEST] > 0;
}

static enum status choose_vocabulary(struct tokenizer *t, const struct word_count *counts,
                                     struct error *err)
{
    bool prose = t->rule.split == TEXT_SPLIT_PUNCTUATION;
    bool map = t->c->unk == TOKENIZE_UNK_MAP ||
               (t->c->unk == TOKENIZE_UNK_AUTO && (prose || has_shares(t->c)));
    struct vocab_limits limits = {
        .min_count = t->c->min_count, .max_vocab = t->c->max_vocab, .unk = map};
    struct vocab_choice choice;
    if (limits.min_count == 0)
        limits.min_count = prose ? VOCAB_MIN_COUNT_AUTO : 1;
    TRY(word_count_choose(counts, &limits, t->text[SPLIT_TRAIN].name, &t->vocab, &choice, err));
    t->dropped = choice.dropped;
    t->result->min_count = choice.min_count;
    return STATUS_OK;
}

/* Makes the first pass over the training text, which chooses the vocabulary. */
static enum status count_vocabulary(struct tokenizer *t, struct error *err)
{
    struct word_count *counts[TOKENIZE_THREADS_MAX] = {NULL};
    void *workers[TOKENIZE_THREADS_MAX];
    int64_t bytes;
    enum status status;
    for (int i = 0; i < t->threads; i++) {
        TRY_OUT(word_count_new(&counts[i], t->rule, err));
        workers[i] = counts[i];
    }
    struct text_pass pass = make_pass(t, SPLIT_TRAIN, "count train", workers);
    pass.seekable = true;
    pass.work = count_block;
    TRY_OUT(text_pass_run(&pass, &bytes, err));
    for (int i = 1; i < t->threads; i++) {
        TRY_OUT(word_count_merge(counts[0], counts[i], err));
        word_count_free(counts[i]);
        counts[i] = NULL;
    }
    t->train_tokens = word_count_words(counts[0]) + word_count_lines(counts[0]);
    t->counted = true;
    TRY_OUT(choose_vocabulary(t, counts[0], err));
out:
    for (int i = 0; i < t->threads; i++)
        word_count_free(counts[i]);
    return status;
}

/* Checks that texts can be encoded in the subwords of `name`. */
static enum status check_subwords(const struct tokenizer *t, const char *name, struct error *err)
{
    if (vocab_rule(t->vocab).numbers)
        return error_set(err, STATUS_DATA,
                         "%s: a tokenizer.json only turns tokens into text here: let its own "
                         "program make token files, and read them with --from",
                         name);
    if (vocab_subwords(t->vocab) == NULL)
        return error_set(
            err, STATUS_DATA,
            "%s: a vocabulary of subwords without the " VOCAB_TOKENIZER
            " that it was made from: name the checkpoint, or the folder of its shards, "
            "with --vocab",
            name);
    if (t->c->lower)
        return error_set(err, STATUS_USAGE, "--lower has no meaning with subwords");
    t->result->lossy = !subwords_lossless(vocab_subwords(t->vocab));
    return STATUS_OK;
}

static enum status load_tokenizer(struct tokenizer *t, struct error *err)
{
    TRY(vocab_load_model(&t->vocab, t->c->tokenizer, err));
    return check_subwords(t, t->c->tokenizer, err);
}

static enum status sample_block(void *worker, const struct text_block *block, struct error *err)
{
    struct subword_sample *const *sample = worker;
    return subword_sample_add(*sample, block->text, block->size, block->offset, err);
}

static enum status pass_by(void *worker, const struct text_block *block, struct error *err)
{
    (void)worker;
    (void)block;
    (void)err;
    return STATUS_OK;
}

/* Makes the first pass over the training text, which trains the model of its subwords. */
static enum status train_subwords(struct tokenizer *t, struct error *err)
{
    struct subword_sample *sample = NULL;
    void *workers[TOKENIZE_THREADS_MAX];
    char *model = NULL;
    size_t size;
    int64_t bytes;
    enum status status;
    TRY_OUT(subword_sample_new(&sample, SUBWORD_SAMPLE_BYTES, t->c->seed, err));
    for (int i = 0; i < t->threads; i++)
        workers[i] = &sample;
    struct text_pass pass = make_pass(t, SPLIT_TRAIN, "sample train", workers);
    pass.seekable = true;
    pass.work = pass_by;
    pass.finish = sample_block;
    TRY_OUT(text_pass_run(&pass, &bytes, err));
    if (t->c->progress != NULL)
        t->c->progress(t->c->progress_context, "train pieces", 0, 0);
    status = subword_sample_train(sample, t->c->model_type, t->c->subwords, &model, &size, err);
    t->result->sampled = subword_sample_taken(sample);
    TRY_OUT(status);
    TRY_OUT(vocab_from_model(&t->vocab, model, size, "the model that was trained", err));
out:
    mem_free(model);
    subword_sample_free(sample);
    return status;
}

static enum status load_vocabulary(struct tokenizer *t, struct error *err)
{
    const bool bytes = t->c->bytes;
    TRY((t->c->load_vocab != NULL ? t->c->load_vocab : vocab_load)(&t->vocab, t->c->vocab, err));
    if (vocab_is_bytes(t->vocab) != bytes)
        return error_set(err, STATUS_DATA, "%s: a vocabulary of %s: %s --bytes", t->c->vocab,
                         bytes ? "words" : "bytes", bytes ? "leave out" : "use it with");
    t->rule = vocab_rule(t->vocab);
    t->rule.lower |= t->c->lower;
    if (t->rule.split == TEXT_SPLIT_SUBWORDS)
        return check_subwords(t, t->c->vocab, err);
    if (!bytes && vocab_eos(t->vocab) < 0)
        return error_set(err, STATUS_DATA,
                         "%s: no " VOCAB_EOS " in the vocabulary: add a line that says so",
                         t->c->vocab);
    return STATUS_OK;
}

static enum status unknown_word(const struct encoding *e, const struct text_block *block,
                                const struct pieces *p, int i, struct error *err)
{
    const struct word *word = &p->word[i];
    long long line = text_block_line(block, (size_t)(p->from[i] - block->text));
    int shown = word->len < 200 ? (int)word->len : 200;
    if (e->counted)
        return error_set(
            err, STATUS_IO,
            "%s:%lld: new word \"%.*s\": the file changed while it was read; run again",
            block->name, line, shown, word->text);
    if (e->has_unk || e->given == NULL)
        return error_set(
            err, STATUS_DATA,
            "%s:%lld: \"%.*s\" is not in the vocabulary; --unk map makes it " VOCAB_UNK,
            block->name, line, shown, word->text);
    return error_set(err, STATUS_DATA,
                     "%s:%lld: \"%.*s\" is not in the vocabulary %.200s, which has no " VOCAB_UNK
                     ": a model of these words can read no others; for another model leave out "
                     "--vocab and give --unk map, or --bytes",
                     block->name, line, shown, word->text, e->given);
}

/* Appends the ids of the pieces to those of the block. */
static enum status encode_pieces(struct encoder *e, const struct text_block *block,
                                 const struct pieces *p, struct error *err)
{
    const struct encoding *s = e->shared;
    const int64_t eos = vocab_eos(s->vocab);
    int32_t ids[WORD_BATCH];
    vocab_find_words(s->vocab, p->word, p->count, ids);
    for (int i = 0; i < p->count; i++) {
        int64_t id = ids[i];
        if (__builtin_expect(id < 0, 0)) {
            if (p->word[i].len == 0) {
                id = eos;
            } else if (s->unk < 0) {
                return unknown_word(s, block, p, i, err);
            } else {
                id = s->unk;
                e->unknown++;
            }
        }
        e->eos += id == eos; /* also the word <eos> in the text */
        e->ids[e->count++] = (uint32_t)id;
    }
    return STATUS_OK;
}

/* Narrows the ids to two bytes each in place. Id i is read before anything overwrites it. */
static void narrow_ids(uint32_t *ids, int64_t count)
{
    char *to = (char *)ids;
    for (int64_t i = 0; i < count; i++) {
        uint16_t id = (uint16_t)ids[i];
        memcpy(to + 2 * i, &id, sizeof id);
    }
}

static enum status encode_words(void *worker, const struct text_block *block, struct error *err)
{
    struct encoder *e = worker;
    const struct vocab *vocab = e->shared->vocab;
    struct pieces p;
    e->count = e->eos = e->unknown = 0;
    for (pieces_begin(&p, vocab_rule(vocab).split, block->text, block->size); pieces_next(&p);)
        TRY(encode_pieces(e, block, &p, err));
    e->words = p.words - (e->eos - p.lines);
    if (shard_width(vocab_size(vocab)) == 2)
        narrow_ids(e->ids, e->count);
    e->stored = e->ids;
    return STATUS_OK;
}

/* Counts words of a block that may begin and end inside of them. */
static void count_words(struct encoder *e, const struct text_block *block)
{
    e->words = 0;
    e->inside = !word_is_space(block->text[0]);
    e->leaves_inside = false;
    for (size_t i = 0; i < block->size; i++) {
        bool inside = !word_is_space(block->text[i]);
        e->words += inside && !e->leaves_inside;
        e->leaves_inside = inside;
    }
}

static enum status encode_subwords(void *worker, const struct text_block *block, struct error *err)
{
    struct encoder *e = worker;
    const struct vocab *vocab = e->shared->vocab;
    struct subword_tokens *t = &e->subwords;
    const int64_t unk = vocab_unk(vocab);
    size_t len;
    t->remember = true;
    if (subwords_encode(vocab_subwords(vocab), t, block->text, block->size, block->inside, err) !=
        STATUS_OK) {
        error_prefix(err, "%s", block->name);
        return err->status;
    }
    e->count = t->count;
    e->unknown = e->fallback = 0;
    for (int64_t i = 0; i < t->count; i++) {
        e->unknown += t->ids[i] == unk;
        e->fallback += vocab_kind(vocab, t->ids[i]) == SUBWORD_BYTE &&
                       (signed char)*vocab_surface(vocab, t->ids[i], &len) < 0;
    }
    count_words(e, block);
    if (shard_width(vocab_size(vocab)) == 2)
        narrow_ids((uint32_t *)t->ids, t->count);
    e->stored = t->ids;
    return STATUS_OK;
}

static enum status encode_bytes(void *worker, const struct text_block *block, struct error *err)
{
    (void)err;
    struct encoder *e = worker;
    char *to = (char *)e->ids;
    count_words(e, block);
    for (size_t i = 0; i < block->size; i++) {
        uint16_t id = (unsigned char)block->text[i];
        memcpy(to + 2 * i, &id, sizeof id);
    }
    e->stored = to;
    e->count = (int64_t)block->size;
    e->unknown = 0;
    return STATUS_OK;
}

static enum status store_block(void *worker, const struct text_block *block, struct error *err)
{
    (void)block;
    struct encoder *e = worker;
    struct encoding *s = e->shared;
    bool cut = s->inside && e->inside; /* a word across the blocks was counted in both */
    s->words += e->words - cut;
    s->inside = e->leaves_inside;
    s->unknown += e->unknown;
    s->fallback += e->fallback;
    return shard_writer_append(s->writer, e->stored, e->count, err);
}

static void resolve_unk(const struct tokenizer *t, int split, struct encoding *e)
{
    int64_t unk = vocab_unk(t->vocab);
    bool map = t->c->unk != TOKENIZE_UNK_ERROR;
    e->has_unk = unk >= 0;
    e->given = t->c->vocab;
    e->counted = t->counted && split == SPLIT_TRAIN;
    /* In the text that the vocabulary was counted on, only words left out are unknown. */
    if (e->counted)
        map = t->dropped;
    e->unk = map ? unk : -1;
}

static enum status encode_split(struct tokenizer *t, int split, struct error *err)
{
    static const char *const what[SPLITS] = {"encode train", "encode valid", "encode test"};
    struct encoder encoders[TOKENIZE_THREADS_MAX] = {{0}};
    void *workers[TOKENIZE_THREADS_MAX], *p = NULL;
    struct encoding shared = {.vocab = t->vocab};
    int64_t bytes = 0, tokens;
    enum status status;
    resolve_unk(t, split, &shared);
    const struct shard_writer_config config = {
        .dir = t->c->out,
        .split = split_name(split),
        .shard_tokens = t->c->shard_tokens > 0 ? t->c->shard_tokens : TOKENIZE_SHARD_TOKENS,
        .vocab_size = vocab_size(t->vocab),
        .vocab_hash = vocab_hash(t->vocab),
        .bytes = t->c->bytes};
    TRY_OUT(shard_writer_open(&t->writer[split], &config, err));
    shared.writer = t->writer[split];
    for (int i = 0; i < t->threads; i++) {
        encoders[i].shared = &shared;
        workers[i] = &encoders[i];
        if (t->rule.split == TEXT_SPLIT_SUBWORDS)
            continue;
        TRY_OUT(mem_alloc(&p, t->block_bytes + 1, sizeof *encoders[i].ids, err));
        encoders[i].ids = p;
    }
    struct text_pass pass = make_pass(t, split, what[split], workers);
    pass.work = t->rule.split == TEXT_SPLIT_SUBWORDS ? encode_subwords
                : t->c->bytes                        ? encode_bytes
                                                     : encode_words;
    pass.finish = store_block;
    TRY_OUT(text_pass_run(&pass, &bytes, err));
    tokens = shard_writer_tokens(shared.writer);
    if (split == SPLIT_TRAIN && t->counted && tokens != t->train_tokens) {
        status = error_set(err, STATUS_IO,
                           "%s: %lld tokens, then %lld: the file changed while it was read; run "
                           "again",
                           t->text[split].name, (long long)t->train_tokens, (long long)tokens);
        goto out;
    }
    TRY_OUT(shard_writer_finish(shared.writer, bytes, shared.words, err));
    t->result->tokens[split] = tokens;
    t->result->unknown[split] = shared.unknown;
    t->result->fallback[split] = shared.fallback;
    t->result->split_bytes[split] = bytes;
    t->result->bytes += bytes;
    t->result->shards += shard_writer_shards(shared.writer);
out:
    for (int i = 0; i < t->threads; i++) {
        mem_free(encoders[i].ids);
        subword_tokens_free(&encoders[i].subwords);
    }
    return status;
}

static int choose_threads(int wanted)
{
    long n = wanted > 0 ? wanted : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > TOKENIZE_THREADS_MAX ? TOKENIZE_THREADS_MAX : (int)n;
}

/* Reports a missing file before minutes are spent on the others. */
static enum status check_texts(const struct tokenize_config *c, struct error *err)
{
    for (int i = 0; i < SPLITS; i++)
        for (int k = 0; k < c->text[i].count; k++) {
            const char *path = c->text[i].path[k];
            if (strcmp(path, "-") != 0 && access(path, R_OK) != 0)
                return error_set(err, STATUS_NOINPUT,
                                 "%s: cannot read the text of the split %s: %s", path,
                                 split_name(i), strerror(errno));
        }
    return STATUS_OK;
}

_Static_assert((int)PART_VALID == SPLIT_VALID && (int)PART_TEST == SPLIT_TEST &&
                   (int)PARTS == SPLITS && (int)PART_REST == SPLIT_TRAIN,
               "parts become splits");

/* Divides the training text into its shares. */
static enum status draw_shares(struct tokenizer *t, struct error *err)
{
    const struct tokenize_config *c = t->c;
    struct text_source parts[PARTS], whole = t->text[SPLIT_TRAIN];
    t->text[SPLIT_TRAIN].spool = -1;
    enum status status =
        text_share(&whole, c->share, c->seed, c->out, parts, &t->result->drawn, err);
    text_source_close(&whole);
    for (int i = 0; i < SPLITS; i++)
        if (i == SPLIT_TRAIN || c->share[i] > 0)
            t->text[i] = parts[i];
    return status;
}

/* Makes the texts of all splits such that passes can read them. */
static enum status open_texts(struct tokenizer *t, struct error *err)
{
    const struct tokenize_config *c = t->c;
    for (int i = 0; i < SPLITS; i++) {
        bool again = i == SPLIT_TRAIN &&
                     ((!c->bytes && c->vocab == NULL && c->tokenizer == NULL) || has_shares(c));
        if (c->text[i].count == 0)
            continue;
        if (text_gather_needed(&c->text[i], again))
            TRY(text_gather(&c->text[i], !c->bytes, c->out, &t->text[i], err));
        else
            t->text[i] = text_source_file(c->text[i].path[0]);
    }
    return has_shares(c) ? draw_shares(t, err) : STATUS_OK;
}

/* Chooses the rule by which words are counted. */
static enum status choose_rule(struct tokenizer *t, struct error *err)
{
    const struct tokenize_config *c = t->c;
    struct tokenize_result *result = t->result;
    t->rule = (struct text_rule){.split = TEXT_SPLIT_BLANKS, .lower = c->lower};
    if (c->split == TOKENIZE_SPLIT_PUNCTUATION)
        t->rule.split = TEXT_SPLIT_PUNCTUATION;
    if (c->split != TOKENIZE_SPLIT_AUTO)
        return STATUS_OK;
    TRY(text_look(&t->text[SPLIT_TRAIN], &result->look, err));
    result->looked = true;
    t->rule.split = text_look_split(result->look);
    return STATUS_OK;
}

/* Chooses the rule and the vocabulary. */
static enum status make_vocabulary(struct tokenizer *t, struct error *err)
{
    t->rule.split = TEXT_SPLIT_SUBWORDS;
    if (t->c->subwords > 0)
        return train_subwords(t, err);
    if (t->c->tokenizer != NULL)
        return load_tokenizer(t, err);
    if (t->c->vocab != NULL)
        return load_vocabulary(t, err);
    if (t->c->bytes) {
        t->rule.split = TEXT_SPLIT_BYTES;
        t->rule.lower = t->c->lower;
        return vocab_make_bytes(&t->vocab, err);
    }
    TRY(choose_rule(t, err));
    return count_vocabulary(t, err);
}

enum status tokenize_run(const struct tokenize_config *c, struct tokenize_result *result,
                         struct error *err)
{
    assert(c->text[SPLIT_TRAIN].count > 0 && c->out != NULL);
    struct tokenizer t = {.c = c, .result = result, .train_tokens = -1};
    enum status status;
    *result = (struct tokenize_result){0};
    t.threads = choose_threads(c->threads);
    t.block_bytes = c->block_bytes > 0 ? c->block_bytes : TOKENIZE_BLOCK_BYTES;
    for (int i = 0; i < SPLITS; i++)
        t.text[i].spool = -1;
    TRY(check_texts(c, err));
    TRY_OUT(out_folder_prepare(&t.folder, c->out, c->force, err));
    TRY_OUT(open_texts(&t, err));
    TRY_OUT(make_vocabulary(&t, err));
    result->vocab = vocab_size(t.vocab);
    result->rule = t.rule;
    for (int i = 0; i < SPLITS; i++)
        if (c->text[i].count > 0 || c->share[i] > 0)
            TRY_OUT(encode_split(&t, i, err));
    TRY_OUT(out_folder_commit(&t.folder, t.writer, SPLITS, t.vocab, err));
out:
    for (int i = 0; i < SPLITS; i++) {
        shard_writer_close(t.writer[i]);
        text_source_close(&t.text[i]);
    }
    vocab_free(t.vocab);
    out_folder_close(&t.folder, status != STATUS_OK);
    return status;
}
