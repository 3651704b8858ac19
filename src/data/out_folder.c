/* Prepares the folder of a tokenisation, and replaces the files of an earlier one. */
#include "data/out_folder.h"

#include "base/atomic_file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAMES_MAX_PATH = 4096 + 288 };

/* Ends the name that an old file has until the new ones are in place. */
#define ASIDE ATOMIC_FILE_MARK "old"

/* Makes a folder and its parents. *created says whether the last folder is new. */
static enum status make_folders(const char *path, bool *created, struct error *err)
{
    char *part = NULL;
    enum status status = STATUS_OK;
    *created = false;
    TRY(mem_strdup(&part, path, err));
    for (size_t i = 1, n = strlen(path); i <= n; i++) {
        bool ends = part[i] == '/' || part[i] == '\0';
        if (!ends || part[i - 1] == '/') /* a trailing slash names no folder */
            continue;
        part[i] = '\0';
        *created = mkdir(part, 0777) == 0;
        /* mkdir of a parent that exists may fail with EROFS or EACCES in place of EEXIST. */
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

/* Calls act(path) for every entry of the folder whose name `choose` accepts. *others counts the
 * rest. */
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

/* Accepts the files of this or an earlier run that have their final names. */
static bool is_final(const char *name)
{
    return shard_owns_name(name) && strstr(name, ATOMIC_FILE_MARK) == NULL;
}

/* Accepts the old files that move_aside renamed. */
static bool is_aside(const char *name)
{
    const char *mark = strstr(name, ASIDE);
    return shard_owns_name(name) && mark != NULL && mark[strlen(ASIDE)] == '\0';
}

static int move_aside(const char *path)
{
    char aside[NAMES_MAX_PATH + sizeof ASIDE];
    snprintf(aside, sizeof aside, "%s" ASIDE, path);
    return rename(path, aside);
}

static int move_back(const char *aside)
{
    char path[NAMES_MAX_PATH];
    snprintf(path, sizeof path, "%.*s", (int)(strlen(aside) - strlen(ASIDE)), aside);
    return rename(aside, path);
}

/* Accepts the temporary files of a process of this machine that has ended. A process with the
 * number of this one is an earlier one too, since this one has made none yet. */
static bool is_of_dead(const char *name)
{
    char *end;
    const char *mark = strstr(name, ATOMIC_FILE_MARK);
    if (!shard_owns_name(name) || mark == NULL)
        return false;
    long pid = strtol(mark + strlen(ATOMIC_FILE_MARK), &end, 10);
    if (*end != '-' || pid <= 0 || pid > INT32_MAX)
        return false;
    return pid == getpid() || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

/* Locks the folder. A file system that has no locks leaves f->lock at -1. */
static enum status lock_folder(struct out_folder *f, struct error *err)
{
    f->lock = open(f->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->lock < 0 || flock(f->lock, LOCK_EX | LOCK_NB) == 0)
        return STATUS_OK;
    bool busy = errno == EWOULDBLOCK;
    close(f->lock);
    f->lock = -1;
    if (!busy)
        return STATUS_OK;
    return error_set(err, STATUS_CANTCREATE,
                     "%s: another deq tokenize is at work there; wait for it or choose another "
                     "folder",
                     f->path);
}

enum status out_folder_prepare(struct out_folder *f, const char *path, bool force,
                               struct error *err)
{
    int64_t others = 0;
    *f = (struct out_folder){.path = path, .lock = -1};
    TRY(make_folders(path, &f->created, err));
    TRY(lock_folder(f, err));
    DIR *d = NULL;
    TRY(open_folder(path, &d, err));
    /* Without a lock another machine may be at work, whose processes are not known here. */
    bool (*unwanted)(const char *name) = force ? is_left_over : f->lock >= 0 ? is_of_dead : is_none;
    enum status status = sweep(d, path, unwanted, unlink, &others, err);
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

/* What a run has written under temporary names. */
struct new_files {
    struct shard_writer *const *writers; /* borrows [count], entries may be NULL */
    int count;
    struct atomic_file *model; /* owns the tokenizer of subwords, NULL without, and once placed */
    struct atomic_file *vocab; /* owns, NULL once it has its final name */
    const char *vocab_path;    /* borrows */
    const char *model_path;    /* borrows */
};

/* Gives all new files their final names, the vocabulary last. */
static enum status place(struct new_files *files, struct error *err)
{
    for (int i = 0; i < files->count; i++)
        if (files->writers[i] != NULL)
            TRY(shard_writer_commit(files->writers[i], err));
    if (files->model != NULL)
        TRY(atomic_file_commit(&files->model, err));
    return atomic_file_commit(&files->vocab, err);
}

/* Writes a file of the folder, which gets its name later. */
static enum status write_file(struct atomic_file **out, const char *path, const void *bytes,
                              size_t size, struct error *err)
{
    TRY(atomic_file_create(out, path, err));
    TRY(atomic_file_write(*out, bytes, size, err));
    return atomic_file_sync(*out, err);
}

/* Moves the old files of folder `d` aside, places the new ones and removes the old ones. If the new
 * ones cannot be placed, the old ones get their names back. */
static enum status replace(const struct out_folder *f, DIR *d, struct new_files *files,
                           struct error *err)
{
    int64_t others;
    struct error ignored; /* the first failure is the one to report */
    const char *vocab = files->vocab_path;
    /* The old vocabulary goes first and the new one comes last, so that the folder is seen to be
     * incomplete in between. */
    if (move_aside(vocab) != 0 && errno != ENOENT)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot replace: %s", vocab, strerror(errno));
    enum status status = sweep(d, f->path, is_final, move_aside, &others, err);
    if (status == STATUS_OK) {
        status = place(files, err);
        /* Once the vocabulary is in place the folder is complete, whatever failed after that. */
        if (status == STATUS_OK || access(vocab, F_OK) == 0) {
            enum status swept =
                sweep(d, f->path, is_aside, unlink, &others, status == STATUS_OK ? err : &ignored);
            return status == STATUS_OK ? swept : status;
        }
        for (int i = 0; i < files->count; i++)
            if (files->writers[i] != NULL)
                shard_writer_remove(files->writers[i]);
        unlink(files->model_path);
    }
    (void)sweep(d, f->path, is_aside, move_back, &others, &ignored);
    return status;
}

enum status out_folder_commit(struct out_folder *f, struct shard_writer *const *writers, int count,
                              const struct vocab *vocab, struct error *err)
{
    char path[NAMES_MAX_PATH], model_path[NAMES_MAX_PATH];
    struct new_files files = {
        .writers = writers, .count = count, .vocab_path = path, .model_path = model_path};
    enum status status;
    size_t size;
    DIR *d = NULL;
    const char *text = vocab_text(vocab, &size);
    snprintf(path, sizeof path, "%s/vocab.txt", f->path);
    snprintf(model_path, sizeof model_path, "%s/" VOCAB_TOKENIZER, f->path);
    TRY_OUT(write_file(&files.vocab, path, text, size, err));
    if (vocab_subwords(vocab) != NULL) {
        const void *model = subwords_model(vocab_subwords(vocab), &size);
        TRY_OUT(write_file(&files.model, model_path, model, size, err));
    }
    TRY_OUT(open_folder(f->path, &d, err));
    TRY_OUT(replace(f, d, &files, err));
out:
    atomic_file_abort(&files.vocab);
    atomic_file_abort(&files.model);
    if (d != NULL)
        closedir(d);
    return status;
}

void out_folder_close(struct out_folder *f, bool failed)
{
    if (failed && f->created)
        rmdir(f->path);
    if (f->lock >= 0)
        close(f->lock);
    f->lock = -1;
}
