/* Opens a checkpoint and checks its header and directory. */
#include "store/checkpoint.h"

#include "base/mem.h"
#include "base/read_file.h"
#include "store/checkpoint_format.h"
#include "store/checkpoint_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static enum status check_header(const struct checkpoint *c, const struct checkpoint_header *h,
                                size_t got, struct error *err)
{
    if (got == 0)
        return error_set(err, STATUS_DATA, "%s: the file is empty; use another checkpoint",
                         c->path);
    size_t magic = got < sizeof h->magic ? got : sizeof h->magic;
    if (memcmp(h->magic, CHECKPOINT_MAGIC, magic) != 0)
        return error_set(err, STATUS_DATA, "%s: not a deq checkpoint (no DEQ mark at byte 0)",
                         c->path);
    if (got < sizeof *h)
        return error_set(err, STATUS_DATA,
                         "%s: truncated: %zu bytes are less than a header; copy it again or use "
                         "another checkpoint",
                         c->path, got);
    if (h->order == CHECKPOINT_ORDER_OTHER)
        return error_set(
            err, STATUS_DATA,
            "%s: written on a machine of the other byte order; read it on one of that order",
            c->path);
    if (h->version != CHECKPOINT_VERSION)
        return error_set(err, STATUS_DATA,
                         "%s: version %u of the format, this program reads version %d; use the "
                         "program that wrote it",
                         c->path, h->version, CHECKPOINT_VERSION);
    if (h->header_sum != XXH3_64bits(h, offsetof(struct checkpoint_header, header_sum)) ||
        h->order != CHECKPOINT_ORDER)
        return error_set(err, STATUS_DATA,
                         "%s: damaged header (checksum); copy it again or use another checkpoint",
                         c->path);
    if (h->file_size != (uint64_t)c->bytes)
        return error_set(err, STATUS_DATA,
                         "%s: %s: %lld bytes, the header says %llu; copy it again or use another "
                         "checkpoint",
                         c->path, h->file_size > (uint64_t)c->bytes ? "truncated" : "too long",
                         (long long)c->bytes, (unsigned long long)h->file_size);
    if (h->count > CHECKPOINT_MAX_SECTIONS ||
        h->directory_size != h->count * sizeof(struct checkpoint_entry) ||
        h->directory_size > h->file_size - sizeof *h ||
        h->directory_offset != h->file_size - h->directory_size)
        return error_set(
            err, STATUS_DATA,
            "%s: its directory of %llu sections does not lie at the end of the file; copy it "
            "again or use another checkpoint",
            c->path, (unsigned long long)h->count);
    return STATUS_OK;
}

static enum status bad_entry(const struct checkpoint *c, int64_t index, const char *what,
                             struct error *err)
{
    return error_set(err, STATUS_DATA, "%s: directory entry %lld: %s; use another checkpoint",
                     c->path, (long long)index, what);
}

/* Checks entry `index`, whose content must begin at `offset`, and adds it to the list. */
static enum status take_entry(struct checkpoint *c, int64_t index, uint64_t offset,
                              const struct checkpoint_entry *e, struct error *err)
{
    struct stored_section *s = &c->list[index];
    enum checkpoint_type type = (enum checkpoint_type)e->type;
    if (!checkpoint_name_ok(e->name))
        return bad_entry(c, index, "bad name", err);
    if (e->type < CHECKPOINT_U8 || e->type > CHECKPOINT_I64)
        return bad_entry(c, index, "unknown type of numbers", err);
    if (e->encoding > ENCODING_PLAIN)
        return bad_entry(c, index, "unknown encoding: written by a newer program?", err);
    int64_t count = checkpoint_elements(type, e->ndim, e->dim);
    if (count < 0)
        return bad_entry(c, index, "impossible dimensions", err);
    for (uint32_t i = e->ndim; i < CHECKPOINT_MAX_DIMS; i++)
        if (e->dim[i] != 1)
            return bad_entry(c, index, "impossible dimensions", err);
    uint64_t size = (uint64_t)count * checkpoint_type_size(type);
    if (e->size != size)
        return bad_entry(c, index, "its size is not that of its dimensions", err);
    if (e->offset != offset || e->stored > (uint64_t)c->bytes - offset)
        return bad_entry(c, index, "its place is not in the file", err);
    s->plain = e->encoding == ENCODING_PLAIN;
    if (s->plain && e->stored != size)
        return bad_entry(c, index, "it stores another number of bytes than its size", err);
    /* A size that the stored bytes cannot hold, or do not need, is refused before anyone allocates
     * that much. */
    if (size / DEFLATE_MAX_RATIO > e->stored)
        return bad_entry(c, index, "its size is more than its stored bytes can hold", err);
    uint64_t chunks = (uint64_t)count / CHUNK_ELEMENTS + (count % CHUNK_ELEMENTS != 0);
    if (e->stored > size + chunks * checkpoint_type_size(type) * sizeof(uint32_t))
        return bad_entry(c, index, "it stores more than its size needs", err);
    s->offset = e->offset;
    s->sum = e->sum;
    s->shown.type = type;
    s->shown.ndim = (int)e->ndim;
    s->shown.size = (size_t)size;
    s->shown.stored = (size_t)e->stored;
    memcpy(s->shown.name, e->name, sizeof s->shown.name);
    memcpy(s->shown.dim, e->dim, sizeof s->shown.dim);
    return STATUS_OK;
}

static int by_name(const void *a, const void *b)
{
    const struct checkpoint_section *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

static enum status sort_names(struct checkpoint *c, struct error *err)
{
    void *p = NULL;
    TRY(mem_alloc(&p, (size_t)c->count, sizeof *c->sorted, err));
    c->sorted = p;
    for (int64_t i = 0; i < c->count; i++)
        c->sorted[i] = &c->list[i].shown;
    qsort(c->sorted, (size_t)c->count, sizeof *c->sorted, by_name);
    for (int64_t i = 1; i < c->count; i++)
        if (strcmp(c->sorted[i - 1]->name, c->sorted[i]->name) == 0)
            return error_set(err, STATUS_DATA, "%s: two sections are named \"%s\"", c->path,
                             c->sorted[i]->name);
    return STATUS_OK;
}

static enum status read_directory(struct checkpoint *c, struct error *err)
{
    struct checkpoint_header h = {0};
    struct checkpoint_entry *entries = NULL;
    enum status status;
    void *p = NULL;
    size_t got = (uint64_t)c->bytes < sizeof h ? (size_t)c->bytes : sizeof h;
    TRY(read_file_at(c->fd, c->path, &h, got, 0, err));
    TRY(check_header(c, &h, got, err));
    TRY(mem_alloc(&p, (size_t)h.count, sizeof *entries, err));
    entries = p;
    TRY_OUT(
        read_file_at(c->fd, c->path, entries, (size_t)h.directory_size, h.directory_offset, err));
    if (XXH3_64bits(entries, (size_t)h.directory_size) != h.directory_sum) {
        status = error_set(err, STATUS_DATA,
                           "%s: damaged directory (checksum); copy it again or use another "
                           "checkpoint",
                           c->path);
        goto out;
    }
    TRY_OUT(mem_alloc(&p, (size_t)h.count, sizeof *c->list, err));
    c->list = p;
    c->count = (int64_t)h.count;
    uint64_t offset = sizeof h;
    for (int64_t i = 0; i < c->count; i++) {
        TRY_OUT(take_entry(c, i, offset, &entries[i], err));
        offset += entries[i].stored;
    }
    if (offset != h.directory_offset) {
        status =
            error_set(err, STATUS_DATA,
                      "%s: sections end at byte %llu, the directory begins "
                      "at %llu",
                      c->path, (unsigned long long)offset, (unsigned long long)h.directory_offset);
        goto out;
    }
    TRY_OUT(sort_names(c, err));
out:
    mem_free(entries);
    return status;
}

enum status checkpoint_open(struct checkpoint **out, const char *path, struct error *err)
{
    *out = NULL;
    enum status status;
    void *p = NULL;
    TRY(mem_alloc(&p, 1, sizeof(struct checkpoint), err));
    struct checkpoint *c = p;
    c->fd = -1;
    TRY_OUT(mem_strdup(&c->path, path, err));
    TRY_OUT(read_file_open(&c->fd, &c->bytes, path, "a checkpoint", err));
    TRY_OUT(read_directory(c, err));
    TRY_OUT(checkpoint_decoder_open(&c->decoder, err));
    *out = c;
    return STATUS_OK;
out:
    checkpoint_close(c);
    return status;
}

void checkpoint_close(struct checkpoint *c)
{
    if (c == NULL)
        return;
    checkpoint_decoder_close(c->decoder);
    if (c->fd >= 0)
        close(c->fd);
    mem_free(c->sorted);
    mem_free(c->list);
    mem_free(c->path);
    mem_free(c);
}

const char *checkpoint_path(const struct checkpoint *c)
{
    return c->path;
}

int64_t checkpoint_bytes(const struct checkpoint *c)
{
    return c->bytes;
}

int64_t checkpoint_count(const struct checkpoint *c)
{
    return c->count;
}

const struct checkpoint_section *checkpoint_section(const struct checkpoint *c, int64_t index)
{
    assert(index >= 0 && index < c->count);
    return &c->list[index].shown;
}

const struct checkpoint_section *checkpoint_find(const struct checkpoint *c, const char *name)
{
    int64_t low = 0, high = c->count;
    while (low < high) {
        int64_t mid = low + (high - low) / 2;
        int order = strcmp(c->sorted[mid]->name, name);
        if (order == 0)
            return c->sorted[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}
