/* Opens, checks and reads the shards of a split. */
#include "data/shard.h"

#include "base/mem.h"
#include "base/read_file.h"
#include "data/token_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { PATH_SIZE = 4096 + SHARD_NAME_MAX };

struct shard {
    int fd;
    int64_t offset; /* of the first id in the file */
    struct shard_header header;
};

struct shard_set {
    char *prefix;             /* owns, "DIR/SPLIT" */
    struct shard *list;       /* owns [count] */
    int64_t count;            /* opened so far */
    struct token_files files; /* owns, of another program, and then no header is in the files */
};

static void path_of(const struct shard_set *s, int64_t index, char *out, size_t size)
{
    if (s->files.count > 0)
        snprintf(out, size, "%s", s->files.list[index].path);
    else
        snprintf(out, size, "%s-%05lld.bin", s->prefix, (long long)index);
}

/* Reads exactly `size` bytes at `offset`. */
static enum status read_at(const struct shard_set *s, int64_t index, void *to, size_t size,
                           int64_t offset, struct error *err)
{
    char path[PATH_SIZE];
    path_of(s, index, path, sizeof path);
    return read_file_at(s->list[index].fd, path, to, size, offset, err);
}

/* Checks that a shard belongs to the first one and to the one before it. */
static enum status check_member(const struct shard_set *s, int64_t index, const char *path,
                                struct error *err)
{
    const struct shard_header *a = &s->list[0].header;
    const struct shard_header *h = &s->list[index].header;
    const struct shard_header *before = index > 0 ? &s->list[index - 1].header : NULL;
    int64_t first = before != NULL ? before->first + before->tokens : 0;
    if (h->vocab_hash != a->vocab_hash || h->vocab_size != a->vocab_size)
        return error_set(err, STATUS_DATA,
                         "%s: made with another vocabulary than shard 0 of its split; run deq "
                         "tokenize again with --force",
                         path);
    if (h->index != index || h->first != first || h->count != a->count ||
        h->split_tokens != a->split_tokens || h->sequence != a->sequence ||
        h->text_bytes != a->text_bytes || h->words != a->words || h->bytes != a->bytes ||
        (index == a->count - 1 && h->first + h->tokens != h->split_tokens))
        return error_set(err, STATUS_DATA,
                         "%s: not part %lld of this split (renamed, or of another run); run deq "
                         "tokenize again with --force",
                         path, (long long)index);
    return STATUS_OK;
}

static enum status open_error(const char *path, int64_t index, int64_t count, struct error *err)
{
    if (errno == EMFILE || errno == ENFILE)
        return error_set(err, STATUS_IO,
                         "%s: %s: one descriptor is held for each of the %lld shards; raise "
                         "\"ulimit -n\" or use a larger --shard-tokens",
                         path, strerror(errno), (long long)count);
    if (errno == ENOENT && index > 0)
        return error_set(err, STATUS_NOINPUT,
                         "%s: missing: the split has %lld shards; copy it here or run deq "
                         "tokenize again with --force",
                         path, (long long)count);
    if (errno == ENOENT || errno == ENOTDIR)
        return error_set(err, STATUS_NOINPUT, "%s: %s; make it with deq tokenize", path,
                         strerror(errno));
    /* The file exists, so this must not be STATUS_NOINPUT, which callers take for no such split. */
    return error_set(err, STATUS_IO, "%s: cannot open: %s", path, strerror(errno));
}

/* Opens shard s->count and checks its header and size. */
static enum status open_next(struct shard_set *s, int64_t count, struct error *err)
{
    char path[PATH_SIZE];
    unsigned char bytes[SHARD_HEADER_BYTES];
    struct stat st;
    int64_t index = s->count;
    struct shard *shard = &s->list[index];
    path_of(s, index, path, sizeof path);
    /* Without O_NONBLOCK a pipe of that name would block here. */
    shard->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (shard->fd < 0)
        return open_error(path, index, count, err);
    s->count++;
    if (fstat(shard->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return error_set(err, STATUS_DATA, "%s: not a plain file", path);
    if (st.st_size < SHARD_HEADER_BYTES)
        return error_set(err, STATUS_DATA,
                         "%s: %lld bytes, too short to be a shard; make it with deq tokenize", path,
                         (long long)st.st_size);
    TRY(read_at(s, index, bytes, sizeof bytes, 0, err));
    TRY(shard_header_decode(&shard->header, bytes, path, err));
    shard->offset = SHARD_HEADER_BYTES;
    int64_t want = SHARD_HEADER_BYTES + shard->header.tokens * shard->header.width;
    if (st.st_size != want)
        return error_set(err, STATUS_DATA,
                         "%s: %lld bytes where its header says %lld: %s; run deq tokenize again",
                         path, (long long)st.st_size, (long long)want,
                         st.st_size < want ? "cut short" : "something was appended");
    return check_member(s, index, path, err);
}

static enum status open_shards(struct shard_set *s, struct error *err)
{
    void *p = NULL;
    TRY(mem_alloc(&p, 1, sizeof *s->list, err));
    s->list = p;
    TRY(open_next(s, 1, err));
    int64_t count = s->list[0].header.count;
    p = s->list;
    TRY(mem_grow(&p, 1, (size_t)count, sizeof *s->list, err));
    s->list = p;
    while (s->count < count)
        TRY(open_next(s, count, err));
    return STATUS_OK;
}

/* Whether shard 0 of the split exists in any form. */
static bool has_shards(const struct shard_set *s)
{
    char path[PATH_SIZE];
    struct stat st;
    path_of(s, 0, path, sizeof path);
    return lstat(path, &st) == 0;
}

/* Makes shards of the files of another program, with headers as deq tokenize would write them. */
static enum status adopt_files(struct shard_set *s, struct error *err)
{
    void *p = NULL;
    int64_t total = 0;
    TRY(mem_alloc(&p, (size_t)s->files.count, sizeof *s->list, err));
    s->list = p;
    for (int64_t i = 0; i < s->files.count; i++) {
        const struct token_file *f = &s->files.list[i];
        if (f->width != s->files.list[0].width)
            return error_set(err, STATUS_DATA, "%s: tokens of %d bytes, and %s has %d", f->path,
                             f->width, s->files.list[0].path, s->files.list[0].width);
        s->list[i] = (struct shard){
            .fd = f->fd,
            .offset = f->offset,
            .header = {.width = f->width,
                       .index = i,
                       .count = s->files.count,
                       .tokens = f->tokens,
                       .first = total},
        };
        total += f->tokens;
    }
    for (int64_t i = 0; i < s->files.count; i++)
        s->list[i].header.split_tokens = total;
    s->count = s->files.count;
    return STATUS_OK;
}

enum status shard_set_open(struct shard_set **out, const struct shard_source *source,
                           struct error *err)
{
    void *p = NULL;
    enum status status;
    *out = NULL;
    TRY(mem_alloc(&p, 1, sizeof **out, err));
    struct shard_set *s = p;
    size_t size = strlen(source->dir) + strlen(source->split) + 2;
    TRY_OUT(mem_alloc(&p, size, 1, err));
    s->prefix = p;
    snprintf(s->prefix, size, "%s/%s", source->dir, source->split);
    if (!has_shards(s)) {
        status = token_files_open(&s->files, source->dir, source->split, source->format, err);
        if (status == STATUS_OK)
            TRY_OUT(adopt_files(s, err));
        else if (status != STATUS_NOINPUT)
            goto out;
    }
    if (s->count == 0)
        TRY_OUT(open_shards(s, err));
    *out = s;
    return STATUS_OK;
out:
    shard_set_close(s);
    return status;
}

void shard_set_close(struct shard_set *s)
{
    if (s == NULL)
        return;
    for (int64_t i = 0; i < s->count && s->files.count == 0; i++)
        close(s->list[i].fd);
    token_files_close(&s->files);
    mem_free(s->list);
    mem_free(s->prefix);
    mem_free(s);
}

/* The largest of `count` stored ids. There are two loops so that each becomes vector code. */
static uint32_t largest_id(const void *ids, int64_t count, int32_t width)
{
    uint32_t most = 0;
    if (width == 2) {
        const uint16_t *from = ids;
        uint16_t top = 0;
        for (int64_t i = 0; i < count; i++)
            top = from[i] > top ? from[i] : top;
        return top;
    }
    const uint32_t *from = ids;
    for (int64_t i = 0; i < count; i++)
        most = from[i] > most ? from[i] : most;
    return most;
}

/* Says where the first id beyond the vocabulary stands. */
static enum status refuse_id(const struct shard_set *s, int64_t index, const void *ids,
                             int64_t position, struct error *err)
{
    const struct shard_header *h = &s->list[index].header;
    const uint16_t *narrow = ids;
    const uint32_t *wide = ids;
    char path[PATH_SIZE];
    int64_t at = 0;
    while ((h->width == 2 ? narrow[at] : wide[at]) < h->vocab_size)
        at++;
    uint32_t id = h->width == 2 ? narrow[at] : wide[at];
    path_of(s, index, path, sizeof path);
    if (s->files.count > 0)
        return error_set(err, STATUS_DATA,
                         "%s: token id %lu in a vocabulary of %lld, at token %lld: set "
                         "model.vocab_size to the size of its tokenizer's, or data.format if the "
                         "file is of another format",
                         path, (unsigned long)id, (long long)h->vocab_size,
                         (long long)(position + at));
    return error_set(err, STATUS_DATA,
                     "%s: token id %lu in a vocabulary of %lld, at token %lld: damaged; run deq "
                     "tokenize again",
                     path, (unsigned long)id, (long long)h->vocab_size, (long long)(position + at));
}

/* How many of `count` stored ids are `id`. There are two loops so that each becomes vector code. */
static int64_t count_id(const void *ids, int64_t count, int32_t width, int64_t id)
{
    const uint16_t *narrow = ids;
    const uint32_t *wide = ids;
    int64_t found = 0;
    if (id < 0)
        return 0;
    for (int64_t i = 0; i < count && width == 2; i++)
        found += narrow[i] == (uint16_t)id;
    for (int64_t i = 0; i < count && width == 4; i++)
        found += wide[i] == (uint32_t)id;
    return found;
}

/* Checks `count` ids, of which the first is number `position` of the file. */
static enum status check_ids(const struct shard_set *s, int64_t index, const void *ids,
                             int64_t count, int64_t position, struct error *err)
{
    const struct shard_header *h = &s->list[index].header;
    if (largest_id(ids, count, h->width) < h->vocab_size)
        return STATUS_OK;
    return refuse_id(s, index, ids, position, err);
}

/* What is looked for in the ids of a split, and what was found. */
struct tally {
    int64_t id, count;
    bool in_range; /* all ids of the last shard */
};

/* Reads the ids of one shard. `err` gets the first that is out of range, if there is one. */
static enum status hash_shard(const struct shard_set *s, int64_t index,
                              const struct shard_buffer *buffer, XXH3_state_t *state,
                              struct tally *tally, struct error *err)
{
    const struct shard_header *h = &s->list[index].header;
    int64_t size = h->tokens * h->width;
    tally->in_range = true;
    XXH3_64bits_reset(state);
    for (int64_t done = 0, n; done < size; done += n) {
        struct error unread;
        n = size - done < (int64_t)buffer->size ? size - done : (int64_t)buffer->size;
        enum status status =
            read_at(s, index, buffer->data, (size_t)n, s->list[index].offset + done, &unread);
        if (status != STATUS_OK) {
            *err = unread;
            return status;
        }
        XXH3_64bits_update(state, buffer->data, (size_t)n);
        tally->count += count_id(buffer->data, n / h->width, h->width, tally->id);
        if (tally->in_range)
            tally->in_range =
                check_ids(s, index, buffer->data, n / h->width, done / h->width, err) == STATUS_OK;
    }
    return STATUS_OK;
}

enum status shard_set_verify(struct shard_set *s, const struct shard_buffer *buffer, int64_t id,
                             int64_t *count, struct error *err)
{
    void *p = NULL;
    enum status status = STATUS_OK;
    char path[PATH_SIZE];
    assert(buffer->size >= 4 && buffer->size % 4 == 0);
    struct tally tally = {.id = id};
    *count = 0;
    TRY(mem_alloc(&p, 1, sizeof(XXH3_state_t), err));
    XXH3_state_t *state = p;
    for (int64_t i = 0; i < s->count; i++) {
        struct shard_header *h = &s->list[i].header;
        TRY_OUT(hash_shard(s, i, buffer, state, &tally, err));
        if (s->files.count > 0)
            h->payload_hash = XXH3_64bits_digest(state);
        /* Damage explains a wrong id, so it is reported first. */
        if (XXH3_64bits_digest(state) != h->payload_hash) {
            path_of(s, i, path, sizeof path);
            status =
                error_set(err, STATUS_DATA,
                          "%s: damaged (wrong checksum of the ids); run deq tokenize again", path);
            goto out;
        }
        if (!tally.in_range) {
            status = err->status;
            goto out;
        }
    }
    *count = tally.count;
out:
    mem_free(state);
    return status;
}

/* The shard that holds token `position` of the split. */
static int64_t shard_of(const struct shard_set *s, int64_t position)
{
    int64_t low = 0, high = s->count;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (s->list[middle].header.first <= position)
            low = middle;
        else
            high = middle;
    }
    return low;
}

enum status shard_set_read(const struct shard_set *s, int64_t first, int64_t count, int32_t *out,
                           const struct shard_buffer *buffer, struct error *err)
{
    assert(first >= 0 && count >= 0 && first + count <= s->list[0].header.split_tokens);
    assert(buffer->size >= 4);
    while (count > 0) {
        int64_t i = shard_of(s, first);
        const struct shard_header *h = &s->list[i].header;
        int64_t n = h->first + h->tokens - first;
        int64_t most = (int64_t)buffer->size / h->width;
        n = n < count ? n : count;
        n = n < most ? n : most;
        TRY(read_at(s, i, buffer->data, (size_t)(n * h->width),
                    s->list[i].offset + (first - h->first) * h->width, err));
        TRY(check_ids(s, i, buffer->data, n, first - h->first, err));
        if (h->width == 2) {
            const uint16_t *from = buffer->data;
            for (int64_t k = 0; k < n; k++)
                out[k] = from[k];
        } else {
            memcpy(out, buffer->data, (size_t)n * sizeof *out);
        }
        out += n;
        first += n;
        count -= n;
    }
    return STATUS_OK;
}

bool shard_set_is_foreign(const struct shard_set *s)
{
    return s->files.count > 0;
}

void shard_set_take_vocabulary(struct shard_set *s, int64_t size, uint64_t hash)
{
    assert(s->files.count > 0);
    for (int64_t i = 0; i < s->count; i++) {
        s->list[i].header.vocab_size = size;
        s->list[i].header.vocab_hash = hash;
    }
}

const struct shard_header *shard_set_header(const struct shard_set *s)
{
    return &s->list[0].header;
}

uint64_t shard_set_digest(const struct shard_set *s)
{
    uint64_t digest = 0;
    for (int64_t i = 0; i < s->count; i++) {
        const uint64_t part[] = {digest, (uint64_t)s->list[i].header.tokens,
                                 s->list[i].header.payload_hash};
        digest = XXH3_64bits(part, sizeof part);
    }
    return digest;
}

size_t shard_set_memory(const struct shard_set *s)
{
    size_t files = (size_t)s->files.count * sizeof *s->files.list;
    for (int64_t i = 0; i < s->files.count; i++)
        files += strlen(s->files.list[i].path) + 1;
    return sizeof *s + strlen(s->prefix) + 1 + (size_t)s->count * sizeof *s->list + files;
}
