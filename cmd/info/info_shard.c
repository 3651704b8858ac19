/* deq info on one shard prints its header and, with --check, verifies its checksum and ids. */
#include "cmd/estimate.h"
#include "cmd/info/content.h"
#include "cmd/info/info.h"
#include "cmd/output.h"

#include "base/mem.h"
#include "data/shard.h"

#define XXH_INLINE_ALL
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { PATH_SIZE = 4096 + 64, PIECE = 1 << 20 }; /* bytes read at once; whole ids */

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
    char tokens[ESTIMATE_COUNT_MAX], all[ESTIMATE_COUNT_MAX], text[ESTIMATE_COUNT_MAX];
    char words[ESTIMATE_COUNT_MAX], first[ESTIMATE_COUNT_MAX], vocab[ESTIMATE_COUNT_MAX];
    estimate_count(h->tokens, tokens);
    estimate_count(h->split_tokens, all);
    estimate_count(h->first, first);
    estimate_count(h->vocab_size, vocab);
    estimate_count(h->words, words);
    estimate_bytes((double)h->text_bytes, text);
    printf("%s: shard %lld of %lld\n", request->path, (long long)h->index + 1, (long long)h->count);
    printf("tokens      %s, from number %s of the split's %s\n", tokens, first, all);
    printf("split       %s of text, %s words\n", text, words);
    printf("ids         %d bytes each%s\n", (int)h->width, h->bytes ? ", bytes of text" : "");
    printf("vocabulary  %s, hash %016llx\n", vocab, (unsigned long long)h->vocab_hash);
    if (h->sequence > 0)
        printf("records     of %lld inputs and as many targets, the last %lld recalled\n",
               (long long)h->sequence, (long long)h->recall);
    printf("checksum    %016llx %s\n", (unsigned long long)h->payload_hash,
           request->check ? "verified" : "(--check verifies it)");
}

static enum status open_shard(const char *path, FILE **file, struct shard_header *h,
                              struct error *err)
{
    *file = fopen(path, "rb");
    if (*file == NULL)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", path, strerror(errno));
    return read_header(*file, path, h, err);
}

enum status info_shard(const struct info_request *request, struct error *err)
{
    struct shard_header h;
    FILE *file = NULL;
    enum status status = STATUS_OK;
    TRY_OUT(open_shard(request->path, &file, &h, err));
    if (request->check)
        TRY_OUT(check(file, request->path, &h, err));
    if (request->json)
        TRY_OUT(print_json(request, &h, err));
    else
        print_text(request, &h);
out:
    if (file != NULL)
        fclose(file);
    return status;
}

/* --- a folder of shards ----------------------------------------------------------------------- */

static const char *const splits[] = {"train", "valid", "test"};
enum { SPLITS = sizeof splits / sizeof *splits };

/* The headers of the splits' first shards. */
struct folder {
    bool there[SPLITS];
    struct shard_header first[SPLITS];
    const struct shard_header *any; /* of the splits that are there, or NULL */
};

/* Reads the header of every split's first shard and, with --check, all of every shard. */
static enum status read_split(const struct info_request *request, struct folder *f, int split,
                              struct error *err)
{
    enum status status = STATUS_OK;
    struct shard_header *first = &f->first[split];
    for (int64_t i = 0; i == 0 || (request->check && i < first->count); i++) {
        char path[PATH_SIZE];
        struct shard_header h;
        FILE *file = NULL;
        snprintf(path, sizeof path, "%s/%s-%05lld.bin", request->path, splits[split], (long long)i);
        if (i == 0 && access(path, F_OK) != 0)
            return STATUS_OK;
        status = open_shard(path, &file, &h, err);
        if (status == STATUS_OK && request->check)
            status = check(file, path, &h, err);
        if (file != NULL)
            fclose(file);
        if (status != STATUS_OK)
            return status;
        if (i == 0)
            *first = h;
    }
    f->there[split] = true;
    f->any = first;
    return STATUS_OK;
}

static enum status print_folder_json(const struct info_request *request, const struct folder *f,
                                     struct error *err)
{
    struct json_writer w;
    char hash[32];
    info_json_begin(&w, request, "data");
    json_write_int(&w, "vocab", f->any->vocab_size);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)f->any->vocab_hash);
    json_write_string(&w, "vocab_hash", hash);
    json_write_bool(&w, "byte_level", f->any->bytes);
    json_write_array(&w, "splits");
    for (int i = 0; i < SPLITS; i++) {
        if (!f->there[i])
            continue;
        json_write_object(&w, NULL);
        json_write_string(&w, "name", splits[i]);
        json_write_int(&w, "tokens", f->first[i].split_tokens);
        json_write_int(&w, "shards", f->first[i].count);
        json_write_int(&w, "text_bytes", f->first[i].text_bytes);
        json_write_int(&w, "words", f->first[i].words);
        json_write_end(&w);
    }
    json_write_end(&w);
    if (request->check)
        json_write_bool(&w, "check", true);
    return output_json_print(&w, err);
}

static void print_folder(const struct info_request *request, const struct folder *f)
{
    char path[PATH_SIZE], count[ESTIMATE_COUNT_MAX];
    struct vocab *vocab = NULL;
    struct error ignored;
    snprintf(path, sizeof path, "%s/vocab.txt", request->path);
    printf("%s: shards of %s\n", request->path, f->any->sequence > 0 ? "a task" : "a text");
    printf("vocabulary  ");
    if (vocab_load(&vocab, path, &ignored) == STATUS_OK) {
        info_vocabulary(vocab);
    } else {
        estimate_count(f->any->vocab_size, count);
        printf("%s, whose list is missing\n", count);
    }
    vocab_free(vocab);
    for (int i = 0; i < SPLITS; i++) {
        const struct shard_header *h = &f->first[i];
        char tokens[ESTIMATE_COUNT_MAX], text[ESTIMATE_COUNT_MAX];
        if (!f->there[i])
            continue;
        estimate_count(h->split_tokens, tokens);
        estimate_bytes((double)h->text_bytes, text);
        printf("%-11s %s tokens in %lld shard%s", splits[i], tokens, (long long)h->count,
               h->count == 1 ? "" : "s");
        if (h->text_bytes > 0)
            printf(", of %s of text", text);
        putchar('\n');
    }
    if (request->check)
        printf("check: all shards verified\n");
}

enum status info_data(const struct info_request *request, bool *shown, struct error *err)
{
    struct folder f = {.any = NULL};
    for (int i = 0; i < SPLITS; i++)
        TRY(read_split(request, &f, i, err));
    *shown = f.any != NULL;
    if (f.any == NULL)
        return STATUS_OK;
    if (request->json)
        return print_folder_json(request, &f, err);
    print_folder(request, &f);
    return STATUS_OK;
}
