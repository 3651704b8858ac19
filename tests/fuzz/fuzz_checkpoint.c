/* A checkpoint: the container (directory, compressed sections, digest), and what training,
 * evaluation and sampling read first (configuration, vocabulary, state). */
#include "fuzz.h"

#include "base/mem.h"
#include "store/checkpoint_format.h"
#include "store/snapshot.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Brings a field of the file in or out. */
static void load(void *to, const uint8_t *data, size_t at, size_t n)
{
    memcpy(to, data + at, n);
}

/* The checksum of each section whose place is in the file. */
static void repair_entries(uint8_t *data, size_t size, const struct checkpoint_header *h)
{
    uint64_t count = h->directory_size / sizeof(struct checkpoint_entry);
    for (uint64_t i = 0; i < count; i++) {
        size_t at = (size_t)(h->directory_offset + i * sizeof(struct checkpoint_entry));
        struct checkpoint_entry e;
        load(&e, data, at, sizeof e);
        if (e.offset > size || e.stored > size - e.offset)
            continue;
        e.sum = XXH3_64bits(data + e.offset, (size_t)e.stored);
        memcpy(data + at, &e, sizeof e);
    }
}

static void repair(uint8_t *data, size_t size, bool sizes)
{
    struct checkpoint_header h;
    if (size < sizeof h)
        return;
    load(&h, data, 0, sizeof h);
    if (sizes) {
        h.file_size = size;
        h.count = h.count > (size - sizeof h) / sizeof(struct checkpoint_entry)
                      ? (size - sizeof h) / sizeof(struct checkpoint_entry)
                      : h.count;
        h.directory_size = h.count * sizeof(struct checkpoint_entry);
        h.directory_offset = size - h.directory_size;
    }
    if (h.directory_size <= size && h.directory_offset <= size - h.directory_size) {
        repair_entries(data, size, &h);
        h.directory_sum = XXH3_64bits(data + h.directory_offset, (size_t)h.directory_size);
    }
    h.header_sum = XXH3_64bits(&h, offsetof(struct checkpoint_header, header_sum));
    memcpy(data, &h, sizeof h);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max);
    if (seed % 16 != 0)
        repair(data, size, seed % 4 != 0);
    return size;
}

static enum status count_bytes(void *context, const void *data, size_t size, size_t offset,
                               struct error *err)
{
    size_t *seen = context;
    (void)data;
    (void)err;
    FUZZ_ASSERT(offset == *seen);
    *seen += size;
    return STATUS_OK;
}

/* Reads every section in pieces and, if it is small, whole. */
static void read_sections(struct checkpoint *c)
{
    struct error err;
    for (int64_t i = 0; i < checkpoint_count(c); i++) {
        const struct checkpoint_section *s = checkpoint_section(c, i);
        size_t seen = 0;
        char *text = NULL;
        FUZZ_ASSERT(checkpoint_find(c, s->name) == s);
        enum status status = checkpoint_read_pieces(c, s->name, count_bytes, &seen, &err);
        if (status != STATUS_OK)
            fuzz_refused(&err, status, STATUS_DATA, checkpoint_path(c));
        else
            FUZZ_ASSERT(seen == s->size);
        if (checkpoint_read_text(c, s->name, 1 << 16, &text, NULL, &err) == STATUS_OK)
            FUZZ_ASSERT(strlen(text) <= s->size);
        mem_free(text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct checkpoint *c = NULL;
    struct snapshot s;
    struct error err;
    char digest[WEIGHTS_DIGEST_TEXT];
    const char *path = fuzz_file(data, size);
    enum status status = checkpoint_open(&c, path, &err);
    FUZZ_ASSERT((c != NULL) == (status == STATUS_OK));
    if (status != STATUS_OK) {
        fuzz_refused(&err, status, STATUS_DATA, path);
        return 0;
    }
    read_sections(c);
    status = checkpoint_weights_digest(c, digest, &err);
    if (status != STATUS_OK) /* damaged, or without weights */
        fuzz_refused(&err, status, STATUS_DATA, path);
    status = checkpoint_verify(c, &err);
    if (status != STATUS_OK)
        fuzz_refused(&err, status, STATUS_DATA, path);
    checkpoint_close(c);
    status = snapshot_open(&s, path, &err);
    if (status == STATUS_OK) {
        FUZZ_ASSERT(vocab_size(s.vocab) == s.config.model.vocab_size);
        FUZZ_ASSERT(s.state.step >= 0);
        snapshot_close(&s);
    } else {
        fuzz_refused(&err, status, status == STATUS_CONFIG ? STATUS_CONFIG : STATUS_DATA, path);
    }
    return 0;
}
