/* A prompt as token ids. */
#ifndef DEQ_DATA_PROMPT_H
#define DEQ_DATA_PROMPT_H

#include "data/vocab.h"

/* The ids of the words of a text, which white space separates, or in a byte vocabulary the ids of
 * its bytes. An empty text stands for the beginning of a line and becomes <eos> or a newline byte,
 * so that *count is at least 1. The caller frees *out with mem_free. *out is NULL on error. Returns
 * STATUS_DATA for a word that the vocabulary lacks, naming the nearest one, and for a text without
 * words if there is no <eos>, or STATUS_NOMEM. */
enum status prompt_encode(const struct vocab *v, const char *text, int32_t **out, int64_t *count,
                          struct error *err);

#endif
