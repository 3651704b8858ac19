/* The copy-memory task (Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016 and Bai
 * et al. 2019), written as shards of records.
 *
 *   input   ten symbols of 1..8, zeros, a 9 at position delay + 10 (counted from 1), ten zeros
 *   target  zeros, and in the last ten positions the ten symbols
 *
 * A sequence has delay + 20 positions. The mean loss of a model without memory is at least
 * 10 ln 8 / (delay + 20). The symbols depend on the seed alone and are the same on all machines. */
#ifndef DEQ_DATA_COPY_MEMORY_H
#define DEQ_DATA_COPY_MEMORY_H

#include "data/tokenize.h"

enum { COPY_MEMORY_SYMBOLS = 10, COPY_MEMORY_VOCAB = 10 };
enum { COPY_MEMORY_TRAIN = 20000, COPY_MEMORY_VALID = 400, COPY_MEMORY_TEST = 2000 };

struct copy_memory_config {
    int64_t delay;             /* at least 1 */
    const char *out;           /* folder, as in tokenize_config */
    bool force;                /* as in tokenize_config */
    int64_t sequences[SPLITS]; /* number for each split */
    int64_t shard_tokens;      /* 0 for TOKENIZE_SHARD_TOKENS */
    uint64_t seed;
};

/* Positions of a sequence. */
static inline int64_t copy_memory_length(int64_t delay)
{
    return delay + 2 * COPY_MEMORY_SYMBOLS;
}

/* Writes the folder. result->tokens counts targets, result->bytes what was written. Returns
 * STATUS_CANTCREATE if the folder is not empty and `force` not set, or cannot be made or written,
 * STATUS_IO or STATUS_NOMEM. */
enum status copy_memory_run(const struct copy_memory_config *c, struct tokenize_result *result,
                            struct error *err);

#endif
