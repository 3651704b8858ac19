/* deq tokenize --from, which copies tokens that are there already. */
#ifndef DEQ_CMD_TOKENIZE_FROM_H
#define DEQ_CMD_TOKENIZE_FROM_H

#include "data/vocab.h"

struct tokens_from {
    const char *from, *out; /* folders */
    const char *vocab;      /* what --vocab names, or NULL */
    int64_t vocab_size;     /* of ids without a vocabulary, or 0 */
    int64_t file_tokens;    /* of a file at most */
    bool llmc, force, json;
};

/* Copies the tokens and prints what was made. `load` reads what --vocab names. Returns the statuses
 * of convert_run and of `load`. */
enum status tokenize_from(const struct tokens_from *r,
                          enum status (*load)(struct vocab **out, const char *path,
                                              struct error *err),
                          struct error *err);

#endif
