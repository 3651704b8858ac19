/* The log file of a run, its checks and its repair. */
#include "run/metrics.h"

#include "base/atomic_file.h"
#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* --- the check of a line ---------------------------------------------------------------------- */

/* Writes what replaces the brace at the end, with the sum of line[len], which is in front of it. */
static void make_end(char end[LINE_CHECK_BYTES + 2], const char *line, size_t len)
{
    uint32_t sum = (uint32_t)XXH3_64bits(line, len);
    int n = snprintf(end, LINE_CHECK_BYTES + 2, ",\"check\":\"%08x\"}", (unsigned)sum);
    assert(n == LINE_CHECK_BYTES + 1);
    (void)n;
}

size_t line_check_add(char *line, size_t len)
{
    char end[LINE_CHECK_BYTES + 2];
    assert(len > 2 && line[len - 1] == '}');
    make_end(end, line, len - 1);
    memcpy(line + len - 1, end, LINE_CHECK_BYTES + 1);
    return len + LINE_CHECK_BYTES;
}

enum line_check line_check(const char *line, size_t len)
{
    enum { KEY = 10 }; /* bytes of ,"check":" */
    char end[LINE_CHECK_BYTES + 2];
    if (len <= LINE_CHECK_BYTES + 1)
        return LINE_CHECK_NONE;
    size_t rest = len - LINE_CHECK_BYTES - 1;
    make_end(end, line, rest);
    if (memcmp(line + rest, end, LINE_CHECK_BYTES + 1) == 0)
        return LINE_CHECK_RIGHT;
    return memcmp(line + rest, end, KEY) == 0 ? LINE_CHECK_WRONG : LINE_CHECK_NONE;
}

/* --- the log ---------------------------------------------------------------------------------- */

struct metrics {
    char *path; /* owns */
    int fd;
    struct metrics_found found;
    char *line; /* owns [capacity], the line being written */
    size_t capacity;
};

enum verdict { KEEP, KEEP_STEP, LATER, UNREADABLE };

static bool is_evaluation(const struct json *doc)
{
    const struct cJSON *event = json_get(json_root(doc), "event");
    const char *name = NULL;
    struct error ignored;
    return event != NULL && json_string(doc, event, &name, &ignored) == STATUS_OK &&
           strcmp(name, "evaluation") == 0;
}

/* Decides whether line[len], without its newline and with a right check or none, stays in the log.
 */
static enum status judge(const char *line, size_t len, const struct metrics_position *at,
                         enum verdict *verdict, struct error *err)
{
    bool checked = line_check(line, len) == LINE_CHECK_RIGHT;
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
    bool sealable = checked || (len + LINE_CHECK_BYTES <= METRICS_LINE_MAX &&
                                json_get(root, "check") == NULL && json_first(root) != NULL);
    if (json_kind(root) == JSON_OBJECT && sealable) {
        if (member == NULL)
            *verdict = KEEP;
        else if (json_int(doc, member, &step, err) == STATUS_OK)
            *verdict = step > (is_evaluation(doc) ? at->evaluation : at->step) ? LATER : KEEP_STEP;
    }
    json_free(doc);
    return STATUS_OK;
}

/* Reads a log line by line in bounded memory. Of a line that is too long only the first bytes are
 * held. */
struct lines {
    FILE *file; /* owns */
    char *text; /* owns [longest + 2 + LINE_CHECK_BYTES] */
    size_t longest;
    size_t len;    /* without the newline, or longest + 1 if too long */
    bool complete; /* the line ended with a newline */
    bool checked;  /* a line of the log has a right check, so all must have one */
};

/* Reads the next line. Returns false at the end of the file or after an error. */
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

/* Sets in->checked if any line has a right check. */
static void find_check(struct lines *in)
{
    rewind(in->file);
    while (!in->checked && next_line(in))
        in->checked = line_check(in->text, in->len) == LINE_CHECK_RIGHT;
}

/* Copies a line that stays to `out`, and adds a check if it has none. */
static enum status copy_line(struct lines *in, struct atomic_file *out, struct error *err)
{
    size_t len = in->len;
    if (!in->checked) {
        while (in->text[len - 1] != '}') /* skip spaces behind the object */
            len--;
        len = line_check_add(in->text, len);
    }
    in->text[len] = '\n';
    return atomic_file_write(out, in->text, len + 1, err);
}

/* Reads the log once and counts its lines. Lines that stay are copied to `out` unless that is NULL.
 * *whole says whether all stay as they are and the last one ends with a newline. */
static enum status sift(struct metrics *m, struct lines *in, const struct metrics_position *at,
                        struct atomic_file *out, bool *whole, struct error *err)
{
    enum verdict verdict;
    *whole = true;
    m->found = (struct metrics_found){0};
    rewind(in->file);
    while (next_line(in)) {
        verdict = UNREADABLE;
        if (line_check(in->text, in->len) == (in->checked ? LINE_CHECK_RIGHT : LINE_CHECK_NONE))
            TRY(judge(in->text, in->len, at, &verdict, err));
        bool keep = verdict == KEEP || verdict == KEEP_STEP;
        *whole &= keep && in->complete && in->checked;
        m->found.kept += keep;
        m->found.with_step += verdict == KEEP_STEP;
        m->found.later += verdict == LATER;
        m->found.unreadable += verdict == UNREADABLE;
        if (out != NULL && keep)
            TRY(copy_line(in, out, err));
    }
    if (ferror(in->file))
        return error_set(err, STATUS_IO, "%s: cannot read: %s", m->path, strerror(errno));
    return STATUS_OK;
}

/* Opens the log as it is. *in->file stays NULL if there is none. *shared says whether it is a link
 * or has other names too, so that a line appended to it would appear in another file. Sets the
 * length of the longest line that is read, which is at most that of the file. */
static enum status open_old(const struct metrics *m, struct lines *in, bool *shared,
                            struct error *err)
{
    struct stat st, link;
    /* Without O_NONBLOCK a pipe of that name would block here. */
    int fd = open(m->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == ENOENT)
        return STATUS_OK;
    in->file = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (in->file == NULL || fstat(fd, &st) != 0 || lstat(m->path, &link) != 0)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot open: %s", m->path, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
        return error_set(err, STATUS_CANTCREATE, "%s: is no plain file: remove it", m->path);
    *shared = S_ISREG(st.st_mode) && (S_ISLNK(link.st_mode) || st.st_nlink > 1);
    in->longest = st.st_size < METRICS_LINE_MAX ? (size_t)st.st_size : METRICS_LINE_MAX;
    return STATUS_OK;
}

/* Cuts the log back to where the run is. A missing log counts as one without lines. */
static enum status cut_back(struct metrics *m, const struct metrics_position *at, struct error *err)
{
    struct lines in = {0};
    struct atomic_file *out = NULL;
    enum status status = STATUS_OK;
    void *p = NULL;
    bool whole = false, shared = false;
    TRY_OUT(open_old(m, &in, &shared, err));
    if (in.file == NULL)
        return STATUS_OK;
    TRY_OUT(mem_alloc(&p, in.longest + 2 + LINE_CHECK_BYTES, 1, err));
    in.text = p;
    find_check(&in);
    TRY_OUT(sift(m, &in, at, NULL, &whole, err));
    if (whole && !shared)
        goto out;
    TRY_OUT(atomic_file_create(&out, m->path, err));
    TRY_OUT(sift(m, &in, at, out, &whole, err));
    TRY_OUT(atomic_file_commit(&out, err));
out:
    atomic_file_abort(&out);
    mem_free(in.text);
    if (in.file != NULL)
        fclose(in.file);
    return status;
}

enum status metrics_open_append(struct metrics **out, const char *path,
                                const struct metrics_position *at, struct error *err)
{
    *out = NULL;
    enum status status;
    void *p = NULL;
    TRY(mem_alloc(&p, 1, sizeof(struct metrics), err));
    struct metrics *m = p;
    m->fd = -1;
    TRY_OUT(mem_strdup(&m->path, path, err));
    TRY_OUT(cut_back(m, at, err));
    if (at->lines > m->found.with_step)
        m->found.missing = at->lines - m->found.with_step;
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
    size_t len = strlen(object), need = len + LINE_CHECK_BYTES + 1, done = 0;
    assert(need <= METRICS_LINE_MAX && object[0] == '{' && strchr(object, '\n') == NULL);
    if (m->capacity < need) {
        void *p = m->line;
        TRY(mem_grow(&p, 0, 2 * need, 1, err));
        m->line = p;
        m->capacity = 2 * need;
    }
    memcpy(m->line, object, len);
    len = line_check_add(m->line, len);
    m->line[len] = '\n';
    while (done < len + 1) {
        ssize_t n = write(m->fd, m->line + done, len + 1 - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int code = n < 0 ? errno : EIO;
            struct stat st;
            /* Half a line would spoil the next one too, so it is removed. */
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
    /* A pipe or a terminal has nothing to force and fails with EINVAL. */
    if (fsync(m->fd) != 0 && errno != EINVAL)
        return error_set(err, STATUS_IO, "%s: cannot force to disk: %s", m->path, strerror(errno));
    return STATUS_OK;
}
