/* Counting words, and choosing a vocabulary from the counts. */
#ifndef DEQ_DATA_WORD_COUNT_H
#define DEQ_DATA_WORD_COUNT_H

#include "base/status.h"
#include "data/vocab.h"
#include "data/word.h"
#include <stdbool.h>
#include <stdint.h>

/* A table of distinct words; 50 to 100 bytes a word, and the bytes of those longer than eight. */
struct word_count;

enum status word_count_new(struct word_count **out, struct error *err);
void word_count_free(struct word_count *t); /* NULL is allowed */

/* Counts every word of a text that ends with white space (and WORD_PADDING bytes); `offset` is its
 * place in the file, from which the first place of each word is taken. Texts are to be given in
 * ascending order of offset. */
enum status word_count_text(struct word_count *t, const char *text, size_t size, int64_t offset,
                            struct error *err);

/* Adds the counts of `from`, and takes the earlier of the first places. */
enum status word_count_merge(struct word_count *t, const struct word_count *from,
                             struct error *err);

int64_t word_count_words(const struct word_count *t); /* words counted */
int64_t word_count_lines(const struct word_count *t); /* newlines counted */

/* The vocabulary: <eos> first, then words by descending count, ties by first place.
 *   - Words with a count below `min_count` are left out; then, if more than `max_vocab` ids remain
 *     (0: no limit; else at least 2), the last ones, until <unk> has a place too.
 *   - What is left out counts for <unk> (count, and earliest place), which is put in if it is no
 *     word of the text; so the result is that of the text with those words replaced.
 * *dropped: whether a word was left out. `path` (the text's) is for messages. STATUS_DATA if the
 * text has no words. */
enum status word_count_choose(const struct word_count *t, int64_t min_count, int64_t max_vocab,
                              const char *path, struct vocab **out, bool *dropped,
                              struct error *err);

#endif
