#include "data/out_folder.h"

#include "base/atomic_file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_MAX_PATH = 4096 + 288 };

/* Behind the name of an old file while the new ones come. */
#define ASIDE ATOMIC_FILE_MARK "old"

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

static enum status open_folder(const char *path, DIR **out, struct error *err)
{
    *out = opendir(path);
    if (*out != NULL)
        return STATUS_OK;
    return error_set(err, STATUS_CANTCREATE, "%s: cannot read the folder: %s", path,
                     strerror(errno));
}

/* Calls `act(path)` for every entry whose name `choose` accepts; *others counts the rest. */
static enum status sweep(DIR *d, const char *path, bool (*choose)(const char *name),
                         int (*act)(const char *path), int64_t *others, struct error *err)
{
    char full[NAMES_MAX_PATH];
    enum status status = STATUS_OK;
    *others = 0;
    rewinddir(d);
    for (struct dirent *e; status == STATUS_OK && (e = readdir(d)) != NULL;) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (!choose(e->d_name)) {
            ++*others;
            continue;
        }
        snprintf(full, sizeof full, "%s/%s", path, e->d_name);
        if (act(full) != 0 && errno != ENOENT)
            status = error_set(err, STATUS_CANTCREATE, "%s: cannot remove or rename: %s", full,
                               strerror(errno));
    }
    return status;
}

static bool is_none(const char *name)
{
    (void)name;
    return false;
}

static bool is_left_over(const char *name)
{
    return shard_owns_name(name) && strstr(name, ATOMIC_FILE_MARK) != NULL;
}

/* A file of this or an earlier run, under its final name. */
static bool is_final(const char *name)
{
    return shard_owns_name(name) && strstr(name, ATOMIC_FILE_MARK) == NULL;
}

/* An old file that stepped aside. */
static bool is_aside(const char *name)
{
    const char *mark = strstr(name, ASIDE);
    return shard_owns_name(name) && mark != NULL && mark[strlen(ASIDE)] == '\0';
}

static int step_aside(const char *path)
{
    char aside[NAMES_MAX_PATH + sizeof ASIDE];
    snprintf(aside, sizeof aside, "%s" ASIDE, path);
    return rename(path, aside);
}

static int come_back(const char *aside)
{
    char path[NAMES_MAX_PATH];
    snprintf(path, sizeof path, "%.*s", (int)(strlen(aside) - strlen(ASIDE)), aside);
    return rename(aside, path);
}

enum status out_folder_prepare(struct out_folder *f, const char *path, bool force,
                               struct error *err)
{
    int64_t others = 0;
    f->path = path;
    TRY(make_folders(path, &f->created, err));
    DIR *d = NULL;
    TRY(open_folder(path, &d, err));
    enum status status = sweep(d, path, force ? is_left_over : is_none, unlink, &others, err);
    closedir(d);
    TRY(status);
    if (others > 0 && !force)
        return error_set(
            err, STATUS_CANTCREATE,
            "%s: not empty; choose another folder, or --force to replace vocab.txt and "
            "the shards in it",
            path);
    return STATUS_OK;
}

/* All files of the run take their final names, the vocabulary last. */
static enum status place(struct shard_writer *const *writers, int count, struct atomic_file **vocab,
                         struct error *err)
{
    for (int i = 0; i < count; i++)
        if (writers[i] != NULL)
            TRY(shard_writer_commit(writers[i], err));
    return atomic_file_commit(vocab, err);
}

/* The old files, in folder `d`, make room for the new ones, and come back if those cannot come. */
static enum status replace(const struct out_folder *f, DIR *d, struct shard_writer *const *writers,
                           int count, struct atomic_file **vocab, const char *path,
                           struct error *err)
{
    int64_t others;
    struct error ignored; /* the first failure is the one to report */
    /* The old vocabulary goes first and the new one comes last: between them the folder is seen to
     * be incomplete. */
    if (step_aside(path) != 0 && errno != ENOENT)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot replace: %s", path, strerror(errno));
    enum status status = sweep(d, f->path, is_final, step_aside, &others, err);
    if (status == STATUS_OK) {
        status = place(writers, count, vocab, err);
        /* with the vocabulary in its place all is there, whatever failed after that */
        if (status == STATUS_OK || access(path, F_OK) == 0) {
            enum status swept =
                sweep(d, f->path, is_aside, unlink, &others, status == STATUS_OK ? err : &ignored);
            return status == STATUS_OK ? swept : status;
        }
        for (int i = 0; i < count; i++)
            if (writers[i] != NULL)
                shard_writer_remove(writers[i]);
    }
    (void)sweep(d, f->path, is_aside, come_back, &others, &ignored);
    return status;
}

enum status out_folder_commit(struct out_folder *f, struct shard_writer *const *writers, int count,
                              const struct vocab *vocab, struct error *err)
{
    char path[NAMES_MAX_PATH];
    struct atomic_file *file = NULL;
    enum status status;
    size_t size;
    DIR *d = NULL;
    const char *text = vocab_text(vocab, &size);
    snprintf(path, sizeof path, "%s/vocab.txt", f->path);
    TRY_OUT(atomic_file_create(&file, path, err));
    TRY_OUT(atomic_file_write(file, text, size, err));
    TRY_OUT(atomic_file_sync(file, err));
    TRY_OUT(open_folder(f->path, &d, err));
    TRY_OUT(replace(f, d, writers, count, &file, path, err));
out:
    atomic_file_abort(&file);
    if (d != NULL)
        closedir(d);
    return status;
}

void out_folder_abandon(struct out_folder *f)
{
    if (f->created)
        rmdir(f->path);
}
