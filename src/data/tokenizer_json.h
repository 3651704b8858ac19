/* The vocabulary of a tokenizer.json, as the tokenizers library of Hugging Face writes it.
 *
 * It is read to turn tokens into text, and no text into tokens. Two kinds are understood:
 *   - BPE over bytes, as of GPT-2. A character of a piece stands for a byte, by GPT-2's table.
 *   - BPE or unigram pieces as of SentencePiece, in which U+2581 stands for a blank, with <0x00> to
 *     <0xFF> for bytes.
 * Added tokens that are special add nothing to a text, and others stand for themselves. Ids that
 * the file leaves out are special tokens, too. */
#ifndef DEQ_DATA_TOKENIZER_JSON_H
#define DEQ_DATA_TOKENIZER_JSON_H

#include "base/status.h"
#include <stddef.h>

/* The file beside token files. */
#define TOKENIZER_JSON "tokenizer.json"

/* Writes the text form of the vocabulary (vocab.h), whose rule has `numbers`. The caller frees *out
 * with mem_free. *out is NULL on error. Returns STATUS_NOINPUT if `path` cannot be opened,
 * STATUS_DATA for a file that is no such tokenizer or of another kind, which the message names, or
 * STATUS_NOMEM. */
enum status tokenizer_json_text(char **out, size_t *size, const char *path, struct error *err);

#endif
