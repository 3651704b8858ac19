#include "io/tokenize_out.h"

#include "base/mem.h"
#include "io/atomic_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_MAX_PATH = 4096 + 288 };

/* mkdir -p; *created: whether the last folder is new. */
static enum status make_folders(const char *path, bool *created, struct error *err)
{
    char *part = NULL;
    enum status status = STATUS_OK;
    *created = false;
    TRY(mem_strdup(&part, path, err));
    for (size_t i = 1, n = strlen(path); i <= n; i++) {
        bool ends = part[i] == '/' || part[i] == '\0';
        if (!ends || part[i - 1] == '/') /* a trailing slash names no further folder */
            continue;
        part[i] = '\0';
        *created = mkdir(part, 0777) == 0;
        /* A folder above may exist and refuse mkdir in other words than EEXIST. */
        struct stat st;
        int code = errno;
        if (!*created && (stat(part, &st) != 0 || !S_ISDIR(st.st_mode))) {
            status = error_set(err, STATUS_CANTCREATE, "%s: cannot make the folder: %s", part,
                               strerror(code == EEXIST ? ENOTDIR : code));
            break;
        }
        part[i] = path[i];
    }
    mem_free(part);
    return status;
}

/* Calls `remove_it(name)` for every entry and removes those it accepts; *others counts the rest. */
static enum status sweep(const char *path, bool (*remove_it)(const char *name, const void *context),
                         const void *context, int64_t *others, struct error *err)
{
    char full[NAMES_MAX_PATH];
    enum status status = STATUS_OK;
    DIR *d = opendir(path);
    if (d == NULL)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot read the folder: %s", path,
                         strerror(errno));
    *others = 0;
    for (struct dirent *e; status == STATUS_OK && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (!remove_it(e->d_name, context)) {
            ++*others;
            continue;
        }
        snprintf(full, sizeof full, "%s/%s", path, e->d_name);
        if (unlink(full) != 0 && errno != ENOENT)
            status =
                error_set(err, STATUS_CANTCREATE, "%s: cannot remove: %s", full, strerror(errno));
    }
    closedir(d);
    return status;
}

static bool is_left_over(const char *name, const void *context)
{
    const bool *force = context;
    return *force && shard_owns_name(name) && strstr(name, ATOMIC_FILE_MARK) != NULL;
}

enum status out_folder_prepare(struct out_folder *f, const char *path, bool force,
                               struct error *err)
{
    int64_t others = 0;
    f->path = path;
    TRY(make_folders(path, &f->created, err));
    TRY(sweep(path, is_left_over, &force, &others, err));
    if (others > 0 && !force)
        return error_set(
            err, STATUS_CANTCREATE,
            "%s: not empty; choose another folder, or --force to replace vocab.txt and "
            "the shards in it",
            path);
    return STATUS_OK;
}

struct kept {
    struct shard_writer *const *writers;
    int count;
};

/* A file of an earlier run whose name this run has not taken. */
static bool is_stale(const char *name, const void *context)
{
    const struct kept *kept = context;
    if (!shard_owns_name(name) || strstr(name, ATOMIC_FILE_MARK) != NULL)
        return false;
    for (int i = 0; i < kept->count; i++)
        if (kept->writers[i] != NULL && shard_writer_has_name(kept->writers[i], name))
            return false;
    return true;
}

enum status out_folder_commit(struct out_folder *f, struct shard_writer *const *writers, int count,
                              const struct vocab *vocab, struct error *err)
{
    char path[NAMES_MAX_PATH];
    struct atomic_file *file = NULL;
    struct kept kept = {.writers = writers, .count = count};
    enum status status;
    size_t size;
    int64_t others;
    const char *text = vocab_text(vocab, &size);
    snprintf(path, sizeof path, "%s/vocab.txt", f->path);
    TRY_OUT(atomic_file_create(&file, path, err));
    TRY_OUT(atomic_file_write(file, text, size, err));
    TRY_OUT(atomic_file_sync(file, err));
    /* The old vocabulary goes first and the new one comes last: between them the folder is seen to
     * be incomplete. */
    TRY_OUT(sweep(f->path, is_stale, &kept, &others, err));
    for (int i = 0; i < count; i++)
        if (writers[i] != NULL)
            TRY_OUT(shard_writer_commit(writers[i], err));
    TRY_OUT(atomic_file_commit(&file, err));
out:
    atomic_file_abort(&file);
    for (int i = 0; status != STATUS_OK && i < count; i++)
        if (writers[i] != NULL)
            shard_writer_remove(writers[i]);
    return status;
}

void out_folder_abandon(struct out_folder *f)
{
    if (f->created)
        rmdir(f->path);
}
