/* Opens and reads the texts of a tokenisation, and writes spools. */
#include "data/text_source.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SPOOL_BUFFER = 1 << 18, SPOOL_PATH = 4096 };

struct text_source text_source_file(const char *path)
{
    struct text_source s = {.path = path, .spool = -1};
    snprintf(s.name, sizeof s.name, "%s", path);
    return s;
}

enum status text_source_begin(const struct text_source *s, bool again, int *fd, int64_t *bytes,
                              struct error *err)
{
    struct stat st;
    *fd = s->spool >= 0 ? s->spool : open(s->path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &st) != 0)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", s->name, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return error_set(err, STATUS_NOINPUT, "%s: a folder, not a text", s->name);
    if (!S_ISREG(st.st_mode) && again)
        return error_set(err, STATUS_NOINPUT,
                         "%s: not a plain file, but it has to be read twice: write it to a file "
                         "first",
                         s->name);
    if (s->spool >= 0 && lseek(*fd, 0, SEEK_SET) != 0)
        return error_set(err, STATUS_IO, "%s: cannot read again: %s", s->name, strerror(errno));
    *bytes = S_ISREG(st.st_mode) ? st.st_size : 0;
    (void)posix_fadvise(*fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return STATUS_OK;
}

void text_source_end(const struct text_source *s, int fd)
{
    if (fd >= 0 && fd != s->spool)
        close(fd);
}

enum status text_source_read(const struct text_source *s, int fd, int64_t offset, char *buffer,
                             size_t capacity, size_t *size, bool *end, struct error *err)
{
    *end = false;
    while (*size < capacity && !*end) {
        ssize_t n = read(fd, buffer + *size, capacity - *size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set(err, STATUS_IO, "%s: cannot read at byte %lld: %s", s->name,
                             (long long)(offset + (int64_t)*size), strerror(errno));
        *size += (size_t)n;
        *end = n == 0;
    }
    return STATUS_OK;
}

void text_source_close(struct text_source *s)
{
    if (s->spool >= 0)
        close(s->spool);
    s->spool = -1;
}

enum status text_bad_byte(const char *name, int64_t line, unsigned char byte, int64_t at,
                          struct error *err)
{
    return error_set(err, STATUS_DATA, "%s:%lld: %s 0x%02X (byte %lld of the file); %s", name,
                     (long long)line, byte == '\0' ? "NUL byte" : "invalid UTF-8 byte", byte,
                     (long long)at, "convert the text to UTF-8 (iconv) or read it with --bytes");
}

enum status text_spool_begin(struct text_spool *t, const char *dir, struct error *err)
{
    char path[SPOOL_PATH];
    void *p = NULL;
    *t = (struct text_spool){.fd = -1, .dir = dir};
    TRY(mem_alloc(&p, SPOOL_BUFFER, 1, err));
    t->buffer = p;
    t->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (t->fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
        /* A file system that makes no file without a name. */
        snprintf(path, sizeof path, "%s/.deq-text-XXXXXX", dir);
        t->fd = mkostemp(path, O_CLOEXEC);
        if (t->fd >= 0)
            unlink(path);
    }
    if (t->fd < 0)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot make a temporary file in it: %s", dir,
                         strerror(errno));
    return STATUS_OK;
}

static enum status flush(struct text_spool *t, struct error *err)
{
    for (size_t done = 0; done < t->held;) {
        ssize_t n = write(t->fd, t->buffer + done, t->held - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return error_set(err, STATUS_IO,
                             "%s: cannot write a temporary file after %lld bytes: %s: free space "
                             "there or choose another folder",
                             t->dir, (long long)(t->bytes - (int64_t)(t->held - done)),
                             strerror(n < 0 ? errno : EIO));
        done += (size_t)n;
    }
    t->held = 0;
    return STATUS_OK;
}

enum status text_spool_write(struct text_spool *t, const char *data, size_t size, struct error *err)
{
    while (size > 0) {
        size_t space = SPOOL_BUFFER - t->held, take = size < space ? size : space;
        memcpy(t->buffer + t->held, data, take);
        t->held += take;
        t->bytes += (int64_t)take;
        data += take;
        size -= take;
        if (t->held == SPOOL_BUFFER)
            TRY(flush(t, err));
    }
    return STATUS_OK;
}

enum status text_spool_finish(struct text_spool *t, const char *name, struct text_source *out,
                              struct error *err)
{
    TRY(flush(t, err));
    *out = (struct text_source){.spool = t->fd};
    snprintf(out->name, sizeof out->name, "%s", name);
    t->fd = -1;
    return STATUS_OK;
}

void text_spool_abandon(struct text_spool *t)
{
    if (t->fd >= 0)
        close(t->fd);
    mem_free(t->buffer);
    *t = (struct text_spool){.fd = -1};
}
