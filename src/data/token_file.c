/* Finds, recognises and opens token files of other programs. */
#include "data/token_file.h"

#include "base/mem.h"
#include "base/read_file.h"
#include "data/shard.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
    LLMC_MAGIC_16 = 20240520,
    LLMC_VERSION_16 = 1,
    LLMC_MAGIC_32 = 20240801,
    LLMC_VERSION_32 = 7,
    NPY_HEADER_MAX = 4096, /* a description of one array takes 128 */
    NPY_PREFIX = 10        /* magic, version and the length of the description */
};

static const char npy_magic[] = "\x93NUMPY";

/* --- what a file begins with -------------------------------------------------------------------
 */

void token_llmc_header(int32_t head[TOKEN_LLMC_HEADER / 4], int32_t width, int32_t count)
{
    memset(head, 0, TOKEN_LLMC_HEADER);
    head[0] = width == 4 ? LLMC_MAGIC_32 : LLMC_MAGIC_16;
    head[1] = width == 4 ? LLMC_VERSION_32 : LLMC_VERSION_16;
    head[2] = count;
}

static enum status refuse_size(const struct token_file *f, int64_t bytes, int64_t want,
                               struct error *err)
{
    return error_set(err, STATUS_DATA,
                     "%s: %lld bytes where its header says %lld: %s; copy the file again", f->path,
                     (long long)bytes, (long long)want,
                     bytes < want ? "cut short" : "something was appended");
}

/* A file of llm.c with `head`, its first numbers. */
static enum status open_llmc(struct token_file *f, const int32_t head[3], int64_t bytes,
                             struct error *err)
{
    bool wide = head[0] == LLMC_MAGIC_32;
    int32_t version = wide ? LLMC_VERSION_32 : LLMC_VERSION_16;
    if (head[1] != version)
        return error_set(err, STATUS_DATA,
                         "%s: a token file of llm.c of version %d; this program reads version %d "
                         "with that beginning",
                         f->path, head[1], version);
    f->width = wide ? 4 : 2;
    f->offset = TOKEN_LLMC_HEADER;
    f->tokens = head[2];
    int64_t want = TOKEN_LLMC_HEADER + f->tokens * f->width;
    if (head[2] < 0)
        return error_set(err, STATUS_DATA, "%s: its header counts %d tokens", f->path, head[2]);
    return bytes == want ? STATUS_OK : refuse_size(f, bytes, want, err);
}

/* The value of `key` in the description of an array, as in "'descr': '<u2', ", or NULL. */
static const char *npy_value(const char *text, const char *key)
{
    const char *at = strstr(text, key);
    if (at == NULL)
        return NULL;
    at += strlen(key);
    return at + strspn(at, " :");
}

/* Reads the description of an array of NumPy. */
static enum status open_npy(struct token_file *f, int64_t bytes, struct error *err)
{
    char text[NPY_HEADER_MAX + 1] = {0};
    unsigned char prefix[NPY_PREFIX];
    char *end;
    TRY(read_file_at(f->fd, f->path, prefix, sizeof prefix, 0, err));
    size_t length = prefix[8] | (size_t)prefix[9] << 8;
    /* Versions 2 and 3 are for descriptions that do not fit 16 bits. */
    if (prefix[6] != 1 || length > NPY_HEADER_MAX)
        return error_set(err, STATUS_DATA,
                         "%s: a NumPy file of version %d; save a plain array with numpy.save",
                         f->path, prefix[6]);
    TRY(read_file_at(f->fd, f->path, text, length, NPY_PREFIX, err));
    const char *type = npy_value(text, "'descr'"), *shape = npy_value(text, "'shape'");
    f->width = type == NULL ? 0 : strncmp(type, "'<u2'", 5) == 0 ? 2 : 4;
    if (type == NULL || (f->width == 4 && strncmp(type, "'<u4'", 5) != 0))
        return error_set(err, STATUS_DATA,
                         "%s: an array of %.8s; tokens are uint16 or uint32, as "
                         "a.astype('uint16') makes them",
                         f->path, type == NULL ? "unknown type" : type);
    errno = 0;
    f->tokens = shape != NULL && *shape == '(' ? strtoll(shape + 1, &end, 10) : -1;
    if (f->tokens < 0 || errno != 0 || strncmp(end, ",)", 2) != 0)
        return error_set(err, STATUS_DATA,
                         "%s: an array of another shape than (n,); a.ravel() makes such a one",
                         f->path);
    f->offset = NPY_PREFIX + (int64_t)length;
    int64_t room = (bytes - f->offset) / f->width, rest = (bytes - f->offset) % f->width;
    if (f->tokens != room || rest != 0)
        return error_set(err, STATUS_DATA,
                         "%s: room for %lld tokens where its header says %lld; copy the file again",
                         f->path, (long long)room, (long long)f->tokens);
    return STATUS_OK;
}

static enum status open_raw(struct token_file *f, int32_t width, int64_t bytes, struct error *err)
{
    f->width = width;
    f->offset = 0;
    f->tokens = bytes / width;
    if (bytes % width != 0)
        return error_set(
            err, STATUS_DATA,
            "%s: %lld bytes, which are no tokens of %d: it was cut short, or data.format "
            "is not what it says",
            f->path, (long long)bytes, width);
    return STATUS_OK;
}

static enum token_format recognise(const unsigned char head[12], int64_t bytes)
{
    int32_t magic = 0;
    if (bytes >= TOKEN_LLMC_HEADER)
        memcpy(&magic, head, sizeof magic);
    if (magic == LLMC_MAGIC_16 || magic == LLMC_MAGIC_32)
        return TOKENS_LLMC;
    return bytes >= 6 && memcmp(head, npy_magic, 6) == 0 ? TOKENS_NPY : TOKENS_U16;
}

static enum status read_head(struct token_file *f, enum token_format format, int64_t bytes,
                             struct error *err)
{
    unsigned char head[12] = {0};
    int32_t numbers[3];
    TRY(read_file_at(f->fd, f->path, head, bytes < 12 ? (size_t)bytes : sizeof head, 0, err));
    enum token_format found = recognise(head, bytes);
    if (format == TOKENS_AUTO)
        format = found;
    if ((format == TOKENS_LLMC || format == TOKENS_NPY) && found != format)
        return error_set(err, STATUS_DATA,
                         "%s: does not begin as a token file of %s; data.format=auto tells the "
                         "format by the file",
                         f->path, format == TOKENS_NPY ? "NumPy" : "llm.c");
    memcpy(numbers, head, sizeof numbers);
    if (format == TOKENS_LLMC)
        TRY(open_llmc(f, numbers, bytes, err));
    else if (format == TOKENS_NPY)
        TRY(open_npy(f, bytes, err));
    else
        TRY(open_raw(f, format == TOKENS_U32 ? 4 : 2, bytes, err));
    if (f->tokens == 0)
        return error_set(err, STATUS_DATA, "%s: holds no token", f->path);
    return STATUS_OK;
}

void token_file_close(struct token_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    mem_free(f->path);
    *f = (struct token_file){.fd = -1};
}

enum status token_file_open(struct token_file *out, const char *path, enum token_format format,
                            struct error *err)
{
    enum status status;
    int64_t bytes;
    *out = (struct token_file){.fd = -1};
    TRY_OUT(mem_strdup(&out->path, path, err));
    TRY_OUT(read_file_open(&out->fd, &bytes, path, "a file of tokens", err));
    TRY_OUT(read_head(out, format, bytes, err));
    return STATUS_OK;
out:
    token_file_close(out);
    return status;
}

/* --- the files of a folder ---------------------------------------------------------------------
 */

/* Whether the part [at, at + len) of a name stands for the split. */
static bool part_is_split(const char *at, size_t len, const char *split)
{
    static const char *const valid[] = {"valid", "val", "validation"};
    bool is_valid = strcmp(split, "valid") == 0;
    for (size_t i = 0; i < (is_valid ? sizeof valid / sizeof *valid : 1); i++) {
        const char *word = is_valid ? valid[i] : split;
        if (strlen(word) == len && strncasecmp(at, word, len) == 0)
            return true;
    }
    return false;
}

/* Whether `name` is that of a token file of the split. */
static bool is_of_split(const char *name, const char *split)
{
    const char *end = strrchr(name, '.');
    if (end == NULL || (strcmp(end, ".bin") != 0 && strcmp(end, ".npy") != 0) ||
        shard_owns_name(name))
        return false;
    for (const char *p = name; p < end;) {
        size_t len = 0;
        while (p + len < end && isalnum((unsigned char)p[len]))
            len++;
        if (part_is_split(p, len, split))
            return true;
        p += len + 1;
    }
    return false;
}

static int by_path(const void *a, const void *b)
{
    const struct token_file *left = a, *right = b;
    return strcmp(left->path, right->path);
}

/* Adds DIR/NAME, still closed. */
static enum status add(struct token_files *files, const char *dir, const char *name,
                       struct error *err)
{
    char path[4096];
    void *p = files->list;
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return error_set(err, STATUS_NOINPUT, "%.100s...: name too long", path);
    TRY(mem_grow(&p, (size_t)files->count, (size_t)files->count + 1, sizeof *files->list, err));
    files->list = p;
    files->list[files->count].fd = -1;
    TRY(mem_strdup(&files->list[files->count].path, path, err));
    files->count++;
    return STATUS_OK;
}

static enum status list_files(struct token_files *files, const char *dir, const char *split,
                              struct error *err)
{
    enum status status = STATUS_OK;
    DIR *folder = opendir(dir);
    if (folder == NULL)
        return error_set(err, errno == EMFILE || errno == ENFILE ? STATUS_IO : STATUS_NOINPUT,
                         "%s: %s", dir, strerror(errno));
    for (const struct dirent *e; status == STATUS_OK && (e = readdir(folder)) != NULL;)
        if (is_of_split(e->d_name, split))
            status = add(files, dir, e->d_name, err);
    closedir(folder);
    if (status == STATUS_OK && files->count == 0)
        return error_set(err, STATUS_NOINPUT, "%s: no token files of the split %s", dir, split);
    return status;
}

enum status token_files_open(struct token_files *out, const char *dir, const char *split,
                             enum token_format format, struct error *err)
{
    enum status status;
    *out = (struct token_files){0};
    TRY_OUT(list_files(out, dir, split, err));
    qsort(out->list, (size_t)out->count, sizeof *out->list, by_path);
    for (int64_t i = 0; i < out->count; i++) {
        struct token_file opened;
        status = token_file_open(&opened, out->list[i].path, format, err);
        /* The file exists, so this must not be STATUS_NOINPUT, which is no such split. */
        if (status == STATUS_NOINPUT)
            err->status = status = STATUS_IO;
        if (status != STATUS_OK)
            goto out;
        mem_free(out->list[i].path);
        out->list[i] = opened;
    }
    return STATUS_OK;
out:
    token_files_close(out);
    return status;
}

void token_files_close(struct token_files *files)
{
    for (int64_t i = 0; i < files->count; i++)
        token_file_close(&files->list[i]);
    mem_free(files->list);
    *files = (struct token_files){0};
}
