/* Reads files one after the other, unpacks and checks them, and writes them to a spool. */
#include "data/text_gather.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { GATHER_BUFFER = 1 << 18, CHARACTER = 4 /* bytes of one at most */ };

/* A text on its way into the spool. */
struct gather {
    struct text_spool spool;
    char *buffer; /* owns [GATHER_BUFFER] */
    bool words;
    bool line_open; /* the last byte was no newline */
};

/* One of its files. */
struct input {
    const char *name;
    int fd;
    gzFile gz;            /* NULL unless it is unpacked */
    int64_t offset, line; /* of what is read next */
    int64_t least;        /* bytes that a plain file has, or 0 */
};

static bool is_standard_input(const char *path)
{
    return strcmp(path, "-") == 0;
}

static bool is_compressed(const char *path)
{
    size_t n = strlen(path);
    return n > 3 && strcmp(path + n - 3, ".gz") == 0;
}

bool text_gather_needed(const struct text_files *files, bool again)
{
    struct stat st;
    const char *path = files->path[0];
    if (files->count > 1 || is_standard_input(path) || is_compressed(path))
        return true;
    return again && stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode);
}

static enum status open_input(struct input *in, const char *path, struct error *err)
{
    struct stat st;
    bool standard = is_standard_input(path);
    *in = (struct input){.name = standard ? "standard input" : path, .line = 1};
    in->fd = standard ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC);
    if (in->fd < 0 || fstat(in->fd, &st) != 0)
        return error_set(err, STATUS_NOINPUT, "%s: cannot open: %s", in->name, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return error_set(err, STATUS_NOINPUT, "%s: a folder, not a text", in->name);
    if (standard || !is_compressed(path)) {
        in->least = S_ISREG(st.st_mode) && !standard ? st.st_size : 0;
        return STATUS_OK;
    }
    in->gz = gzdopen(in->fd, "rb");
    if (in->gz == NULL)
        return error_set(err, STATUS_NOMEM, "%s: no memory to unpack it", in->name);
    (void)gzbuffer(in->gz, GATHER_BUFFER);
    return STATUS_OK;
}

static void close_input(struct input *in)
{
    if (in->gz != NULL)
        gzclose(in->gz); /* closes the descriptor too */
    else if (in->fd >= 0)
        close(in->fd);
}

/* Reads at most `capacity` bytes. *size is 0 only at the end. */
static enum status read_input(struct input *in, char *to, size_t capacity, size_t *size,
                              struct error *err)
{
    ssize_t n;
    do
        n = in->gz != NULL ? gzread(in->gz, to, (unsigned)capacity) : read(in->fd, to, capacity);
    while (n < 0 && in->gz == NULL && errno == EINTR);
    int code = Z_OK;
    const char *why = in->gz != NULL ? gzerror(in->gz, &code) : strerror(errno);
    if (n < 0 && (in->gz == NULL || code == Z_ERRNO))
        return error_set(err, STATUS_IO, "%s: cannot read at byte %lld: %s", in->name,
                         (long long)in->offset, in->gz == NULL ? why : strerror(errno));
    /* A file that ends within its packed text gives what there is, and this error. */
    if (n < 0 || (n == 0 && code != Z_OK && code != Z_STREAM_END))
        return error_set(err, STATUS_DATA, "%s: damaged or cut short: zlib says \"%s\"", in->name,
                         why);
    *size = (size_t)n;
    return STATUS_OK;
}

/* Takes the bytes of buffer[size] that are whole characters. *kept is what remains for later. */
static enum status check_text(struct input *in, const char *text, size_t size, bool end,
                              size_t *kept, struct error *err)
{
    size_t bad = utf8_check(text, size);
    *kept = size - bad;
    bool cut = !end && *kept > 0 && *kept < CHARACTER && (unsigned char)text[bad] >= 0xC2;
    for (size_t i = 0; i < bad; i++)
        in->line += text[i] == '\n';
    if (*kept == 0 || cut)
        return STATUS_OK;
    return text_bad_byte(in->name, in->line, (unsigned char)text[bad], in->offset + (int64_t)bad,
                         err);
}

/* Appends buffer[size], which is the start of the input if its offset is 0. */
static enum status append(struct gather *g, const struct input *in, const char *text, size_t size,
                          struct error *err)
{
    static const char mark[] = "\xEF\xBB\xBF";
    const size_t n = sizeof mark - 1;
    if (g->words && in->offset == 0 && g->spool.bytes > 0) {
        if (g->line_open)
            TRY(text_spool_write(&g->spool, "\n", 1, err));
        if (size >= n && memcmp(text, mark, n) == 0) {
            text += n;
            size -= n;
        }
    }
    if (size > 0)
        g->line_open = text[size - 1] != '\n';
    return text_spool_write(&g->spool, text, size, err);
}

static enum status gather_input(struct gather *g, struct input *in, struct error *err)
{
    size_t held = 0;
    for (bool end = false; !end;) {
        size_t n = 0, kept = 0;
        /* Whole buffers keep a mark at the start together, whatever a pipe gives at a time. */
        while (held < GATHER_BUFFER && !end) {
            TRY(read_input(in, g->buffer + held, GATHER_BUFFER - held, &n, err));
            held += n;
            end = n == 0;
        }
        if (g->words)
            TRY(check_text(in, g->buffer, held, end, &kept, err));
        if (held > kept)
            TRY(append(g, in, g->buffer, held - kept, err));
        in->offset += (int64_t)(held - kept);
        memmove(g->buffer, g->buffer + held - kept, kept);
        held = kept;
    }
    if (in->offset < in->least)
        return error_set(err, STATUS_IO, "%s: the file changed while it was read; run again",
                         in->name);
    return STATUS_OK;
}

enum status text_gather(const struct text_files *files, bool words, const char *dir,
                        struct text_source *out, struct error *err)
{
    struct gather g = {.words = words};
    char name[TEXT_NAME_MAX];
    enum status status;
    void *p = NULL;
    *out = (struct text_source){.spool = -1};
    const char *first = is_standard_input(files->path[0]) ? "standard input" : files->path[0];
    if (files->count == 1)
        snprintf(name, sizeof name, "%s", first);
    else
        snprintf(name, sizeof name, "%.400s and %d more", first, files->count - 1);
    TRY_OUT(text_spool_begin(&g.spool, dir, err));
    TRY_OUT(mem_alloc(&p, GATHER_BUFFER, 1, err));
    g.buffer = p;
    for (int i = 0; i < files->count; i++) {
        struct input in;
        status = open_input(&in, files->path[i], err);
        if (status == STATUS_OK)
            status = gather_input(&g, &in, err);
        close_input(&in);
        TRY_OUT(status);
    }
    TRY_OUT(text_spool_finish(&g.spool, name, out, err));
out:
    text_spool_abandon(&g.spool);
    mem_free(g.buffer);
    return status;
}
