/* Copies the tokens of a folder into files of another form: from token files of other programs to
 * shards, and from either to token files of llm.c. Tokens go through a buffer of 1 MiB, whatever
 * their number is. */
#ifndef DEQ_DATA_CONVERT_H
#define DEQ_DATA_CONVERT_H

#include "data/folder_vocab.h"
#include "data/tokenize.h"

enum convert_form { CONVERT_SHARDS, CONVERT_LLMC };

struct convert_config {
    struct folder_tokens from; /* a folder of shards or of token files */
    enum convert_form to;
    const char *out;           /* borrows, a folder as in tokenize_config */
    bool force;                /* as in tokenize_config */
    const struct vocab *vocab; /* borrows, that of the tokens, NULL for folder_vocab_load */
    int64_t file_tokens;       /* of a file at most, or 0 for TOKENIZE_SHARD_TOKENS */
};

/* Converts every split that the folder has, of which train must be one. Files of llm.c are called
 * train_000000.bin, val_000000.bin and test_000000.bin, and vocab.txt lies beside them. Their
 * tokens take 16 bits up to 65,536 words, and 32 bits above. Fills result->vocab, tokens and
 * shards. Returns
 *   - STATUS_NOINPUT if the folder or its training tokens are missing
 *   - STATUS_DATA for a token beyond the vocabulary, for records, which llm.c has no form for, and
 *     for unusable files
 *   - STATUS_CONFIG if the vocabulary of token files is not known
 *   - STATUS_CANTCREATE if `out` is not empty and `force` not set, or cannot be written
 *   - STATUS_IO or STATUS_NOMEM */
enum status convert_run(const struct convert_config *c, struct tokenize_result *result,
                        struct error *err);

#endif
