/* A prompt as token ids. */
#ifndef DEQ_DATA_PROMPT_H
#define DEQ_DATA_PROMPT_H

#include "data/vocab.h"

enum { PROMPT_WORD_MAX = 64 };

/* What became of the words that the vocabulary lacks. */
struct prompt_unknown {
    int64_t count;               /* words that became <unk> */
    char first[PROMPT_WORD_MAX]; /* the first of them, cut if longer */
    char near[PROMPT_WORD_MAX];  /* the nearest word of the vocabulary, or "" */
};

/* The ids of text[size] as deq tokenize would read it. In a vocabulary of words, white space
 * divides words, every newline becomes <eos> and a byte order mark at the start is left out; a last
 * line without a newline stays open, since it is to be continued. A word outside the vocabulary
 * becomes <unk> if there is one, and *unknown says so. In a byte vocabulary every byte is an id. A
 * text without words and lines stands for the beginning of a line and becomes <eos> or a newline
 * byte, so that *count is at least 1. The caller frees *out with mem_free. *out is NULL on error.
 * Returns STATUS_DATA
 *   - for a word outside the vocabulary if there is no <unk>, naming the nearest one
 *   - for NUL and invalid UTF-8 in a text of words, naming line and byte
 *   - for a line end or an empty text if there is no <eos>
 * or STATUS_NOMEM. */
enum status prompt_encode(const struct vocab *v, const char *text, size_t size, int32_t **out,
                          int64_t *count, struct prompt_unknown *unknown, struct error *err);

#endif
