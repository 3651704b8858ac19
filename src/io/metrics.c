#include "io/metrics.h"

#include "base/json.h"
#include "base/mem.h"
#include "io/atomic_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct metrics {
    char *path; /* owns */
    int fd;
    struct metrics_found found;
    char *line; /* owns: [room] the line being written */
    size_t room;
};

enum verdict { KEEP, LATER, UNREADABLE };

/* Whether line[len], without its newline, stays in the log. */
static enum status judge(const char *line, size_t len, int64_t last_step, enum verdict *verdict,
                         struct error *err)
{
    struct json *doc = NULL;
    int64_t step = 0;
    *verdict = UNREADABLE;
    if (len == 0 || len > METRICS_LINE_MAX)
        return STATUS_OK;
    enum status status = json_parse(&doc, line, len, "line", STATUS_DATA, err);
    if (status == STATUS_DATA)
        return STATUS_OK;
    TRY(status);
    const struct cJSON *root = json_root(doc), *member = json_get(root, "step");
    if (json_kind(root) == JSON_OBJECT) {
        if (member == NULL)
            *verdict = KEEP;
        else if (json_int(doc, member, &step, err) == STATUS_OK)
            *verdict = step > last_step ? LATER : KEEP;
    }
    json_free(doc);
    return STATUS_OK;
}

/* Reading a log line by line, in bounded memory: of a line that is too long only the first bytes
 * are held. */
struct lines {
    FILE *file; /* owns */
    char *text; /* owns: [longest + 2] */
    size_t longest;
    size_t len;    /* without the newline; longest + 1 if too long */
    bool complete; /* the line ended with a newline */
};

/* Reads the next line; false at the end of the file or after an error. */
static bool next_line(struct lines *in)
{
    int c = EOF;
    in->len = 0;
    in->complete = false;
    while ((c = getc_unlocked(in->file)) != EOF && c != '\n')
        if (in->len <= in->longest)
            in->text[in->len++] = (char)c;
    in->complete = c == '\n';
    return in->complete || in->len > 0;
}

/* Reads the log once. With `out` the lines that stay are copied there; without, they are only
 * counted. *whole tells whether all stay and the last one ends with a newline. */
static enum status sift(struct metrics *m, struct lines *in, int64_t last_step,
                        struct atomic_file *out, bool *whole, struct error *err)
{
    enum verdict verdict;
    *whole = true;
    m->found = (struct metrics_found){0};
    rewind(in->file);
    while (next_line(in)) {
        TRY(judge(in->text, in->len, last_step, &verdict, err));
        *whole &= verdict == KEEP && in->complete;
        m->found.kept += verdict == KEEP;
        m->found.later += verdict == LATER;
        m->found.unreadable += verdict == UNREADABLE;
        if (out != NULL && verdict == KEEP) {
            in->text[in->len] = '\n';
            TRY(atomic_file_write(out, in->text, in->len + 1, err));
        }
    }
    if (ferror(in->file))
        return error_set(err, STATUS_IO, "%s: cannot read: %s", m->path, strerror(errno));
    return STATUS_OK;
}

/* How long a line can be: not longer than the file. */
static enum status measure(const struct metrics *m, struct lines *in, struct error *err)
{
    struct stat st;
    if (fstat(fileno(in->file), &st) != 0)
        return error_set(err, STATUS_IO, "%s: cannot read: %s", m->path, strerror(errno));
    in->longest = st.st_size < METRICS_LINE_MAX ? (size_t)st.st_size : METRICS_LINE_MAX;
    return STATUS_OK;
}

/* Brings the log back to `last_step`. No log is a log without lines. */
static enum status cut_back(struct metrics *m, int64_t last_step, struct error *err)
{
    struct lines in = {0};
    struct atomic_file *out = NULL;
    enum status status = STATUS_OK;
    void *p = NULL;
    bool whole = false;
    in.file = fopen(m->path, "re");
    if (in.file == NULL && errno == ENOENT)
        return STATUS_OK;
    if (in.file == NULL)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot open: %s", m->path, strerror(errno));
    TRY_OUT(measure(m, &in, err));
    TRY_OUT(mem_alloc(&p, in.longest + 2, 1, err));
    in.text = p;
    TRY_OUT(sift(m, &in, last_step, NULL, &whole, err));
    if (whole)
        goto out;
    TRY_OUT(atomic_file_create(&out, m->path, err));
    TRY_OUT(sift(m, &in, last_step, out, &whole, err));
    TRY_OUT(atomic_file_commit(&out, err));
out:
    atomic_file_abort(&out);
    mem_free(in.text);
    fclose(in.file);
    return status;
}

enum status metrics_open_append(struct metrics **out, const char *path, int64_t last_step,
                                struct error *err)
{
    *out = NULL;
    enum status status;
    void *p = NULL;
    TRY(mem_alloc(&p, 1, sizeof(struct metrics), err));
    struct metrics *m = p;
    m->fd = -1;
    TRY_OUT(mem_strdup(&m->path, path, err));
    TRY_OUT(cut_back(m, last_step, err));
    m->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (m->fd < 0) {
        status = error_set(err, STATUS_CANTCREATE, "%s: cannot open: %s%s", path, strerror(errno),
                           errno == ENOENT ? "; make its folder first" : "");
        goto out;
    }
    *out = m;
    return STATUS_OK;
out:
    metrics_close(m);
    return status;
}

void metrics_close(struct metrics *m)
{
    if (m == NULL)
        return;
    if (m->fd >= 0)
        close(m->fd);
    mem_free(m->line);
    mem_free(m->path);
    mem_free(m);
}

struct metrics_found metrics_found(const struct metrics *m)
{
    return m->found;
}

enum status metrics_write(struct metrics *m, const char *object, struct error *err)
{
    size_t len = strlen(object), done = 0;
    assert(len > 1 && len <= METRICS_LINE_MAX && object[0] == '{' && strchr(object, '\n') == NULL);
    if (m->room < len + 1) {
        void *p = m->line;
        TRY(mem_grow(&p, 0, 2 * (len + 1), 1, err));
        m->line = p;
        m->room = 2 * (len + 1);
    }
    memcpy(m->line, object, len);
    m->line[len] = '\n';
    while (done < len + 1) {
        ssize_t n = write(m->fd, m->line + done, len + 1 - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int code = n < 0 ? errno : EIO;
            struct stat st;
            /* Half a line would spoil the next one too. */
            if (done > 0 && fstat(m->fd, &st) == 0 && st.st_size >= (off_t)done)
                (void)!ftruncate(m->fd, st.st_size - (off_t)done);
            return error_set(err, STATUS_IO, "%s: cannot write: %s%s", m->path, strerror(code),
                             code == ENOSPC || code == EDQUOT || code == EFBIG
                                 ? "; free space there and run the same command again"
                                 : "");
        }
        done += (size_t)n;
    }
    return STATUS_OK;
}

enum status metrics_sync(struct metrics *m, struct error *err)
{
    /* A pipe or a terminal has nothing to force and says EINVAL. */
    if (fsync(m->fd) != 0 && errno != EINVAL)
        return error_set(err, STATUS_IO, "%s: cannot force to disk: %s", m->path, strerror(errno));
    return STATUS_OK;
}
