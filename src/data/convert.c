/* Copies tokens between shards and token files of other programs. */
#include "data/convert.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "data/out_folder.h"
#include "data/shard.h"

#include <stdio.h>
#include <unistd.h>

enum {
    BLOCK = 1 << 17, /* tokens copied at once, 512 KiB of each buffer */
    PATH_SIZE = 4096
};

/* Memory through which all tokens go. */
struct passage {
    int32_t *ids;               /* owns [BLOCK] */
    uint16_t *narrow;           /* owns [BLOCK] */
    struct shard_buffer buffer; /* owns */
};

struct conversion {
    const struct convert_config *c;
    const struct vocab *vocab; /* borrows */
    struct passage passage;
    struct out_folder folder;
    struct shard_writer *writers[SPLITS]; /* owns */
    int files[SPLITS];                    /* of llm.c that were written */
    struct tokenize_result *result;
};

static enum status open_passage(struct passage *p, struct error *err)
{
    void *m = NULL;
    TRY(mem_alloc(&m, BLOCK, sizeof *p->ids, err));
    p->ids = m;
    TRY(mem_alloc(&m, BLOCK, sizeof *p->narrow, err));
    p->narrow = m;
    TRY(mem_alloc(&m, BLOCK, sizeof(uint32_t), err));
    p->buffer = (struct shard_buffer){m, BLOCK * sizeof(uint32_t)};
    return STATUS_OK;
}

static void close_passage(struct passage *p)
{
    mem_free(p->ids);
    mem_free(p->narrow);
    mem_free(p->buffer.data);
}

/* Reads tokens [first, first + count), and gives them in the width of the vocabulary. */
static enum status fetch(struct conversion *k, const struct shard_set *set, int64_t first,
                         int64_t count, const void **out, struct error *err)
{
    struct passage *p = &k->passage;
    TRY(shard_set_read(set, first, count, p->ids, &p->buffer, err));
    *out = p->ids;
    if (shard_width(vocab_size(k->vocab)) == 2) {
        for (int64_t i = 0; i < count; i++)
            p->narrow[i] = (uint16_t)p->ids[i];
        *out = p->narrow;
    }
    return STATUS_OK;
}

static int64_t block_at(int64_t at, int64_t end)
{
    return end - at < BLOCK ? end - at : BLOCK;
}

/* Opens a split, whose tokens then have the vocabulary of the conversion. */
static enum status open_split(const struct conversion *k, int split, struct shard_set **set,
                              struct error *err)
{
    const struct folder_tokens *from = &k->c->from;
    const struct shard_source source = {from->dir, split_name(split), from->format};
    TRY(shard_set_open(set, &source, err));
    const struct shard_header *h = shard_set_header(*set);
    if (shard_set_is_foreign(*set))
        shard_set_take_vocabulary(*set, vocab_size(k->vocab), vocab_hash(k->vocab));
    else if (h->vocab_hash != vocab_hash(k->vocab))
        return error_set(
            err, STATUS_DATA,
            "%s: its shards have another vocabulary than the one that was given; leave "
            "--vocab out",
            from->dir);
    if (h->sequence > 0)
        return error_set(err, STATUS_DATA,
                         "%s: sequences of a task, which token files of other programs do not have",
                         from->dir);
    return STATUS_OK;
}

static int64_t file_tokens(const struct conversion *k)
{
    return k->c->file_tokens > 0 ? k->c->file_tokens : TOKENIZE_SHARD_TOKENS;
}

static enum status write_shards(struct conversion *k, int split, const struct shard_set *set,
                                struct error *err)
{
    const struct shard_header *h = shard_set_header(set);
    struct shard_writer_config c = {.dir = k->c->out,
                                    .split = split_name(split),
                                    .shard_tokens = file_tokens(k),
                                    .vocab_size = vocab_size(k->vocab),
                                    .vocab_hash = vocab_hash(k->vocab),
                                    .bytes = vocab_is_bytes(k->vocab)};
    TRY(shard_writer_open(&k->writers[split], &c, err));
    for (int64_t at = 0, n; at < h->split_tokens; at += n) {
        const void *ids;
        n = block_at(at, h->split_tokens);
        TRY(fetch(k, set, at, n, &ids, err));
        TRY(shard_writer_append(k->writers[split], ids, n, err));
    }
    k->result->shards += shard_writer_shards(k->writers[split]);
    /* A byte is a byte of text, and of other tokens the bytes are not known. */
    int64_t bytes = c.bytes ? h->split_tokens : h->text_bytes;
    return shard_writer_finish(k->writers[split], bytes, h->words, err);
}

/* Writes tokens [first, first + count) as a file of llm.c. */
static enum status write_llmc_file(struct conversion *k, const char *path,
                                   const struct shard_set *set, int64_t first, int64_t count,
                                   struct error *err)
{
    struct atomic_file *f = NULL;
    int32_t head[TOKEN_LLMC_HEADER / 4], width = shard_width(vocab_size(k->vocab));
    enum status status;
    token_llmc_header(head, width, (int32_t)count);
    TRY(atomic_file_create(&f, path, err));
    TRY_OUT(atomic_file_write(f, head, sizeof head, err));
    for (int64_t at = 0, n; at < count; at += n) {
        const void *ids;
        n = block_at(at, count);
        TRY_OUT(fetch(k, set, first + at, n, &ids, err));
        TRY_OUT(atomic_file_write(f, ids, (size_t)(n * width), err));
    }
    TRY_OUT(atomic_file_commit(&f, err));
    k->result->shards++;
    return STATUS_OK;
out:
    atomic_file_abort(&f);
    return status;
}

static enum status llmc_path(const struct conversion *k, int split, int index, char out[PATH_SIZE],
                             struct error *err)
{
    static const char *const names[SPLITS] = {"train", "val", "test"};
    int n = snprintf(out, PATH_SIZE, "%s/%s_%06d.bin", k->c->out, names[split], index);
    if (n < 0 || n >= PATH_SIZE)
        return error_set(err, STATUS_CANTCREATE, "%.100s...: name too long", out);
    return STATUS_OK;
}

static enum status write_llmc(struct conversion *k, int split, const struct shard_set *set,
                              struct error *err)
{
    int64_t total = shard_set_header(set)->split_tokens, most = file_tokens(k);
    char path[PATH_SIZE];
    most = most < INT32_MAX ? most : INT32_MAX;
    for (int64_t at = 0, n; at < total; at += n) {
        n = total - at < most ? total - at : most;
        TRY(llmc_path(k, split, k->files[split], path, err));
        TRY(write_llmc_file(k, path, set, at, n, err));
        k->files[split]++;
    }
    return STATUS_OK;
}

static void remove_llmc(const struct conversion *k)
{
    char path[PATH_SIZE];
    struct error ignored;
    for (int split = 0; split < SPLITS; split++)
        for (int i = 0; i < k->files[split]; i++)
            if (llmc_path(k, split, i, path, &ignored) == STATUS_OK)
                unlink(path);
}

static enum status convert_split(struct conversion *k, int split, struct error *err)
{
    struct shard_set *set = NULL;
    enum status status = open_split(k, split, &set, err);
    if (status == STATUS_NOINPUT && split != SPLIT_TRAIN)
        return STATUS_OK;
    if (status == STATUS_OK) {
        k->result->tokens[split] = shard_set_header(set)->split_tokens;
        status = k->c->to == CONVERT_LLMC ? write_llmc(k, split, set, err)
                                          : write_shards(k, split, set, err);
    }
    shard_set_close(set);
    return status;
}

static enum status convert_all(struct conversion *k, struct error *err)
{
    enum status status = STATUS_OK;
    TRY(open_passage(&k->passage, err));
    TRY_OUT(out_folder_prepare(&k->folder, k->c->out, k->c->force, err));
    for (int i = 0; i < SPLITS; i++)
        TRY_OUT(convert_split(k, i, err));
    /* The vocabulary comes last, as a sign that all is there. */
    TRY_OUT(out_folder_commit(&k->folder, k->writers, SPLITS, k->vocab, err));
out:
    if (status != STATUS_OK)
        remove_llmc(k);
    out_folder_close(&k->folder, status != STATUS_OK);
    return status;
}

enum status convert_run(const struct convert_config *c, struct tokenize_result *result,
                        struct error *err)
{
    struct conversion k = {.c = c, .vocab = c->vocab, .result = result};
    struct vocab *loaded = NULL;
    enum status status = STATUS_OK;
    *result = (struct tokenize_result){0};
    if (c->vocab == NULL) {
        TRY(folder_vocab_load(&loaded, &c->from, err));
        k.vocab = loaded;
    }
    result->vocab = vocab_size(k.vocab);
    status = convert_all(&k, err);
    for (int i = 0; i < SPLITS; i++)
        shard_writer_close(k.writers[i]);
    close_passage(&k.passage);
    vocab_free(loaded);
    return status;
}
