/* Writes the sections, the directory and the header of a checkpoint. */
#include "store/checkpoint.h"

#include "base/atomic_file.h"
#include "base/mem.h"
#include "store/checkpoint_format.h"
#include "store/plane_codec.h"

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zlib.h>

#include <string.h>

struct checkpoint_writer {
    struct atomic_file *file;         /* owns */
    bool plain;                       /* numbers of several bytes are stored as they are */
    struct checkpoint_entry *entries; /* owns */
    int64_t count, capacity;
    uint8_t *planes;   /* owns [CHUNK_MAX] */
    uint8_t *packed;   /* owns [CHUNK_ELEMENTS] */
    XXH3_state_t *sum; /* owns, of the stored bytes of the last section */
    z_stream zip;
    bool zip_ready;
    struct error failure; /* the first error, which spoils the file, or STATUS_OK */
};

static enum status fail(struct checkpoint_writer *w, const struct error *err)
{
    w->failure = *err;
    return err->status;
}

static void free_writer(struct checkpoint_writer *w)
{
    if (w->zip_ready)
        deflateEnd(&w->zip);
    mem_free(w->entries);
    mem_free(w->planes);
    mem_free(w->packed);
    mem_free(w->sum);
    mem_free(w);
}

enum status checkpoint_write_open(struct checkpoint_writer **out, const char *path,
                                  struct error *err)
{
    *out = NULL;
    enum status status;
    void *p = NULL;
    TRY(mem_alloc(&p, 1, sizeof(struct checkpoint_writer), err));
    struct checkpoint_writer *w = p;
    TRY_OUT(mem_alloc(&p, CHUNK_MAX, 1, err));
    w->planes = p;
    TRY_OUT(mem_alloc(&p, CHUNK_ELEMENTS, 1, err));
    w->packed = p;
    TRY_OUT(mem_alloc(&p, 1, sizeof *w->sum, err));
    w->sum = p;
    TRY_OUT(plane_deflate_open(&w->zip, err));
    w->zip_ready = true;
    TRY_OUT(atomic_file_create(&w->file, path, err));
    TRY_OUT(atomic_file_stream(w->file, err));
    /* The header is written at the end, and until then the file has no magic. */
    const struct checkpoint_header none = {0};
    TRY_OUT(atomic_file_write(w->file, &none, sizeof none, err));
    *out = w;
    return STATUS_OK;
out:
    atomic_file_abort(&w->file);
    free_writer(w);
    return status;
}

static enum status put(struct checkpoint_writer *w, const void *data, size_t size,
                       struct error *err)
{
    XXH3_64bits_update(w->sum, data, size);
    w->entries[w->count - 1].stored += size;
    return atomic_file_write(w->file, data, size, err);
}

static enum status put_plane(struct checkpoint_writer *w, uint8_t *plane, size_t n,
                             struct error *err)
{
    const uint8_t *stored = plane;
    uint32_t head = (uint32_t)n;
    enum plane_kind kind = plane_kind_of(plane, n);
    if (kind != PLANE_NOISE) {
        plane_deflate_restart(&w->zip, kind);
        w->zip.next_in = plane;
        w->zip.avail_in = (uInt)n;
        w->zip.next_out = w->packed;
        w->zip.avail_out = (uInt)(n - 1); /* deflated only if that is shorter */
        if (deflate(&w->zip, Z_FINISH) == Z_STREAM_END) {
            stored = w->packed;
            head = (uint32_t)w->zip.total_out | BLOCK_DEFLATED;
        }
    }
    TRY(put(w, &head, sizeof head, err));
    return put(w, stored, head & ~BLOCK_DEFLATED, err);
}

/* Encodes and writes one chunk of n elements of `size` bytes. */
static enum status put_chunk(struct checkpoint_writer *w, const uint8_t *data, size_t n,
                             size_t size, struct error *err)
{
    planes_split(w->planes, data, n, size);
    for (size_t p = 0; p < size; p++)
        TRY(put_plane(w, w->planes + p * n, n, err));
    return STATUS_OK;
}

void checkpoint_write_plain(struct checkpoint_writer *w)
{
    w->plain = true;
}

/* Appends the directory's entry of a section that begins here. */
static enum status add_entry(struct checkpoint_writer *w, const struct checkpoint_array *a,
                             struct error *err)
{
    struct checkpoint_entry e = {.dim = {1, 1, 1, 1}};
    assert(strlen(a->name) < sizeof e.name && "a section's name is too long");
    strcpy(e.name, a->name);
    assert(checkpoint_name_ok(e.name));
    for (int64_t i = 0; i < w->count; i++)
        assert(strcmp(w->entries[i].name, a->name) != 0 && "a section is written twice");
    size_t element = checkpoint_type_size(a->type);
    int64_t elements = checkpoint_elements(a->type, a->ndim, a->dims);
    assert(elements >= 0 && element != 0);
    for (int i = 0; i < a->ndim; i++)
        e.dim[i] = a->dims[i];
    e.type = (uint16_t)a->type;
    e.ndim = (uint32_t)a->ndim;
    e.encoding = w->plain && element > 1 ? ENCODING_PLAIN : ENCODING_PLANES;
    e.size = (uint64_t)elements * element;
    e.offset = (uint64_t)atomic_file_size(w->file);
    if (w->count == CHECKPOINT_MAX_SECTIONS)
        return error_set(err, STATUS_CANTCREATE, "%s: more than %d sections",
                         atomic_file_path(w->file), CHECKPOINT_MAX_SECTIONS);
    if (w->count == w->capacity) {
        int64_t capacity = w->capacity == 0 ? 64 : 2 * w->capacity;
        void *p = w->entries;
        TRY(mem_grow(&p, (size_t)w->count, (size_t)capacity, sizeof e, err));
        w->entries = p;
        w->capacity = capacity;
    }
    w->entries[w->count++] = e;
    return STATUS_OK;
}

/* Writes pieces that stay in the processor's cache between their checksum and their copy. */
static enum status put_plain(struct checkpoint_writer *w, const uint8_t *from, size_t size,
                             struct error *err)
{
    for (size_t n; size > 0; from += n, size -= n) {
        n = size < CHUNK_MAX ? size : CHUNK_MAX;
        TRY(put(w, from, n, err));
    }
    return STATUS_OK;
}

static enum status put_planes(struct checkpoint_writer *w, const uint8_t *from, size_t size,
                              size_t element, struct error *err)
{
    size_t chunk = CHUNK_ELEMENTS * element;
    for (size_t n; size > 0; from += n, size -= n) {
        n = size < chunk ? size : chunk;
        TRY(put_chunk(w, from, n / element, element, err));
    }
    return STATUS_OK;
}

static enum status write_section(struct checkpoint_writer *w, const struct checkpoint_array *a,
                                 struct error *err)
{
    TRY(add_entry(w, a, err));
    struct checkpoint_entry *e = &w->entries[w->count - 1];
    XXH3_64bits_reset(w->sum);
    if (e->encoding == ENCODING_PLAIN)
        TRY(put_plain(w, a->data, (size_t)e->size, err));
    else
        TRY(put_planes(w, a->data, (size_t)e->size, checkpoint_type_size(a->type), err));
    e->sum = XXH3_64bits_digest(w->sum);
    return STATUS_OK;
}

enum status checkpoint_write_section(struct checkpoint_writer *w, const struct checkpoint_array *a,
                                     struct error *err)
{
    if (w->failure.status != STATUS_OK)
        return error_set(err, w->failure.status, "%s", w->failure.text);
    enum status status = write_section(w, a, err);
    return status == STATUS_OK ? STATUS_OK : fail(w, err);
}

enum status checkpoint_write_text(struct checkpoint_writer *w, const char *name, const char *text,
                                  struct error *err)
{
    const int64_t size = (int64_t)strlen(text);
    const struct checkpoint_array a = {name, CHECKPOINT_U8, 1, &size, text};
    return checkpoint_write_section(w, &a, err);
}

static enum status finish(struct checkpoint_writer *w, struct error *err)
{
    size_t bytes = (size_t)w->count * sizeof *w->entries;
    struct checkpoint_header h = {
        .version = CHECKPOINT_VERSION,
        .order = CHECKPOINT_ORDER,
        .directory_offset = (uint64_t)atomic_file_size(w->file),
        .directory_size = bytes,
        .count = (uint64_t)w->count,
        .directory_sum = XXH3_64bits(w->entries, bytes),
    };
    memcpy(h.magic, CHECKPOINT_MAGIC, sizeof h.magic);
    h.file_size = h.directory_offset + h.directory_size;
    h.header_sum = XXH3_64bits(&h, offsetof(struct checkpoint_header, header_sum));
    TRY(atomic_file_write(w->file, w->entries, bytes, err));
    TRY(atomic_file_rewrite(w->file, &h, sizeof h, 0, err));
    return atomic_file_commit(&w->file, err);
}

enum status checkpoint_write_close(struct checkpoint_writer **writer, struct error *err)
{
    struct checkpoint_writer *w = *writer;
    if (w->failure.status != STATUS_OK)
        return error_set(err, w->failure.status, "%s", w->failure.text);
    if (finish(w, err) != STATUS_OK)
        return fail(w, err);
    free_writer(w);
    *writer = NULL;
    return STATUS_OK;
}

void checkpoint_write_abort(struct checkpoint_writer **writer)
{
    if (*writer == NULL)
        return;
    atomic_file_abort(&(*writer)->file);
    free_writer(*writer);
    *writer = NULL;
}
