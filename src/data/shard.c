/* Encodes and checks the header of a shard, and names shards. */
#include "data/shard.h"

#include "data/vocab.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "words are scanned, and shards stored, on little-endian machines");

static const char magic[8] = {'D', 'E', 'Q', 'S', 'H', 'A', 'R', 'D'};

enum { FLAG_RECORDS = 2 };

int32_t shard_width(int64_t vocab_size)
{
    return vocab_size <= 65536 ? 2 : 4;
}

static void put32(unsigned char *to, int64_t value)
{
    uint32_t v = (uint32_t)value;
    memcpy(to, &v, sizeof v);
}

static void put64(unsigned char *to, uint64_t value)
{
    memcpy(to, &value, sizeof value);
}

static int64_t get32(const unsigned char *from)
{
    uint32_t v;
    memcpy(&v, from, sizeof v);
    return v;
}

static uint64_t get64(const unsigned char *from)
{
    uint64_t v;
    memcpy(&v, from, sizeof v);
    return v;
}

void shard_header_encode(const struct shard_header *h, unsigned char out[SHARD_HEADER_BYTES])
{
    memset(out, 0, SHARD_HEADER_BYTES);
    memcpy(out, magic, sizeof magic);
    put32(out + 8, SHARD_VERSION);
    put32(out + 12, SHARD_HEADER_BYTES);
    put32(out + 16, h->width);
    put32(out + 20, h->bytes | (h->sequence > 0 ? FLAG_RECORDS : 0));
    put32(out + 24, h->index);
    put32(out + 28, h->count);
    put64(out + 32, (uint64_t)h->tokens);
    put64(out + 40, (uint64_t)h->first);
    put64(out + 48, (uint64_t)h->split_tokens);
    put64(out + 56, (uint64_t)h->vocab_size);
    put64(out + 64, h->vocab_hash);
    put64(out + 72, (uint64_t)h->text_bytes);
    put64(out + 80, (uint64_t)h->words);
    put64(out + 88, h->payload_hash);
    put64(out + 96, (uint64_t)h->sequence);
    put64(out + 104, (uint64_t)h->recall);
    put64(out + 120, XXH3_64bits(out, 120));
}

/* Takes a number unless it is above `max`, which its type must hold. */
static bool take(int64_t *to, uint64_t value, int64_t max)
{
    if (value > (uint64_t)max)
        return false;
    *to = (int64_t)value;
    return true;
}

/* Takes the two numbers of records, which are both zero in a text. A split has only whole records.
 */
static bool plausible_records(struct shard_header *h, const unsigned char *in)
{
    bool records = (get32(in + 20) & FLAG_RECORDS) != 0;
    if (!take(&h->sequence, get64(in + 96), INT32_MAX) ||
        !take(&h->recall, get64(in + 104), h->sequence) || records != (h->sequence > 0))
        return false;
    return !records || h->split_tokens % (2 * h->sequence) == 0;
}

static bool plausible(struct shard_header *h, const unsigned char *in)
{
    const int64_t most = INT64_C(1) << 60;
    h->width = (int32_t)get32(in + 16);
    h->bytes = get32(in + 20) & 1;
    h->index = get32(in + 24);
    h->count = get32(in + 28);
    h->vocab_hash = get64(in + 64);
    h->payload_hash = get64(in + 88);
    return take(&h->split_tokens, get64(in + 48), most) &&
           take(&h->first, get64(in + 40), h->split_tokens) &&
           take(&h->tokens, get64(in + 32), h->split_tokens - h->first) &&
           take(&h->vocab_size, get64(in + 56), INT32_MAX) &&
           take(&h->text_bytes, get64(in + 72), most) &&
           take(&h->words, get64(in + 80),
                h->split_tokens > h->text_bytes ? h->split_tokens : h->text_bytes) &&
           h->vocab_size >= 1 && h->width == shard_width(h->vocab_size) &&
           h->count <= SHARD_COUNT_MAX && h->index < h->count &&
           (get32(in + 20) & ~(INT64_C(1) | FLAG_RECORDS)) == 0 && plausible_records(h, in);
}

enum status shard_header_decode(struct shard_header *h, const unsigned char in[SHARD_HEADER_BYTES],
                                const char *path, struct error *err)
{
    memset(h, 0, sizeof *h);
    if (memcmp(in, magic, sizeof magic) != 0)
        return error_set(err, STATUS_DATA,
                         "%s: not a shard of token ids; make the folder with deq tokenize", path);
    if (get32(in + 8) != SHARD_VERSION)
        return error_set(err, STATUS_DATA,
                         "%s: shard of version %lld, this program reads version %d; run deq "
                         "tokenize again",
                         path, (long long)get32(in + 8), SHARD_VERSION);
    if (get64(in + 120) != XXH3_64bits(in, 120))
        return error_set(err, STATUS_DATA,
                         "%s: damaged header (wrong checksum); run deq tokenize again", path);
    if (get32(in + 12) != SHARD_HEADER_BYTES || !plausible(h, in))
        return error_set(err, STATUS_DATA,
                         "%s: header with impossible numbers; run deq tokenize again", path);
    return STATUS_OK;
}

void shard_name(char out[SHARD_NAME_MAX], const char *split, int64_t index)
{
    snprintf(out, SHARD_NAME_MAX, "%.12s-%05lld.bin", split, (long long)index);
}

void shard_remedy(const char *dir, char out[SHARD_REMEDY_MAX])
{
    static const char *const made[][2] = {{"kjv", "kjv"}, {"wikitext-103", "wikitext103"}};
    size_t len = strlen(dir);
    while (len > 1 && dir[len - 1] == '/')
        len--;
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        size_t n = strlen(made[i][0]);
        bool ends = len >= n && strncmp(dir + len - n, made[i][0], n) == 0;
        if (!ends || (len > n && dir[len - n - 1] != '/'))
            continue;
        snprintf(out, SHARD_REMEDY_MAX, "scripts/%s.sh makes it", made[i][1]);
        return;
    }
    snprintf(out, SHARD_REMEDY_MAX, "deq tokenize --train FILE --out %s makes it", dir);
}

/* The rest of `name` after the prefix, or NULL if it begins otherwise. */
static const char *after(const char *name, const char *prefix)
{
    size_t n = strlen(prefix);
    return name != NULL && strncmp(name, prefix, n) == 0 ? name + n : NULL;
}

bool shard_owns_name(const char *name)
{
    static const char splits[][8] = {"train-", "valid-", "test-"};
    const char *rest = after(name, "vocab.txt");
    if (rest == NULL)
        rest = after(name, VOCAB_TOKENIZER);
    for (size_t i = 0; rest == NULL && i < sizeof splits / sizeof splits[0]; i++) {
        const char *digits = after(name, splits[i]);
        int n = 0;
        while (digits != NULL && isdigit((unsigned char)digits[n]))
            n++;
        if (n == 5)
            rest = after(digits + n, ".bin");
    }
    return rest != NULL && (*rest == '\0' || after(rest, ".tmp-") != NULL);
}
