/* A text in memory as token ids: a prompt, a line to be scored, a file. */
#ifndef DEQ_DATA_TEXT_ENCODE_H
#define DEQ_DATA_TEXT_ENCODE_H

#include "data/text_range.h"
#include "data/vocab.h"

enum { TEXT_WORD_MAX = 64 };

/* What became of the words that the vocabulary lacks. */
struct text_unknown {
    int64_t count;             /* words or pieces that became <unk>, not counting a word <unk> */
    char first[TEXT_WORD_MAX]; /* the first of them as the text has it, cut if longer */
    char near[TEXT_WORD_MAX];  /* the nearest word of the vocabulary, or "" */
};

struct text_encoding {
    int32_t *ids; /* owns [count] */
    /* Owns [count], NULL unless asked for. The range of <eos> is that of the line end with its
     * carriage return, and an empty one at the end of a text that has none. */
    struct text_range *ranges;
    int64_t count; /* at least 1 */
    struct text_unknown unknown;
};

enum text_end {
    TEXT_OPEN,  /* the text is to be continued: its last line stays open */
    TEXT_CLOSED /* the text is whole: a last line without a newline ends with <eos> too */
};

/* Encodes text[size] as deq tokenize does, under the rule of the vocabulary (vocab_rule, pieces.h).
 *   - In a vocabulary of words every line end becomes <eos>, a byte order mark at the start is left
 *     out, and a word outside the vocabulary becomes <unk> if there is one, which `unknown` tells.
 *   - In a byte vocabulary every byte is an id, and `end` has no meaning.
 *   - In a vocabulary of subwords (subwords.h) `end` means that a text to be continued may end with
 *     a blank, as the next piece brings it. A line end becomes its token, and a last line without
 *     one gets none. What no piece stands for becomes <unk>, which `unknown` tells.
 *   - With a rule that has `numbers`, the text is the numbers of its tokens.
 *   - A text without tokens, and an empty one, becomes one <eos>, or one newline byte.
 *   - With TEXT_OPEN and TEXT_SPLIT_PUNCTUATION, or subwords, one blank at the very end is left
 * out, since the next word brings it. `ranges` says whether the ranges of the tokens are wanted.
 * The caller frees *out with text_encoding_free, also after an error, when it is empty. Returns
 * STATUS_DATA
 *   - for a word outside the vocabulary if there is no <unk>, naming the nearest one
 *   - for NUL and invalid UTF-8 in a text of words, naming line and byte
 *   - for a line end or an empty text if there is no <eos>
 *   - for a vocabulary of subwords whose tokenizer.model is not there, and for what is no number
 *     where one is wanted
 * STATUS_DEVICE for subwords in a program without SentencePiece, or STATUS_NOMEM. Messages do not
 * name the text, which the caller puts before them. */
enum status text_encode(struct text_encoding *out, const struct vocab *v, const char *text,
                        size_t size, enum text_end end, bool ranges, struct error *err);

void text_encoding_free(struct text_encoding *e);

#endif
