/* Counting words, and choosing a vocabulary from the counts. */
#ifndef DEQ_DATA_WORD_COUNT_H
#define DEQ_DATA_WORD_COUNT_H

#include "base/status.h"
#include "data/vocab.h"
#include <stdbool.h>
#include <stdint.h>

/* A table of distinct words. It takes 50 to 100 bytes a word, and the bytes of words longer than
 * eight. */
struct word_count;

/* An empty table for texts that are divided by this rule (pieces.h), which is not
 * TEXT_SPLIT_BYTES. The caller frees *out with word_count_free. Returns STATUS_NOMEM, with *out
 * NULL, on failure. */
enum status word_count_new(struct word_count **out, struct text_rule rule, struct error *err);
void word_count_free(struct word_count *t); /* NULL is allowed */

/* Counts every piece of text[size], which ends as pieces_begin wants it and is in lower case
 * already if the rule says so. `offset` is its offset in the file, from which the offset of each
 * word's first occurrence follows. Texts are given in ascending order of offset. Returns
 * STATUS_NOMEM on failure.
 */
enum status word_count_text(struct word_count *t, const char *text, size_t size, int64_t offset,
                            struct error *err);

/* Adds the counts of `from`, and takes the earlier of the two first occurrences. Returns
 * STATUS_NOMEM on failure. */
enum status word_count_merge(struct word_count *t, const struct word_count *from,
                             struct error *err);

int64_t word_count_words(const struct word_count *t); /* words counted */
int64_t word_count_lines(const struct word_count *t); /* newlines counted */

/* A min_count that is chosen from the size of the text: the lowest one of at least 2 that keeps at
 * most VOCAB_GROWTH * sqrt(N) words of a text of N words and line ends. */
enum { VOCAB_MIN_COUNT_AUTO = -1, VOCAB_GROWTH = 25 };

struct vocab_limits {
    int64_t min_count; /* words with a lower count are left out, or VOCAB_MIN_COUNT_AUTO */
    int64_t max_vocab; /* ids of the vocabulary, at least 2, or 0 for no limit */
    bool unk;          /* the vocabulary has <unk> even if no word is left out */
};

/* What was chosen. */
struct vocab_choice {
    bool dropped;      /* whether a word was left out */
    int64_t min_count; /* as given, or as it was chosen */
};

/* Chooses the vocabulary, which has the rule of the table. <eos> comes first, then the words by
 * descending count, and words of one count in the order of their first occurrence. Words below
 * min_count are left out, and then the last ones until the others, <eos> and <unk> are at most
 * max_vocab. <unk> is ranked with the counts and the first occurrence of all words left out, as if
 * they had been replaced in the text. *dropped says whether a word was left out. `path` (the
 * text's) is for messages. The caller frees *out with vocab_free. *out is NULL on error. Returns
 * STATUS_DATA if the text has no words or more than a vocabulary can hold, or STATUS_NOMEM. */
enum status word_count_choose(const struct word_count *t, const struct vocab_limits *limits,
                              const char *name, struct vocab **out, struct vocab_choice *choice,
                              struct error *err);

#endif
