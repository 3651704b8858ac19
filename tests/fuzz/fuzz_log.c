/* The log of a run that is continued: what is left of any bytes are whole lines with right checks,
 * which a second opening leaves as they are. A report of the log before that is JSON. */
#include "fuzz.h"

#include "base/mem.h"
#include "report/log_read.h"
#include "run/metrics.h"

#include <fcntl.h>

static const struct metrics_position at = {.step = 5, .evaluation = 4};

/* The checks of lines, which no fuzzer could guess, half of the time. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed)
{
    enum { LONGEST = 1000 };
    char line[LONGEST + LINE_CHECK_BYTES];
    size = LLVMFuzzerMutate(data, size, max);
    if (seed % 2 == 0)
        return size;
    for (size_t begin = 0, end; begin < size; begin = end + 1) {
        for (end = begin; end < size && data[end] != '\n';)
            end++;
        size_t len = end - begin;
        if (len <= LINE_CHECK_BYTES + 2 || len > LONGEST ||
            line_check((char *)data + begin, len) != LINE_CHECK_WRONG)
            continue;
        memcpy(line, data + begin, len);
        line[len - LINE_CHECK_BYTES - 1] = '}';
        if (line_check_add(line, len - LINE_CHECK_BYTES) == len)
            memcpy(data + begin, line, len);
    }
    return size;
}

static void put(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd) != 0)
        abort();
}

static size_t get(const char *path, char *to, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, to, room);
    if (n < 0 || close(fd) != 0)
        abort();
    return (size_t)n;
}

/* A report can be made of any log. */
static void report(const char *path)
{
    struct log_history h;
    struct json_writer w;
    struct json *doc;
    struct error err;
    char *text;
    if (log_history_read(&h, path, 2, &err) != STATUS_OK)
        abort();
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    log_history_write(&h, &w, "log");
    json_write_end(&w);
    if (json_write_finish(&w, &text, &err) != STATUS_OK)
        abort();
    FUZZ_ASSERT(json_parse(&doc, text, strlen(text), "report", STATUS_DATA, &err) == STATUS_OK);
    json_free(doc);
    mem_free(text);
    log_history_free(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char once[1 << 20], twice[1 << 20];
    struct metrics *m = NULL;
    struct error err;
    char path[96];
    snprintf(path, sizeof path, "%s/log.jsonl", fuzz_folder());
    if (size >= sizeof once)
        return 0;
    put(path, data, size);
    report(path);
    if (metrics_open_append(&m, path, &at, &err) != STATUS_OK)
        abort();
    struct metrics_found found = metrics_found(m);
    metrics_close(m);
    size_t n = get(path, once, sizeof once);
    FUZZ_ASSERT(n <= size + 1 + LINE_CHECK_BYTES * (size_t)found.kept);
    FUZZ_ASSERT(n == 0 || once[n - 1] == '\n');
    int64_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += once[i] == '\n';
    FUZZ_ASSERT(lines == found.kept);
    if (metrics_open_append(&m, path, &at, &err) != STATUS_OK)
        abort();
    found = metrics_found(m);
    FUZZ_ASSERT(found.kept == lines && found.later == 0 && found.unreadable == 0);
    FUZZ_ASSERT(metrics_write(m, "{\"step\":6}", &err) == STATUS_OK);
    metrics_close(m);
    FUZZ_ASSERT(get(path, twice, sizeof twice) == n + 11 + LINE_CHECK_BYTES &&
                memcmp(once, twice, n) == 0);
    unlink(path);
    return 0;
}
