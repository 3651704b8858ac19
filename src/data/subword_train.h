/* The sample of a text on which a model of subwords is trained.
 *
 * The sample is lines, or parts of long ones, that are drawn from the whole text by a hash of their
 * place in it and of a seed. The memory is at most twice that of the sample, however long the text
 * is, and the sample depends on the text and the seed alone. A text that is no larger than the
 * sample is taken whole.
 */
#ifndef DEQ_DATA_SUBWORD_TRAIN_H
#define DEQ_DATA_SUBWORD_TRAIN_H

#include "base/status.h"
#include <stddef.h>
#include <stdint.h>

enum { SUBWORD_SAMPLE_BYTES = 1 << 24 };

struct subword_sample;

/* The caller frees *out with subword_sample_free. `bytes` is the size of the sample. *out is
 * NULL on error. Returns STATUS_DEVICE in a program without SentencePiece, or STATUS_NOMEM. */
enum status subword_sample_new(struct subword_sample **out, size_t bytes, uint64_t seed,
                               struct error *err);
void subword_sample_free(struct subword_sample *s); /* NULL is allowed */

/* Draws from text[size], which is UTF-8 and lies at `offset` of the file. Texts come in ascending
 * order. Returns STATUS_NOMEM. */
enum status subword_sample_add(struct subword_sample *s, const char *text, size_t size,
                               int64_t offset, struct error *err);

/* Bytes of text seen, and bytes of the sample. */
int64_t subword_sample_seen(const struct subword_sample *s);
int64_t subword_sample_taken(const struct subword_sample *s);

/* Trains a model of `pieces` pieces, of `type` "unigram" or "bpe". Returns what spm_train
 * (sentencepiece_shim.h) returns, and STATUS_DATA for a text without a line to take. */
enum status subword_sample_train(struct subword_sample *s, const char *type, int64_t pieces,
                                 char **model, size_t *size, struct error *err);

#endif
