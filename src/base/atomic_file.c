/* Temporary files that are renamed when they are complete. */
#include "base/atomic_file.h"

#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Dirty bytes after which the kernel is asked to start writing. Otherwise a large file would wait
 * in memory until fsync, and the disk would idle while the content is computed. */
enum { WRITEBACK_BYTES = 8 << 20, NAME_TRIES = 1000 };
/* Size and alignment, in memory and file, of what is written past the page cache. A page suits
 * every disk. */
enum { BLOCK_BYTES = 1 << 20, BLOCK_ALIGN = 4096 };

struct atomic_file {
    char *path; /* owns, the final name */
    char *temp; /* owns, the temporary name */
    int fd;     /* -1 while suspended */
    bool dirty; /* bytes may not be on disk yet */
    int64_t size;
    int64_t flushed; /* the kernel was asked to write the bytes before this offset */
    char *block;     /* owns, what a stream collects (see block_start), or NULL without a stream */
    size_t held;     /* bytes in the block, the last ones of the file, not written yet */
    bool direct;     /* writes go past the page cache */
};

/* Reports that a write or fsync at `offset` failed with the errno `code`. */
static enum status write_error(const struct atomic_file *f, int code, int64_t offset,
                               struct error *err)
{
    if (code == ENOSPC || code == EDQUOT || code == EFBIG)
        return error_set(err, STATUS_IO,
                         "%s: %s after %lld bytes: free space there or choose another folder",
                         f->path,
                         code == ENOSPC   ? "disk full"
                         : code == EDQUOT ? "disk quota used up"
                                          : "file size limit reached",
                         (long long)offset);
    return error_set(err, STATUS_IO, "%s: cannot write: %s", f->path, strerror(code));
}

static enum status ensure_open(struct atomic_file *f, struct error *err)
{
    if (f->fd >= 0)
        return STATUS_OK;
    f->fd = open(f->temp, O_WRONLY | O_CLOEXEC);
    if (f->fd < 0)
        return error_set(err, STATUS_IO, "%s: cannot open again: %s", f->temp, strerror(errno));
    return STATUS_OK;
}

static void free_file(struct atomic_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    mem_free(f->block);
    mem_free(f->path);
    mem_free(f->temp);
    mem_free(f);
}

/* Refuses to replace what is no file. The rename at the end would take the place of a device, and
 * whoever waits at a pipe would wait on. A link is replaced, and what it names stays as it is. */
static enum status check_target(const char *path, struct error *err)
{
    struct stat st;
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
        return STATUS_OK;
    return error_set(err, STATUS_CANTCREATE, "%s: is %s, not a file: choose another name", path,
                     S_ISFIFO(st.st_mode) ? "a pipe" : "a device");
}

enum status atomic_file_create(struct atomic_file **out, const char *path, struct error *err)
{
    *out = NULL;
    enum status status;
    void *p = NULL;
    struct atomic_file *f = NULL;
    TRY(check_target(path, err));
    TRY(mem_alloc(&p, 1, sizeof *f, err));
    f = p;
    f->fd = -1;
    TRY_OUT(mem_strdup(&f->path, path, err));
    size_t capacity = strlen(path) + sizeof ATOMIC_FILE_MARK + 32;
    TRY_OUT(mem_alloc(&p, capacity, 1, err));
    f->temp = p;
    /* A fixed name would let two writers share one file, so the first free name is taken. */
    for (int i = 0; i < NAME_TRIES && f->fd < 0; i++) {
        snprintf(f->temp, capacity, "%s" ATOMIC_FILE_MARK "%ld-%d", path, (long)getpid(), i);
        f->fd = open(f->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (f->fd < 0 && errno != EEXIST)
            break;
    }
    if (f->fd < 0) {
        int code = errno;
        status = error_set(err, STATUS_CANTCREATE, "%s: cannot create: %s%s", path, strerror(code),
                           code == ENOENT   ? "; make its folder first"
                           : code == EACCES ? "; choose a folder you may write to"
                           : code == EEXIST ? "; remove the old " ATOMIC_FILE_MARK "* files there"
                                            : "");
        goto out;
    }
    *out = f;
    return STATUS_OK;
out:
    free_file(f);
    return status;
}

/* Makes writes go past the page cache, or through it again. File systems that cannot do the former
 * stay with the cache. */
static void bypass_cache(struct atomic_file *f, bool bypass)
{
    int flags = f->fd >= 0 ? fcntl(f->fd, F_GETFL) : -1;
    if (flags >= 0)
        f->direct =
            fcntl(f->fd, F_SETFL, bypass ? flags | O_DIRECT : flags & ~O_DIRECT) == 0 && bypass;
}

static enum status put(struct atomic_file *f, const char *from, size_t size, int64_t offset,
                       struct error *err)
{
    TRY(ensure_open(f, err));
    f->dirty = true;
    while (size > 0) {
        ssize_t n = pwrite(f->fd, from, size, offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && f->direct) {
            bypass_cache(f, false); /* this file system wants another alignment */
            continue;
        }
        if (n <= 0)
            return write_error(f, n < 0 ? errno : EIO, offset, err);
        from += n;
        size -= (size_t)n;
        offset += n;
    }
    return STATUS_OK;
}

/* The first aligned byte of the block, from which on it holds BLOCK_BYTES. */
static char *block_start(const struct atomic_file *f)
{
    uintptr_t at = (uintptr_t)f->block;
    return f->block + (BLOCK_ALIGN - at % BLOCK_ALIGN) % BLOCK_ALIGN;
}

static enum status put_block(struct atomic_file *f, struct error *err)
{
    enum status status = put(f, block_start(f), f->held, f->size - (int64_t)f->held, err);
    f->held = 0;
    return status;
}

/* Writes what is held and ends the stream. The rest is no whole block and goes through the cache.
 */
static enum status end_stream(struct atomic_file *f, struct error *err)
{
    enum status status = STATUS_OK;
    if (f->block == NULL)
        return STATUS_OK;
    bypass_cache(f, false);
    if (f->held > 0)
        status = put_block(f, err);
    mem_free(f->block);
    f->block = NULL;
    return status;
}

enum status atomic_file_stream(struct atomic_file *f, struct error *err)
{
    void *p = NULL;
    assert(f->size == 0 && f->fd >= 0);
    TRY(mem_alloc(&p, BLOCK_BYTES + BLOCK_ALIGN, 1, err));
    f->block = p;
    bypass_cache(f, true);
    return STATUS_OK;
}

static enum status write_stream(struct atomic_file *f, const char *from, size_t size,
                                struct error *err)
{
    while (size > 0) {
        size_t space = BLOCK_BYTES - f->held, take = size < space ? size : space;
        memcpy(block_start(f) + f->held, from, take);
        f->held += take;
        f->size += (int64_t)take;
        from += take;
        size -= take;
        if (f->held == BLOCK_BYTES)
            TRY(put_block(f, err));
    }
    return STATUS_OK;
}

enum status atomic_file_write(struct atomic_file *f, const void *data, size_t size,
                              struct error *err)
{
    if (f->block != NULL)
        return write_stream(f, data, size, err);
    TRY(put(f, data, size, f->size, err));
    f->size += (int64_t)size;
    if (f->size - f->flushed >= WRITEBACK_BYTES) {
        /* This is a hint. Where it is not supported, fsync does all the work. */
        (void)sync_file_range(f->fd, f->flushed, f->size - f->flushed, SYNC_FILE_RANGE_WRITE);
        f->flushed = f->size;
    }
    return STATUS_OK;
}

enum status atomic_file_rewrite(struct atomic_file *f, const void *data, size_t size,
                                int64_t offset, struct error *err)
{
    assert(offset >= 0 && (int64_t)size <= f->size - offset);
    TRY(end_stream(f, err));
    return put(f, data, size, offset, err);
}

enum status atomic_file_suspend(struct atomic_file *f, struct error *err)
{
    if (f->fd < 0)
        return STATUS_OK;
    TRY(end_stream(f, err));
    int result = close(f->fd);
    f->fd = -1;
    /* Network file systems report late write failures here. */
    if (result != 0 && errno != EINTR)
        return write_error(f, errno, f->size, err);
    return STATUS_OK;
}

enum status atomic_file_sync(struct atomic_file *f, struct error *err)
{
    TRY(end_stream(f, err));
    if (!f->dirty)
        return STATUS_OK;
    TRY(ensure_open(f, err));
    if (fsync(f->fd) != 0)
        return write_error(f, errno, f->size, err);
    f->dirty = false;
    return STATUS_OK;
}

static enum status open_folder(const char *folder, int *fd, struct error *err)
{
    *fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return error_set(err, STATUS_IO, "%s: cannot open the folder: %s", folder, strerror(errno));
    return STATUS_OK;
}

/* Forces the folder `fd` to disk. `name` stands in the message. */
static enum status sync_folder(int fd, const char *name, struct error *err)
{
    /* Some file systems cannot sync a folder and fail with EINVAL. Nothing more can be done there.
     */
    if (fsync(fd) != 0 && errno != EINVAL)
        return error_set(err, STATUS_IO, "%s: cannot force its folder to disk: %s", name,
                         strerror(errno));
    return STATUS_OK;
}

/* Opens the folder a file lies in. */
static enum status open_folder_of(const char *path, int *fd, struct error *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = NULL;
    TRY(mem_strdup(&folder, slash == NULL ? "." : path, err));
    if (slash != NULL)
        folder[slash == path ? 1 : slash - path] = '\0'; /* the root keeps its slash */
    enum status status = open_folder(folder, fd, err);
    mem_free(folder);
    return status;
}

enum status atomic_file_commit(struct atomic_file **f, struct error *err)
{
    enum status status = STATUS_OK;
    int folder;
    TRY(atomic_file_sync(*f, err));
    TRY(atomic_file_suspend(*f, err));
    /* The folder is opened before the file gets its name, since opening can fail for many reasons.
     */
    TRY(open_folder_of((*f)->path, &folder, err));
    if (rename((*f)->temp, (*f)->path) != 0)
        status = error_set(err, STATUS_CANTCREATE, "%s: cannot replace: %s", (*f)->path,
                           strerror(errno));
    else
        status = sync_folder(folder, (*f)->path, err);
    close(folder);
    if (status != STATUS_OK)
        return status;
    free_file(*f);
    *f = NULL;
    return STATUS_OK;
}

void atomic_file_abort(struct atomic_file **f)
{
    if (*f == NULL)
        return;
    unlink((*f)->temp);
    free_file(*f);
    *f = NULL;
}

const char *atomic_file_path(const struct atomic_file *f)
{
    return f->path;
}

int64_t atomic_file_size(const struct atomic_file *f)
{
    return f->size;
}

enum status atomic_file_put(const char *path, const void *data, size_t size, struct error *err)
{
    struct atomic_file *f = NULL;
    enum status status;
    TRY_OUT(atomic_file_create(&f, path, err));
    TRY_OUT(atomic_file_write(f, data, size, err));
    TRY_OUT(atomic_file_commit(&f, err));
out:
    atomic_file_abort(&f);
    return status;
}

enum status atomic_folder_sync(const char *folder, struct error *err)
{
    int fd;
    TRY(open_folder(folder, &fd, err));
    enum status status = sync_folder(fd, folder, err);
    close(fd);
    return status;
}
