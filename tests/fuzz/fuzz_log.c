/* The log of a run that is continued: what is left of any bytes are whole lines, which a second
 * opening leaves as they are. */
#include "fuzz.h"

#include "io/metrics.h"

#include <fcntl.h>

enum { LAST_STEP = 5 };

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
    if (metrics_open_append(&m, path, LAST_STEP, &err) != STATUS_OK)
        abort();
    struct metrics_found found = metrics_found(m);
    metrics_close(m);
    size_t n = get(path, once, sizeof once);
    FUZZ_ASSERT(n <= size + 1);
    FUZZ_ASSERT(n == 0 || once[n - 1] == '\n');
    int64_t lines = 0;
    for (size_t i = 0; i < n; i++)
        lines += once[i] == '\n';
    FUZZ_ASSERT(lines == found.kept);
    if (metrics_open_append(&m, path, LAST_STEP, &err) != STATUS_OK)
        abort();
    found = metrics_found(m);
    FUZZ_ASSERT(found.kept == lines && found.later == 0 && found.unreadable == 0);
    FUZZ_ASSERT(metrics_write(m, "{\"step\":6}", &err) == STATUS_OK);
    metrics_close(m);
    FUZZ_ASSERT(get(path, twice, sizeof twice) == n + 11 && memcmp(once, twice, n) == 0);
    unlink(path);
    return 0;
}
