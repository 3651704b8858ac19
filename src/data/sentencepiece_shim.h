/* SentencePiece, a library in C++, for a program in C. sentencepiece_shim.cc calls it, and
 * sentencepiece_none.c stands in its place in a program that was built without it: there every call
 * fails, and names the package. */
#ifndef DEQ_DATA_SENTENCEPIECE_SHIM_H
#define DEQ_DATA_SENTENCEPIECE_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/status.h"

/* A model that is ready to encode, for any number of threads at the same time. */
struct spm;

/* Returns STATUS_DEVICE in a program without the library, before work is done for nothing. */
enum status spm_check(struct error *err);

/* Opens a model from the bytes of a .model file, which are not needed afterwards. The caller frees
 * *out with spm_close. *out is NULL on error. Returns STATUS_DATA if the library refuses
 * the bytes, STATUS_NOMEM, or STATUS_DEVICE in a program without the library. */
enum status spm_open(struct spm **out, const void *model, size_t size, struct error *err);
void spm_close(struct spm *s); /* NULL is allowed */

/* What one thread encodes into. A zeroed object is ready, and spm_pieces_free frees what
 * it has come to own. */
struct spm_pieces {
    int64_t count;  /* of pieces */
    int32_t *ids;   /* owns [count] */
    uint32_t *ends; /* owns [count], where each ends in the text, if they were asked for */
    size_t capacity;
    void *proto; /* owns, the library's own form */
};

void spm_pieces_free(struct spm_pieces *p);

/* Encodes text[size], which is UTF-8, as one line. Returns STATUS_NOMEM, STATUS_INTERNAL if the
 * library fails, or STATUS_DEVICE. */
enum status spm_encode(const struct spm *s, struct spm_pieces *p, const char *text, size_t size,
                       bool ends, struct error *err);

struct spm_training {
    const char *lines; /* [size], the sample, each line of which ends with a newline */
    size_t size;
    const char *type; /* "unigram" or "bpe" */
    int64_t pieces;   /* of the model, <unk> and the 256 bytes among them */
};

enum { SPM_LINE_MAX = 4096 /* bytes of a line of the sample */ };

/* Trains a model that loses nothing: no normalisation, no blank put in front or removed, and a
 * piece for every byte. The caller frees *model with mem_free. *model is NULL on error. The model
 * depends on nothing but its arguments. Returns STATUS_DATA if the sample has too little text for
 * so many pieces, or too many characters for so few, with the number that would do in the message,
 * STATUS_NOMEM, STATUS_INTERNAL if the library fails, or STATUS_DEVICE. */
enum status spm_train(const struct spm_training *t, char **model, size_t *size, struct error *err);

#ifdef __cplusplus
}
#endif

#endif
