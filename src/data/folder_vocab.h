/* The vocabulary of a folder of tokens. */
#ifndef DEQ_DATA_FOLDER_VOCAB_H
#define DEQ_DATA_FOLDER_VOCAB_H

#include "data/token_file.h"
#include "data/vocab.h"

/* What a configuration says of token files of other programs. */
struct folder_tokens {
    const char *dir;          /* borrows */
    enum token_format format; /* data.format */
    int64_t vocab_size;       /* model.vocab_size, 0 if it is to be found */
    int64_t end;              /* data.end_of_text, or -1 */
};

/* Loads DIR/vocab.txt. In a folder that has none, but training tokens of another program, the
 * vocabulary is that of the ids below vocab_size. The caller frees *out with vocab_free. *out is
 * NULL on error. Returns STATUS_NOINPUT if the folder has neither, STATUS_CONFIG if vocab_size is
 * missing for its token files or `end` is beyond it, and what vocab_load and token_files_open
 * return. */
enum status folder_vocab_load(struct vocab **out, const struct folder_tokens *tokens,
                              struct error *err);

#endif
