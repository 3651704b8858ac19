/* A prompt as token ids. */
#ifndef DEQ_DATA_PROMPT_H
#define DEQ_DATA_PROMPT_H

#include "data/vocab.h"

/* The ids of a text: its words, separated by white space, or in a byte vocabulary its bytes. A text
 * without any is the beginning of a line: <eos>, or a newline byte; so *count is at least 1.
 * STATUS_DATA for a word that is not in the vocabulary, naming the nearest one, and for a text
 * without words if there is no <eos>. The caller frees *out with mem_free; NULL on error. */
enum status prompt_encode(const struct vocab *v, const char *text, int32_t **out, int64_t *count,
                          struct error *err);

#endif
