/* Folders of shards for tests. Token i of a split is a function of i, so that every reader can be
 * checked against it. */
#ifndef DEQ_TESTS_DATA_SHARDS_H
#define DEQ_TESTS_DATA_SHARDS_H

#include "base/scratch.h"
#include "data/shard.h"
#include "data/vocab.h"

#include <sys/stat.h>

/* The id of token i in a vocabulary of V words. It has no period below 2^32. */
static inline int32_t shards_id(int64_t i, int64_t V)
{
    return (int32_t)(((uint64_t)i * UINT64_C(0x9E3779B97F4A7C15) >> 32) % (uint64_t)V);
}

/* Writes a vocabulary "w0", "w1", ... to DIR/vocab.txt and returns its hash. */
static inline uint64_t shards_vocab(const char *dir, int64_t V)
{
    struct error err;
    struct vocab *v = NULL;
    char path[256], *text = malloc((size_t)V * 12);
    size_t n = 0;
    for (int64_t i = 0; i < V; i++)
        n += (size_t)sprintf(text + n, "w%d\n", (int)i);
    mkdir(dir, 0777);
    snprintf(path, sizeof path, "%s/vocab.txt", dir);
    scratch_write(path, text, n);
    if (vocab_from_text(&v, text, n, "test", &err) != STATUS_OK)
        abort();
    uint64_t hash = vocab_hash(v);
    vocab_free(v);
    free(text);
    return hash;
}

/* Writes a split of `tokens` tokens with the ids shards_id(i, range). */
static inline void shards_split(const struct shard_writer_config *c, int64_t tokens, int64_t range)
{
    struct error err;
    struct shard_writer *w = NULL;
    if (shard_writer_open(&w, c, &err) != STATUS_OK)
        abort();
    enum { CHUNK = 1000 };
    uint16_t narrow[CHUNK];
    uint32_t wide[CHUNK];
    for (int64_t i = 0; i < tokens;) {
        int64_t n = tokens - i < CHUNK ? tokens - i : CHUNK;
        for (int64_t k = 0; k < n; k++) {
            wide[k] = (uint32_t)shards_id(i + k, range);
            narrow[k] = (uint16_t)wide[k];
        }
        const void *ids = shard_width(c->vocab_size) == 2 ? (const void *)narrow : wide;
        if (shard_writer_append(w, ids, n, &err) != STATUS_OK)
            abort();
        i += n;
    }
    if (shard_writer_finish(w, 5 * tokens, tokens - tokens / 10, &err) != STATUS_OK ||
        shard_writer_commit(w, &err) != STATUS_OK)
        abort();
    shard_writer_close(w);
}

/* Writes a vocabulary of V words and a training split of it. */
static inline void shards_make(const char *dir, int64_t tokens, int64_t shard_tokens, int64_t V)
{
    const struct shard_writer_config c = {.dir = dir,
                                          .split = "train",
                                          .shard_tokens = shard_tokens,
                                          .vocab_size = V,
                                          .vocab_hash = shards_vocab(dir, V)};
    shards_split(&c, tokens, V);
}

#endif
