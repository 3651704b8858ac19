/* A hash table of words with their counts, and the choice of a vocabulary from it. */
#include "data/word_count.h"

#include "base/mem.h"
#include "data/pieces.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { FIRST_SHIFT = 64 - 12, ARENA_UNIT = 8, FIRST_ARENA = 1 << 13 };

struct entry {
    uint64_t key;
    int64_t count; /* 0 in a free entry */
    int64_t first; /* offset in the file */
    uint32_t len;
    uint32_t place; /* of a long word in the arena, in units (a short word is its key) */
};

struct word_count {
    struct text_rule rule;
    struct entry *slots; /* owns [2^(64 - shift)], at most five eighths full */
    int shift;
    int64_t types, words, lines;
    char *arena; /* owns, the long words, each at a multiple of ARENA_UNIT */
    size_t arena_units, arena_capacity;
};

enum status word_count_new(struct word_count **out, struct text_rule rule, struct error *err)
{
    void *p = NULL;
    enum status status;
    *out = NULL;
    TRY(mem_alloc(&p, 1, sizeof **out, err));
    struct word_count *t = p;
    t->rule = rule;
    t->shift = FIRST_SHIFT;
    t->arena_capacity = FIRST_ARENA;
    TRY_OUT(mem_alloc(&p, (size_t)1 << (64 - t->shift), sizeof *t->slots, err));
    t->slots = p;
    TRY_OUT(mem_alloc(&p, t->arena_capacity, ARENA_UNIT, err));
    t->arena = p;
    *out = t;
    return STATUS_OK;
out:
    word_count_free(t);
    return status;
}

void word_count_free(struct word_count *t)
{
    if (t == NULL)
        return;
    mem_free(t->slots);
    mem_free(t->arena);
    mem_free(t);
}

static const char *entry_text(const struct word_count *t, const struct entry *e)
{
    return e->len <= WORD_SHORT ? (const char *)&e->key : t->arena + (size_t)e->place * ARENA_UNIT;
}

/* The entry of the word, or the free one where it belongs. */
static inline struct entry *find(const struct word_count *t, const struct word *word)
{
    uint64_t mask = (UINT64_C(1) << (64 - t->shift)) - 1;
    for (uint64_t i = word_slot(word->key, t->shift);; i = (i + 1) & mask) {
        struct entry *e = &t->slots[i];
        if (e->count == 0)
            return e;
        if (e->key == word->key && e->len == word->len &&
            (word->len <= WORD_SHORT || memcmp(entry_text(t, e), word->text, word->len) == 0))
            return e;
    }
}

static enum status double_slots(struct word_count *t, struct error *err)
{
    void *p = NULL;
    size_t old = (size_t)1 << (64 - t->shift), mask = 2 * old - 1;
    TRY(mem_alloc(&p, 2 * old, sizeof *t->slots, err));
    struct entry *slots = p;
    t->shift--;
    for (size_t k = 0; k < old; k++) {
        if (t->slots[k].count == 0)
            continue;
        uint64_t i = word_slot(t->slots[k].key, t->shift);
        while (slots[i].count != 0)
            i = (i + 1) & mask;
        slots[i] = t->slots[k];
    }
    mem_free(t->slots);
    t->slots = slots;
    return STATUS_OK;
}

static enum status add_new(struct word_count *t, struct entry *e, const struct word *word,
                           int64_t count, int64_t first, struct error *err)
{
    uint32_t place = 0;
    if (word->len > WORD_SHORT) {
        size_t units = (word->len + (size_t)ARENA_UNIT - 1) / ARENA_UNIT;
        if (t->arena_units + units > t->arena_capacity) {
            size_t more = 2 * t->arena_capacity > t->arena_units + units ? 2 * t->arena_capacity
                                                                         : t->arena_units + units;
            void *p = t->arena;
            TRY(mem_grow(&p, t->arena_capacity, more, ARENA_UNIT, err));
            t->arena = p;
            t->arena_capacity = more;
        }
        if (t->arena_units > UINT32_MAX)
            return error_set(err, STATUS_NOMEM, "more than 32 GB of distinct words: is this text?");
        place = (uint32_t)t->arena_units;
        memcpy(t->arena + t->arena_units * ARENA_UNIT, word->text, word->len);
        t->arena_units += units;
    }
    *e = (struct entry){
        .key = word->key, .count = count, .first = first, .len = word->len, .place = place};
    t->types++;
    if (8 * t->types > INT64_C(5) << (64 - t->shift))
        return double_slots(t, err);
    return STATUS_OK;
}

/* Starts to load what counting these words will touch. */
static void prefetch_words(const struct word_count *t, const struct word *words, int count)
{
    for (int i = 0; i < count; i++)
        __builtin_prefetch(&t->slots[word_slot(words[i].key, t->shift)]);
    for (int i = 0; i < count; i++) {
        if (words[i].len <= WORD_SHORT)
            continue;
        const struct entry *e = &t->slots[word_slot(words[i].key, t->shift)];
        __builtin_prefetch(t->arena + (size_t)e->place * ARENA_UNIT);
    }
}

enum status word_count_text(struct word_count *t, const char *text, size_t size, int64_t offset,
                            struct error *err)
{
    struct pieces p;
    assert(size > 0 && word_is_space(text[size - 1]));
    for (pieces_begin(&p, t->rule.split, text, size); pieces_next(&p);) {
        prefetch_words(t, p.word, p.count);
        for (int i = 0; i < p.count; i++) {
            if (p.word[i].len == 0) /* a line end */
                continue;
            struct entry *e = find(t, &p.word[i]);
            t->words++;
            if (e->count != 0)
                e->count++;
            else
                TRY(add_new(t, e, &p.word[i], 1, offset + (p.from[i] - text), err));
        }
    }
    t->lines += p.lines;
    return STATUS_OK;
}

enum status word_count_merge(struct word_count *t, const struct word_count *from, struct error *err)
{
    size_t slots = (size_t)1 << (64 - from->shift);
    for (size_t i = 0; i < slots; i++) {
        const struct entry *f = &from->slots[i];
        if (f->count == 0)
            continue;
        struct word word = {.text = entry_text(from, f), .key = f->key, .len = f->len};
        struct entry *e = find(t, &word);
        if (e->count == 0) {
            TRY(add_new(t, e, &word, f->count, f->first, err));
            continue;
        }
        e->count += f->count;
        e->first = f->first < e->first ? f->first : e->first;
    }
    t->words += from->words;
    t->lines += from->lines;
    return STATUS_OK;
}

int64_t word_count_words(const struct word_count *t)
{
    return t->words;
}

int64_t word_count_lines(const struct word_count *t)
{
    return t->lines;
}

/* A word on the way into the vocabulary. */
struct candidate {
    const char *text;
    uint32_t len;
    int64_t count, first;
};

static int by_rank(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return (x->first > y->first) - (x->first < y->first);
}

static bool candidate_is(const struct candidate *c, const char *word)
{
    return c->len == strlen(word) && memcmp(c->text, word, c->len) == 0;
}

/* Chooses the lowest count for the ranked list[n] of a text of `tokens` (VOCAB_MIN_COUNT_AUTO). */
static int64_t auto_min_count(const struct candidate *list, int64_t n, int64_t tokens)
{
    int64_t most = (int64_t)(VOCAB_GROWTH * sqrt((double)tokens));
    int64_t lowest = n > most ? list[most].count + 1 : 2;
    return lowest > 2 ? lowest : 2;
}

/* Removes the words beyond the limits from the ranked list[n] and adds their counts to `unk`.
 * Returns how many stay. */
static int64_t drop(struct candidate *list, int64_t n, const struct vocab_limits *limits,
                    int64_t min_count, struct candidate *unk)
{
    int64_t keep = n;
    while (keep > 0 && list[keep - 1].count < min_count)
        keep--;
    int64_t has_unk = limits->unk || unk->count > 0 || keep < n;
    if (limits->max_vocab > 0 && 1 + has_unk + keep > limits->max_vocab)
        keep = limits->max_vocab - 2;
    for (int64_t i = keep; i < n; i++) {
        if (unk->count == 0 || list[i].first < unk->first)
            unk->first = list[i].first;
        unk->count += list[i].count;
    }
    return keep;
}

/* Makes the vocabulary of "<eos>" and the words of the list. */
static enum status make_vocab(const struct text_rule *rule, const struct candidate *list, int64_t n,
                              const char *path, struct vocab **out, struct error *err)
{
    static const char eos[] = VOCAB_EOS "\n";
    char head[TEXT_RULE_LINE + sizeof eos];
    size_t size = text_rule_write(rule, head);
    memcpy(head + size, eos, sizeof eos);
    size += sizeof eos - 1;
    size_t at = size;
    void *p = NULL;
    for (int64_t i = 0; i < n; i++)
        size += list[i].len + 1;
    TRY(mem_alloc(&p, size, 1, err));
    char *text = p;
    memcpy(text, head, at);
    for (int64_t i = 0; i < n; i++) {
        memcpy(text + at, list[i].text, list[i].len);
        at += list[i].len;
        text[at++] = '\n';
    }
    enum status status = vocab_from_text(out, text, size, path, err);
    mem_free(text);
    return status;
}

enum status word_count_choose(const struct word_count *t, const struct vocab_limits *limits,
                              const char *name, struct vocab **out, struct vocab_choice *choice,
                              struct error *err)
{
    assert(limits->max_vocab == 0 || limits->max_vocab >= 2);
    void *p = NULL;
    int64_t n = 0;
    struct candidate unk = {.text = VOCAB_UNK, .len = sizeof VOCAB_UNK - 1};
    *out = NULL;
    if (t->types == 0)
        return error_set(err, STATUS_DATA, "%s: no words in it: a text is needed", name);
    TRY(mem_alloc(&p, (size_t)t->types + 1, sizeof(struct candidate), err));
    struct candidate *list = p;
    for (size_t i = 0; i < (size_t)1 << (64 - t->shift); i++) {
        const struct entry *e = &t->slots[i];
        struct candidate c = {
            .text = entry_text(t, e), .len = e->len, .count = e->count, .first = e->first};
        if (e->count == 0 || candidate_is(&c, VOCAB_EOS))
            continue;
        if (candidate_is(&c, VOCAB_UNK))
            unk.count = c.count, unk.first = c.first;
        else
            list[n++] = c;
    }
    qsort(list, (size_t)n, sizeof *list, by_rank);
    choice->min_count = limits->min_count;
    if (limits->min_count == VOCAB_MIN_COUNT_AUTO)
        choice->min_count = auto_min_count(list, n, t->words + t->lines);
    int64_t kept = drop(list, n, limits, choice->min_count, &unk);
    choice->dropped = kept < n;
    n = kept;
    if (unk.count > 0 || limits->unk) {
        /* It is ranked like any other word. */
        list[n++] = unk;
        qsort(list, (size_t)n, sizeof *list, by_rank);
    }
    enum status status = make_vocab(&t->rule, list, n, name, out, err);
    mem_free(list);
    return status;
}
