/* The copy-memory task (Hochreiter & Schmidhuber 1997, in the form of Arjovsky et al. 2016 and Bai
 * et al. 2019), made as shards of records:
 *
 *   input   ten symbols of 1..8, zeros, a 9 at position delay + 10 (counted from 1), ten zeros
 *   target  zeros, and in the last ten positions the ten symbols
 *
 * delay + 20 positions in all. A model without memory can do no better than 10 ln 8 / (delay + 20)
 * in mean loss. Symbols are random numbers of the seed: the same everywhere. */
#ifndef DEQ_DATA_COPY_MEMORY_H
#define DEQ_DATA_COPY_MEMORY_H

#include "data/tokenize.h"

enum { COPY_MEMORY_SYMBOLS = 10, COPY_MEMORY_VOCAB = 10 };
enum { COPY_MEMORY_TRAIN = 20000, COPY_MEMORY_VALID = 400, COPY_MEMORY_TEST = 2000 };

struct copy_memory_config {
    int64_t delay;             /* 1 at least */
    const char *out;           /* folder, as in tokenize_run */
    bool force;                /* likewise */
    int64_t sequences[SPLITS]; /* of each split */
    int64_t shard_tokens;      /* 0: TOKENIZE_SHARD_TOKENS */
    uint64_t seed;
};

/* Positions of a sequence. */
static inline int64_t copy_memory_length(int64_t delay)
{
    return delay + 2 * COPY_MEMORY_SYMBOLS;
}

/* Writes the folder; result->tokens are targets, result->bytes what was written. Errors as in
 * tokenize_run, of the output. */
enum status copy_memory_run(const struct copy_memory_config *c, struct tokenize_result *result,
                            struct error *err);

#endif
