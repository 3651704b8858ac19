/* Writes the copy-memory task as a folder of shards. */
#include "data/copy_memory.h"

#include "base/mem.h"
#include "base/rng.h"
#include "data/out_folder.h"

#include <assert.h>
#include <string.h>

/* Writes sequence `index` of `split` to `record`, its inputs and then its targets. */
static void make_record(uint16_t *record, const struct copy_memory_config *c, int split,
                        int64_t index)
{
    int64_t length = copy_memory_length(c->delay);
    uint16_t *input = record, *target = record + length;
    struct rng_key key = {c->seed, rng_stream(RNG_SAMPLE, 0, (uint64_t)split)};
    memset(record, 0, (size_t)(2 * length) * sizeof *record);
    for (int64_t i = 0; i < COPY_MEMORY_SYMBOLS; i++) {
        uint64_t number = (uint64_t)(index * COPY_MEMORY_SYMBOLS + i);
        uint16_t symbol = (uint16_t)(1 + (rng_word(key, number) & 7));
        input[i] = symbol;
        target[length - COPY_MEMORY_SYMBOLS + i] = symbol;
    }
    input[c->delay + COPY_MEMORY_SYMBOLS - 1] = 9;
}

static enum status write_split(const struct copy_memory_config *c, int split,
                               const struct vocab *vocab, struct shard_writer **writer,
                               struct error *err)
{
    enum status status = STATUS_OK;
    int64_t length = copy_memory_length(c->delay), count = c->sequences[split];
    int64_t most = c->shard_tokens > 0 ? c->shard_tokens : TOKENIZE_SHARD_TOKENS;
    uint16_t *record = NULL;
    assert(shard_width(vocab_size(vocab)) == sizeof *record);
    const struct shard_writer_config config = {.dir = c->out,
                                               .split = split_name(split),
                                               .shard_tokens = most,
                                               .vocab_size = vocab_size(vocab),
                                               .vocab_hash = vocab_hash(vocab),
                                               .sequence = length,
                                               .recall = COPY_MEMORY_SYMBOLS};
    TRY(shard_writer_open(writer, &config, err));
    TRY_OUT(mem_alloc((void **)&record, (size_t)(2 * length), sizeof *record, err));
    for (int64_t i = 0; i < count; i++) {
        make_record(record, c, split, i);
        TRY_OUT(shard_writer_append(*writer, record, 2 * length, err));
    }
    /* Each target counts as a word and as one byte of text. */
    TRY_OUT(shard_writer_finish(*writer, count * length, count * length, err));
out:
    mem_free(record);
    return status;
}

enum status copy_memory_run(const struct copy_memory_config *c, struct tokenize_result *result,
                            struct error *err)
{
    static const char words[] = "0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n";
    enum status status = STATUS_OK;
    struct shard_writer *writer[SPLITS] = {NULL};
    struct vocab *vocab = NULL;
    struct out_folder folder;
    *result = (struct tokenize_result){.vocab = COPY_MEMORY_VOCAB};
    TRY(vocab_from_text(&vocab, words, sizeof words - 1, "copy-memory", err));
    TRY_OUT(out_folder_prepare(&folder, c->out, c->force, err));
    for (int i = 0; i < SPLITS; i++) {
        TRY_OUT(write_split(c, i, vocab, &writer[i], err));
        result->tokens[i] = shard_writer_tokens(writer[i]) / 2;
        result->shards += shard_writer_shards(writer[i]);
        result->bytes += 2 * shard_writer_tokens(writer[i]);
    }
    TRY_OUT(out_folder_commit(&folder, writer, SPLITS, vocab, err));
out:
    for (int i = 0; i < SPLITS; i++)
        shard_writer_close(writer[i]);
    out_folder_close(&folder, status != STATUS_OK);
    vocab_free(vocab);
    return status;
}
