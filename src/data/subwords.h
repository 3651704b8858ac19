/* The encoding of texts in subwords, by a model of SentencePiece.
 *
 * A text is encoded line by line, and a line end is a token of its own. A model is lossless if it
 * has a piece for every byte and leaves texts as they are, as those that deq trains. Then
 *   - every text comes back byte for byte
 *   - the character U+2581, which stands for a blank in the pieces, is divided out and written as
 *     its bytes
 *   - if no piece has a blank behind another character, a line is encoded word by word with the
 *     blanks in front of each, and words that come again are not encoded again. The pieces are
 * those of the whole line, but for one case: where a unigram model scores two divisions of a word
 *     alike, as of dots into 1 + 2 or 2 + 1, the library lets the rounding of sums over the line
 *     choose, and here it is that of the word.
 * With any other model a line is what the library makes of it.
 */
#ifndef DEQ_DATA_SUBWORDS_H
#define DEQ_DATA_SUBWORDS_H

#include "base/status.h"
#include "data/text_range.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A model, which any number of threads may encode with. */
struct subwords;

/* Takes the bytes of a .model file, which are copied. The library is not needed yet. `name` stands
 * in messages. The caller frees *out with subwords_free. *out is NULL on error. Returns STATUS_DATA
 * or STATUS_NOMEM. */
enum status subwords_new(struct subwords **out, const void *model, size_t size, const char *name,
                         struct error *err);
void subwords_free(struct subwords *s); /* NULL is allowed */

/* The bytes of the model, and the text form of its vocabulary (vocab.h). They are borrowed. */
const void *subwords_model(const struct subwords *s, size_t *size);
const char *subwords_text(const struct subwords *s, size_t *size);

/* Whether every text comes back as it was. */
bool subwords_lossless(const struct subwords *s);

/* What one thread encodes into. A zeroed object is ready. */
struct subword_tokens {
    bool ranges;   /* set by the caller: ranges are wanted */
    bool remember; /* set by the caller: the texts are long, and words shall be remembered */
    int64_t count;
    int32_t *ids;             /* owns [count] */
    struct text_range *range; /* owns [count], if wanted */
    int64_t capacity;
    struct subword_scratch *scratch; /* owns */
};

void subword_tokens_free(struct subword_tokens *t);

/* Encodes text[size], which is UTF-8, into *t, in place of what was there. `inside` says that the
 * text begins inside a line. Returns
 *   - STATUS_DATA for a line end if the model has no piece for it, and for a model that the library
 *     refuses
 *   - STATUS_DEVICE in a program without the library
 *   - STATUS_NOMEM or STATUS_INTERNAL */
enum status subwords_encode(struct subwords *s, struct subword_tokens *t, const char *text,
                            size_t size, bool inside, struct error *err);

/* Where a part of text[size], which goes on, may end so that both parts are encoded as the whole
 * is: behind a line end or else in front of a blank, and otherwise behind a character. At least 1.
 */
size_t subwords_cut(const char *text, size_t size);

/* Reads a .model file. The caller frees *model with mem_free. Returns STATUS_NOINPUT, STATUS_DATA,
 * STATUS_IO or STATUS_NOMEM. */
enum status subwords_read_file(const char *path, void **model, size_t *size, struct error *err);

#endif
