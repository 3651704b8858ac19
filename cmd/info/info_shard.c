/* deq info on one shard prints its header and, with --check, verifies its checksum and ids. */
#include "cmd/info/info.h"
#include "cmd/output.h"

#include "base/mem.h"
#include "data/shard.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

enum { PIECE = 1 << 20 }; /* bytes read at once; whole ids */

static enum status read_header(FILE *file, const char *path, struct shard_header *h,
                               struct error *err)
{
    unsigned char bytes[SHARD_HEADER_BYTES];
    struct stat info;
    size_t got = fread(bytes, 1, sizeof bytes, file);
    if (ferror(file))
        return error_set(err, STATUS_IO, "%s: cannot read: %s", path, strerror(errno));
    if (got != sizeof bytes)
        return error_set(err, STATUS_DATA, "%s: shorter than a shard's header; tokenize again",
                         path);
    TRY(shard_header_decode(h, bytes, path, err));
    if (fstat(fileno(file), &info) != 0)
        return error_set(err, STATUS_IO, "%s: %s", path, strerror(errno));
    int64_t want = SHARD_HEADER_BYTES + h->tokens * h->width;
    if (info.st_size != want)
        return error_set(err, STATUS_DATA,
                         "%s: %lld bytes, but its header says %lld: truncated or overwritten; "
                         "tokenize again",
                         path, (long long)info.st_size, (long long)want);
    return STATUS_OK;
}

/* The first id of the piece that the vocabulary does not have, or -1. */
static int64_t bad_id(const unsigned char *piece, size_t size, const struct shard_header *h)
{
    for (size_t at = 0; at + (size_t)h->width <= size; at += (size_t)h->width) {
        int64_t id = 0;
        for (int32_t i = h->width - 1; i >= 0; i--)
            id = id << 8 | piece[at + (size_t)i];
        if (id >= h->vocab_size)
            return id;
    }
    return -1;
}

static enum status check_ids(FILE *file, const char *path, const struct shard_header *h,
                             unsigned char *piece, XXH3_state_t *hash, struct error *err)
{
    size_t got;
    XXH3_64bits_reset(hash);
    int64_t wrong = -1;
    while ((got = fread(piece, 1, PIECE, file)) > 0) {
        XXH3_64bits_update(hash, piece, got);
        if (wrong < 0)
            wrong = bad_id(piece, got, h);
    }
    if (ferror(file))
        return error_set(err, STATUS_IO, "%s: cannot read: %s", path, strerror(errno));
    if (XXH3_64bits_digest(hash) != h->payload_hash)
        return error_set(err, STATUS_DATA, "%s: the ids are damaged (checksum); tokenize again",
                         path);
    if (wrong >= 0)
        return error_set(err, STATUS_DATA,
                         "%s: id %lld is outside the vocabulary of %lld; "
                         "tokenize again",
                         path, (long long)wrong, (long long)h->vocab_size);
    return STATUS_OK;
}

static enum status check(FILE *file, const char *path, const struct shard_header *h,
                         struct error *err)
{
    void *piece = NULL, *hash = NULL;
    enum status status = STATUS_OK;
    TRY_OUT(mem_alloc(&piece, PIECE, 1, err));
    TRY_OUT(mem_alloc(&hash, 1, sizeof(XXH3_state_t), err));
    TRY_OUT(check_ids(file, path, h, piece, hash, err));
out:
    mem_free(hash);
    mem_free(piece);
    return status;
}

static enum status print_json(const struct info_request *request, const struct shard_header *h,
                              struct error *err)
{
    char hash[32];
    struct json_writer w;
    info_json_begin(&w, request, "shard");
    json_write_int(&w, "tokens", h->tokens);
    json_write_int(&w, "first", h->first);
    json_write_int(&w, "split_tokens", h->split_tokens);
    json_write_int(&w, "shard", h->index);
    json_write_int(&w, "shards", h->count);
    json_write_int(&w, "bytes_per_id", h->width);
    json_write_int(&w, "vocab", h->vocab_size);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)h->vocab_hash);
    json_write_string(&w, "vocab_hash", hash);
    json_write_bool(&w, "byte_level", h->bytes);
    json_write_int(&w, "split_text_bytes", h->text_bytes);
    json_write_int(&w, "split_words", h->words);
    if (h->sequence > 0) {
        json_write_int(&w, "record_positions", h->sequence);
        json_write_int(&w, "record_recall", h->recall);
    }
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)h->payload_hash);
    json_write_string(&w, "checksum", hash);
    if (request->check)
        json_write_bool(&w, "check", true);
    return output_json_print(&w, err);
}

static void print_text(const struct info_request *request, const struct shard_header *h)
{
    printf("%s: shard %lld of %lld\n", request->path, (long long)h->index + 1, (long long)h->count);
    printf("tokens      %lld, from number %lld of the split's %lld\n", (long long)h->tokens,
           (long long)h->first, (long long)h->split_tokens);
    printf("ids         %d bytes each%s\n", (int)h->width, h->bytes ? ", bytes of text" : "");
    printf("vocabulary  %lld, hash %016llx\n", (long long)h->vocab_size,
           (unsigned long long)h->vocab_hash);
    if (h->sequence > 0)
        printf("records     of %lld inputs and as many targets, the last %lld recalled\n",
               (long long)h->sequence, (long long)h->recall);
    printf("split       %lld bytes of text, %lld words\n", (long long)h->text_bytes,
           (long long)h->words);
    printf("checksum    %016llx %s\n", (unsigned long long)h->payload_hash,
           request->check ? "verified" : "(--check verifies it)");
}

enum status info_shard(const struct info_request *request, struct error *err)
{
    struct shard_header h;
    FILE *file = fopen(request->path, "rb");
    if (file == NULL)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", request->path,
                         strerror(errno));
    enum status status = STATUS_OK;
    TRY_OUT(read_header(file, request->path, &h, err));
    if (request->check)
        TRY_OUT(check(file, request->path, &h, err));
    if (request->json)
        TRY_OUT(print_json(request, &h, err));
    else
        print_text(request, &h);
out:
    fclose(file);
    return status;
}
