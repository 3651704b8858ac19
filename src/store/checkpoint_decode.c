/* Decodes and checks the sections of a checkpoint. */
#include "store/checkpoint.h"

#include "base/mem.h"
#include "base/read_file.h"
#include "store/checkpoint_format.h"
#include "store/checkpoint_impl.h"
#include "store/plane_codec.h"

#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zlib.h>

#include <stdio.h>
#include <string.h>

enum { INPUT_BYTES = 256 << 10 }; /* read at once, and more than the largest block */

struct decoder {
    uint8_t *input;    /* owns [INPUT_BYTES], stored bytes read ahead */
    uint8_t *planes;   /* owns [CHUNK_MAX] */
    uint8_t *piece;    /* owns [CHUNK_MAX], a decoded chunk for checkpoint_read_pieces */
    XXH3_state_t *sum; /* owns */
    z_stream zip;
    bool zip_ready;
    /* The fields below are of the section being read. */
    size_t begin, end; /* bytes in `input` not used yet */
    uint64_t offset;   /* of the next byte to read from the file */
    uint64_t left;     /* stored bytes not read from the file yet */
};

enum status checkpoint_decoder_open(struct decoder **out, struct error *err)
{
    *out = NULL;
    enum status status;
    void *p = NULL;
    TRY(mem_alloc(&p, 1, sizeof(struct decoder), err));
    struct decoder *d = p;
    TRY_OUT(mem_alloc(&p, INPUT_BYTES, 1, err));
    d->input = p;
    TRY_OUT(mem_alloc(&p, CHUNK_MAX, 1, err));
    d->planes = p;
    TRY_OUT(mem_alloc(&p, CHUNK_MAX, 1, err));
    d->piece = p;
    TRY_OUT(mem_alloc(&p, 1, sizeof *d->sum, err));
    d->sum = p;
    TRY_OUT(plane_inflate_open(&d->zip, err));
    d->zip_ready = true;
    *out = d;
    return STATUS_OK;
out:
    checkpoint_decoder_close(d);
    return status;
}

void checkpoint_decoder_close(struct decoder *d)
{
    if (d == NULL)
        return;
    if (d->zip_ready)
        inflateEnd(&d->zip);
    mem_free(d->input);
    mem_free(d->planes);
    mem_free(d->piece);
    mem_free(d->sum);
    mem_free(d);
}

static enum status damaged(const struct checkpoint *c, const struct stored_section *s,
                           const char *what, struct error *err)
{
    return error_set(err, STATUS_DATA,
                     "%s: section \"%s\" at byte %llu is damaged (%s); copy the file again or use "
                     "another checkpoint",
                     c->path, s->shown.name, (unsigned long long)s->offset, what);
}

/* Hands out the next `size` <= CHUNK_ELEMENTS stored bytes of the section and adds them to its
 * checksum. */
static enum status take(struct checkpoint *c, const struct stored_section *s, size_t size,
                        const uint8_t **out, struct error *err)
{
    struct decoder *d = c->decoder;
    if (d->end - d->begin < size) {
        memmove(d->input, d->input + d->begin, d->end - d->begin);
        d->end -= d->begin;
        d->begin = 0;
        size_t space = INPUT_BYTES - d->end;
        size_t more = d->left < space ? (size_t)d->left : space;
        TRY(read_file_at(c->fd, c->path, d->input + d->end, more, d->offset, err));
        d->end += more;
        d->offset += more;
        d->left -= more;
        if (d->end < size)
            return damaged(c, s, "it ends too early", err);
    }
    *out = d->input + d->begin;
    d->begin += size;
    XXH3_64bits_update(d->sum, *out, size);
    return STATUS_OK;
}

static enum status take_plane(struct checkpoint *c, const struct stored_section *s, uint8_t *to,
                              size_t n, struct error *err)
{
    z_stream *zip = &c->decoder->zip;
    const uint8_t *from = NULL;
    uint32_t head;
    TRY(take(c, s, sizeof head, &from, err));
    memcpy(&head, from, sizeof head);
    size_t stored = head & ~BLOCK_DEFLATED;
    if (!(head & BLOCK_DEFLATED)) {
        if (stored != n)
            return damaged(c, s, "wrong block size", err);
        TRY(take(c, s, stored, &from, err));
        memcpy(to, from, n);
        return STATUS_OK;
    }
    if (stored >= n)
        return damaged(c, s, "wrong block size", err);
    TRY(take(c, s, stored, &from, err));
    inflateReset(zip);
    zip->next_in = (z_const Bytef *)from;
    zip->avail_in = (uInt)stored;
    zip->next_out = to;
    zip->avail_out = (uInt)n;
    int result = inflate(zip, Z_FINISH);
    if (result == Z_MEM_ERROR)
        return error_set(err, STATUS_NOMEM, "%s: out of memory while decompressing", c->path);
    if (result != Z_STREAM_END || zip->avail_in != 0 || zip->avail_out != 0)
        return damaged(c, s, "wrong compressed data", err);
    return STATUS_OK;
}

/* Reads the next bytes of a section that is stored as it is. */
static enum status take_plain(struct checkpoint *c, uint8_t *to, size_t bytes, struct error *err)
{
    struct decoder *d = c->decoder;
    TRY(read_file_at(c->fd, c->path, to, bytes, d->offset, err));
    d->offset += bytes;
    d->left -= bytes;
    XXH3_64bits_update(d->sum, to, bytes);
    return STATUS_OK;
}

/* Decodes the next chunk of `n` elements of `size` bytes. */
static enum status take_chunk(struct checkpoint *c, const struct stored_section *s, uint8_t *to,
                              size_t n, size_t size, struct error *err)
{
    if (s->plain)
        return take_plain(c, to, n * size, err);
    if (size == 1)
        return take_plane(c, s, to, n, err);
    for (size_t p = 0; p < size; p++)
        TRY(take_plane(c, s, c->decoder->planes + p * n, n, err));
    planes_join(to, c->decoder->planes, n, size);
    return STATUS_OK;
}

/* Decodes a section into `buf`. If `buf` is NULL, it hands the chunks to `fn`, or only checks them
 * if that is NULL too. */
static enum status decode(struct checkpoint *c, const struct checkpoint_section *shown,
                          uint8_t *buf, checkpoint_piece_fn *fn, void *context, struct error *err)
{
    const struct stored_section *s = (const struct stored_section *)shown;
    struct decoder *d = c->decoder;
    size_t size = checkpoint_type_size(shown->type);
    XXH3_64bits_reset(d->sum);
    d->begin = d->end = 0;
    d->offset = s->offset;
    d->left = shown->stored;
    for (size_t done = 0; done < shown->size;) {
        size_t n = (shown->size - done) / size;
        if (n > CHUNK_ELEMENTS)
            n = CHUNK_ELEMENTS;
        uint8_t *to = buf != NULL ? buf + done : d->piece;
        TRY(take_chunk(c, s, to, n, size, err));
        if (fn != NULL)
            TRY(fn(context, to, n * size, done, err));
        done += n * size;
    }
    if (d->left != 0 || d->begin != d->end)
        return damaged(c, s, "bytes are left over", err);
    if (XXH3_64bits_digest(d->sum) != s->sum)
        return damaged(c, s, "checksum", err);
    return STATUS_OK;
}

static enum status need(const struct checkpoint *c, const char *name,
                        const struct checkpoint_section **out, struct error *err)
{
    *out = checkpoint_find(c, name);
    if (*out != NULL)
        return STATUS_OK;
    return error_set(err, STATUS_DATA, "%s: no section \"%s\", so not a checkpoint of this kind",
                     c->path, name);
}

enum status checkpoint_read_section(struct checkpoint *c, const char *name, void *buf, size_t size,
                                    struct error *err)
{
    const struct checkpoint_section *s = NULL;
    TRY(need(c, name, &s, err));
    if (s->size != size)
        return error_set(err, STATUS_DATA, "%s: section \"%s\" holds %zu bytes, want %zu", c->path,
                         name, s->size, size);
    uint8_t none; /* a NULL buffer would mean pieces */
    return decode(c, s, size == 0 ? &none : buf, NULL, NULL, err);
}

enum status checkpoint_read_text(struct checkpoint *c, const char *name, size_t max, char **out,
                                 size_t *len, struct error *err)
{
    *out = NULL;
    const struct checkpoint_section *s = NULL;
    TRY(need(c, name, &s, err));
    if (s->type != CHECKPOINT_U8)
        return error_set(err, STATUS_DATA, "%s: section \"%s\" is %s, want text", c->path, name,
                         checkpoint_type_name(s->type));
    if (s->size > max)
        return error_set(err, STATUS_DATA, "%s: section \"%s\" holds %zu bytes, more than %zu",
                         c->path, name, s->size, max);
    void *p = NULL;
    TRY(mem_alloc(&p, s->size + 1, 1, err)); /* the last byte stays the NUL */
    enum status status = decode(c, s, p, NULL, NULL, err);
    if (status != STATUS_OK) {
        mem_free(p);
        return status;
    }
    *out = p;
    if (len != NULL)
        *len = s->size;
    return STATUS_OK;
}

enum status checkpoint_read_pieces(struct checkpoint *c, const char *name, checkpoint_piece_fn *fn,
                                   void *context, struct error *err)
{
    const struct checkpoint_section *s = NULL;
    TRY(need(c, name, &s, err));
    return decode(c, s, NULL, fn, context, err);
}

enum status checkpoint_verify(struct checkpoint *c, struct error *err)
{
    for (int64_t i = 0; i < c->count; i++)
        TRY(decode(c, &c->list[i].shown, NULL, NULL, NULL, err));
    return STATUS_OK;
}

/* --- digest of the weights -------------------------------------------------------------------- */

static enum status add_piece(void *context, const void *data, size_t size, size_t offset,
                             struct error *err)
{
    (void)offset;
    (void)err;
    XXH3_64bits_update(context, data, size);
    return STATUS_OK;
}

/* Each parameter has a hash of its name with the NUL and its values. Their sum does not depend on
 * the order of the parameters. */
enum status checkpoint_weights_digest(struct checkpoint *c, char out[WEIGHTS_DIGEST_TEXT],
                                      struct error *err)
{
    uint64_t both[2] = {0}; /* the sum and the number of its terms */
    XXH3_state_t state;
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const char *section = checkpoint_section(c, i)->name, *name = section + 2;
        if (strncmp(section, "w:", 2) != 0)
            continue;
        XXH3_64bits_reset(&state);
        XXH3_64bits_update(&state, name, strlen(name) + 1);
        TRY(checkpoint_read_pieces(c, section, add_piece, &state, err));
        both[0] += XXH3_64bits_digest(&state);
        both[1]++;
    }
    if (both[1] == 0)
        return error_set(err, STATUS_DATA, "%s: holds no weights (no section \"w:...\")",
                         checkpoint_path(c));
    snprintf(out, WEIGHTS_DIGEST_TEXT, "%016llx",
             (unsigned long long)XXH3_64bits(both, sizeof both));
    return STATUS_OK;
}
