/* Replaces DIR/train-00000.bin by a shard of 1000 tokens whose last id is one too large. Its
 * checksums and numbers all agree with DIR/vocab.txt.
 *
 *   forge_shard DIR */
#include "data/shard.h"
#include "data/vocab.h"

#include <stdio.h>

enum { TOKENS = 1000 };

static enum status forge(const char *dir, struct error *err)
{
    char path[4096];
    static uint16_t ids[TOKENS];
    struct vocab *vocab = NULL;
    struct shard_writer *w = NULL;
    enum status status = STATUS_OK;
    snprintf(path, sizeof path, "%s/vocab.txt", dir);
    TRY_OUT(vocab_load(&vocab, path, err));
    ids[TOKENS - 1] = (uint16_t)vocab_size(vocab);
    const struct shard_writer_config config = {.dir = dir,
                                               .split = "train",
                                               .shard_tokens = TOKENS,
                                               .vocab_size = vocab_size(vocab),
                                               .vocab_hash = vocab_hash(vocab)};
    TRY_OUT(shard_writer_open(&w, &config, err));
    TRY_OUT(shard_writer_append(w, ids, TOKENS, err));
    TRY_OUT(shard_writer_finish(w, 5 * TOKENS, TOKENS, err));
    TRY_OUT(shard_writer_commit(w, err));
out:
    shard_writer_close(w);
    vocab_free(vocab);
    return status;
}

int main(int argc, char **argv)
{
    struct error err = {0};
    enum status status =
        argc == 2 ? forge(argv[1], &err) : error_set(&err, STATUS_USAGE, "usage: forge_shard DIR");
    if (status != STATUS_OK)
        fprintf(stderr, "forge_shard: %s\n", err.text);
    return (int)status;
}
