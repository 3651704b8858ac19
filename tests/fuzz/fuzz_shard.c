/* A shard, as the only one of a split. All that is read of an accepted one are ids of its
 * vocabulary.
 */
#include "fuzz.h"

#include "data/shard.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { BUFFER = 1 << 12, IDS = 1 << 10 };

/* A folder in which train-00000.bin is the file in memory. */
static const char *folder(const char *file)
{
    static const char *dir;
    char name[96];
    if (dir == NULL) {
        dir = fuzz_folder();
        snprintf(name, sizeof name, "%s/train-00000.bin", dir);
        if (symlink(file, name) != 0)
            abort();
    }
    return dir;
}

/* The checksums of the header and of the ids, most of the time. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max);
    if (seed % 16 == 0 || size < SHARD_HEADER_BYTES)
        return size;
    uint64_t sum = XXH3_64bits(data + SHARD_HEADER_BYTES, size - SHARD_HEADER_BYTES);
    if (seed % 16 > 1)
        memcpy(data + 88, &sum, sizeof sum);
    sum = XXH3_64bits(data, 120);
    memcpy(data + 120, &sum, sizeof sum);
    return size;
}

static void read_all(struct shard_set *s, const struct shard_buffer *buffer)
{
    static int32_t ids[IDS];
    struct error err;
    int64_t total = shard_set_header(s)->split_tokens;
    for (int64_t at = 0; at < total; at += IDS) {
        int64_t n = total - at < IDS ? total - at : IDS;
        if (shard_set_read(s, at, n, ids, buffer, &err) != STATUS_OK)
            abort(); /* verified before */
        for (int64_t i = 0; i < n; i++)
            FUZZ_ASSERT(ids[i] >= 0 && ids[i] < shard_set_header(s)->vocab_size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint32_t words[BUFFER / 4];
    const struct shard_buffer buffer = {words, sizeof words};
    struct shard_set *s = NULL;
    int64_t found;
    struct error err;
    const char *dir = folder(fuzz_file(data, size));
    enum status status =
        shard_set_open(&s, &(struct shard_source){.dir = dir, .split = "train"}, &err);
    FUZZ_ASSERT((s != NULL) == (status == STATUS_OK));
    if (status == STATUS_OK)
        status = shard_set_verify(s, &buffer, -1, &found, &err);
    if (status == STATUS_OK)
        read_all(s, &buffer);
    else /* a shard of many is not there alone */
        fuzz_refused(&err, status, status == STATUS_NOINPUT ? STATUS_NOINPUT : STATUS_DATA, dir);
    shard_set_close(s);
    return 0;
}
