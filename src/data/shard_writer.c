/* Writes the shards of a split under temporary names and renames them together. */
#include "data/shard.h"

#include "base/atomic_file.h"
#include "base/mem.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* A shard that is being written or waits for its final name. */
struct pending {
    struct atomic_file *file; /* owns, NULL once it has its final name */
    char *path;               /* owns */
    int64_t tokens;
    uint64_t payload_hash;
};

struct shard_writer {
    char *dir; /* owns */
    char split[16];
    int64_t shard_tokens;
    struct shard_header header; /* what all shards have in common, with totals that grow */
    struct pending *list;       /* owns */
    int64_t count, capacity;
    XXH3_state_t *hash; /* owns, of the last shard's payload */
};

enum status shard_writer_open(struct shard_writer **out, const struct shard_writer_config *c,
                              struct error *err)
{
    assert(c->shard_tokens >= 1 && c->vocab_size >= 1);
    assert(c->sequence >= 0 && c->recall >= 0 && c->recall <= c->sequence);
    void *p = NULL;
    enum status status;
    *out = NULL;
    TRY(mem_alloc(&p, 1, sizeof **out, err));
    struct shard_writer *w = p;
    w->shard_tokens = c->shard_tokens;
    w->header = (struct shard_header){.width = shard_width(c->vocab_size),
                                      .bytes = c->bytes,
                                      .vocab_size = c->vocab_size,
                                      .vocab_hash = c->vocab_hash,
                                      .sequence = c->sequence,
                                      .recall = c->recall};
    snprintf(w->split, sizeof w->split, "%s", c->split);
    TRY_OUT(mem_strdup(&w->dir, c->dir, err));
    TRY_OUT(mem_alloc(&p, 1, sizeof *w->hash, err));
    w->hash = p;
    *out = w;
    return STATUS_OK;
out:
    shard_writer_close(w);
    return status;
}

/* Records the last shard's checksum. Its header is written in shard_writer_finish. */
static enum status end_shard(struct shard_writer *w, struct error *err)
{
    struct pending *last = &w->list[w->count - 1];
    last->payload_hash = XXH3_64bits_digest(w->hash);
    return atomic_file_suspend(last->file, err);
}

static enum status begin_shard(struct shard_writer *w, struct error *err)
{
    static const unsigned char empty_header[SHARD_HEADER_BYTES];
    char name[SHARD_NAME_MAX];
    if (w->count > 0)
        TRY(end_shard(w, err));
    if (w->count == SHARD_COUNT_MAX)
        return error_set(err, STATUS_CANTCREATE,
                         "%s: more than %d shards of the split %s: use a larger --shard-tokens",
                         w->dir, SHARD_COUNT_MAX, w->split);
    if (w->count == w->capacity) {
        int64_t more = w->capacity == 0 ? 16 : 2 * w->capacity;
        void *p = w->list;
        TRY(mem_grow(&p, (size_t)w->capacity, (size_t)more, sizeof *w->list, err));
        w->list = p;
        w->capacity = more;
    }
    struct pending *next = &w->list[w->count];
    shard_name(name, w->split, w->count);
    size_t size = strlen(w->dir) + 1 + sizeof name;
    void *p = NULL;
    TRY(mem_alloc(&p, size, 1, err));
    next->path = p;
    w->count++; /* from here on shard_writer_close frees it */
    snprintf(next->path, size, "%s/%s", w->dir, name);
    TRY(atomic_file_create(&next->file, next->path, err));
    XXH3_64bits_reset(w->hash);
    return atomic_file_write(next->file, empty_header, sizeof empty_header, err);
}

enum status shard_writer_append(struct shard_writer *w, const void *ids, int64_t count,
                                struct error *err)
{
    const char *from = ids;
    while (count > 0) {
        if (w->count == 0 || w->list[w->count - 1].tokens == w->shard_tokens)
            TRY(begin_shard(w, err));
        struct pending *last = &w->list[w->count - 1];
        int64_t left = w->shard_tokens - last->tokens;
        int64_t n = count < left ? count : left;
        size_t bytes = (size_t)n * (size_t)w->header.width;
        TRY(atomic_file_write(last->file, from, bytes, err));
        XXH3_64bits_update(w->hash, from, bytes);
        last->tokens += n;
        w->header.split_tokens += n;
        from += bytes;
        count -= n;
    }
    return STATUS_OK;
}

enum status shard_writer_finish(struct shard_writer *w, int64_t text_bytes, int64_t words,
                                struct error *err)
{
    unsigned char bytes[SHARD_HEADER_BYTES];
    struct shard_header h = w->header;
    if (w->count == 0) /* a split without tokens is one empty shard */
        TRY(begin_shard(w, err));
    TRY(end_shard(w, err));
    h.count = w->count;
    h.text_bytes = text_bytes;
    h.words = words;
    for (int64_t i = 0; i < w->count; i++) {
        struct pending *p = &w->list[i];
        h.index = i;
        h.tokens = p->tokens;
        h.payload_hash = p->payload_hash;
        shard_header_encode(&h, bytes);
        TRY(atomic_file_rewrite(p->file, bytes, sizeof bytes, 0, err));
        TRY(atomic_file_sync(p->file, err));
        TRY(atomic_file_suspend(p->file, err));
        h.first += p->tokens;
    }
    return STATUS_OK;
}

enum status shard_writer_commit(struct shard_writer *w, struct error *err)
{
    for (int64_t i = 0; i < w->count; i++)
        TRY(atomic_file_commit(&w->list[i].file, err));
    return STATUS_OK;
}

void shard_writer_remove(struct shard_writer *w)
{
    for (int64_t i = 0; i < w->count; i++)
        unlink(w->list[i].path);
}

void shard_writer_close(struct shard_writer *w)
{
    if (w == NULL)
        return;
    for (int64_t i = 0; i < w->count; i++) {
        atomic_file_abort(&w->list[i].file);
        mem_free(w->list[i].path);
    }
    mem_free(w->list);
    mem_free(w->hash);
    mem_free(w->dir);
    mem_free(w);
}

int64_t shard_writer_tokens(const struct shard_writer *w)
{
    return w->header.split_tokens;
}

int64_t shard_writer_shards(const struct shard_writer *w)
{
    return w->count;
}
