/* Finds the vocabulary of a folder of tokens. */
#include "data/folder_vocab.h"

#include "data/tokenizer_json.h"

#include <stdio.h>
#include <unistd.h>

/* Says how a folder of token files can have a vocabulary. */
static enum status refuse(const char *dir, const char *file, struct error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%.4000s/meta.pkl", dir);
    if (access(path, F_OK) == 0)
        return error_set(err, STATUS_CONFIG,
                         "%s: names the characters of nanoGPT, and only Python reads it: "
                         "scripts/from_nanogpt.py %s makes " VOCAB_TOKENIZER
                         " of it, with which samples are text",
                         path, dir);
    return error_set(err, STATUS_CONFIG,
                     "%s: token files without a vocabulary: set model.vocab_size to the size that "
                     "their tokenizer has, as 50257 for GPT-2, or put its " VOCAB_TOKENIZER
                     " or " TOKENIZER_JSON " beside them",
                     file);
}

enum status folder_vocab_load(struct vocab **out, const struct folder_tokens *tokens,
                              struct error *err)
{
    char path[4096];
    struct token_files files;
    struct error ignored;
    int n = snprintf(path, sizeof path, "%s/vocab.txt", tokens->dir);
    *out = NULL;
    if (n < 0 || (size_t)n >= sizeof path)
        return error_set(err, STATUS_NOINPUT, "%.100s...: name too long", path);
    enum status status = vocab_load(out, path, err);
    if (status != STATUS_NOINPUT)
        return status;
    if (token_files_open(&files, tokens->dir, "train", tokens->format, &ignored) != STATUS_OK) {
        if (ignored.status != STATUS_NOINPUT)
            *err = ignored;
        return err->status;
    }
    snprintf(path, sizeof path, "%.4000s/" VOCAB_TOKENIZER, tokens->dir);
    if (access(path, F_OK) != 0)
        snprintf(path, sizeof path, "%.4000s/" TOKENIZER_JSON, tokens->dir);
    status = access(path, F_OK) == 0  ? vocab_load(out, path, err)
             : tokens->vocab_size > 0 ? vocab_make_ids(out, tokens->vocab_size, tokens->end, err)
                                      : refuse(tokens->dir, files.list[0].path, err);
    token_files_close(&files);
    return status;
}
