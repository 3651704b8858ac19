/* A driver for fuzz targets where libFuzzer is not: runs the target on every file of the corpus,
 * and on changed copies of them.
 *
 *   fuzz_NAME [-runs=N] [-seed=N] [-seconds=N] [-save=FILE] FILE|FOLDER...
 *
 * N changed copies (default 0), until the time is over; the same seed makes the same ones. Before
 * each run its input is kept, and goes to FILE (default: crash-input) if the run crashes. */
#include "fuzz.h"

#include "base/clock.h"
#include "base/rng.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>

enum { SIZE_MAX_INPUT = 1 << 20, FILES_MAX = 4096 };

/* Absent where a target has none of its own. */
#pragma weak LLVMFuzzerCustomMutator

/* A sanitizer that found something lets us save the input; a refused allocation is an answer. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "abort_on_error=1:allocator_may_return_null=1:max_allocation_size_mb=512";
}
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
    return "halt_on_error=1:abort_on_error=1:print_stacktrace=1";
}

struct input {
    uint8_t *data; /* owns */
    size_t size;
};

static struct input corpus[FILES_MAX];
static int corpus_count;
static uint8_t current[SIZE_MAX_INPUT];
static size_t current_size;
static const char *save = "crash-input";

static struct rng_key key;
static uint64_t drawn;

static uint32_t draw(uint32_t below)
{
    return rng_word(key, drawn++) % below;
}

static void on_crash(int number)
{
    FILE *f = fopen(save, "wb");
    if (f != NULL && fwrite(current, 1, current_size, f) == current_size && fclose(f) == 0)
        fprintf(stderr, "the input is in %s (%zu bytes)\n", save, current_size);
    signal(number, SIG_DFL);
    raise(number);
}

static void flip(uint8_t *data, size_t size)
{
    data[draw((uint32_t)size)] ^= (uint8_t)(1u << draw(8));
}

/* An integer at the edge of something. */
static void put_edge(uint8_t *data, size_t size)
{
    static const int64_t edges[] = {0,         1,          -1,        127,        128,
                                    255,       256,        INT16_MAX, UINT16_MAX, INT32_MAX,
                                    INT32_MIN, UINT32_MAX, INT64_MAX, INT64_MIN};
    size_t width = (size_t)1 << draw(4);
    int64_t value = edges[draw(sizeof edges / sizeof *edges)];
    if (width <= size)
        memcpy(data + draw((uint32_t)(size - width + 1)), &value, width);
}

/* A stretch of the input goes elsewhere in it. */
static void copy_within(uint8_t *data, size_t size)
{
    size_t n = 1 + draw((uint32_t)size);
    size_t from = draw((uint32_t)(size - n + 1)), to = draw((uint32_t)(size - n + 1));
    memmove(data + to, data + from, n);
}

static size_t insert(uint8_t *data, size_t size, size_t max)
{
    size_t at = draw((uint32_t)size + 1), n = 1 + draw(8);
    if (size + n > max)
        return size;
    memmove(data + at + n, data + at, size - at);
    memset(data + at, (int)draw(256), n);
    return size + n;
}

static size_t erase(uint8_t *data, size_t size)
{
    size_t at = draw((uint32_t)size), n = 1 + draw(8);
    n = n < size - at ? n : size - at;
    memmove(data + at, data + at + n, size - at - n);
    return size - n;
}

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max)
{
    if (size == 0)
        return insert(data, size, max);
    switch (draw(8)) {
    case 0:
        return draw((uint32_t)size); /* cut */
    case 1:
        return erase(data, size);
    case 2:
        return insert(data, size, max);
    case 3:
        put_edge(data, size);
        return size;
    case 4:
        copy_within(data, size);
        return size;
    case 5:
        data[draw((uint32_t)size)] = (uint8_t)draw(256);
        return size;
    default:
        flip(data, size);
        return size;
    }
}

static void mutate(void)
{
    const struct input *from = &corpus[draw((uint32_t)corpus_count)];
    memcpy(current, from->data, from->size);
    current_size = from->size;
    for (uint32_t n = 1 + draw(3); n > 0; n--)
        current_size =
            LLVMFuzzerCustomMutator != NULL
                ? LLVMFuzzerCustomMutator(current, current_size, sizeof current, draw(UINT32_MAX))
                : LLVMFuzzerMutate(current, current_size, sizeof current);
}

static void run_current(void)
{
    /* behind a copy of the exact size, a sanitizer sees what reads too far */
    uint8_t *copy = malloc(current_size > 0 ? current_size : 1);
    if (copy == NULL)
        abort();
    memcpy(copy, current, current_size);
    LLVMFuzzerTestOneInput(copy, current_size);
    if (getenv("DEQ_FUZZ_BREAK") != NULL) /* for the test of this driver */
        abort();
    free(copy);
}

static void read_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL || corpus_count == FILES_MAX) {
        fprintf(stderr, "%s: cannot read, or too many files\n", path);
        exit(66);
    }
    struct input *in = &corpus[corpus_count++];
    in->data = malloc(SIZE_MAX_INPUT);
    if (in->data == NULL)
        abort();
    in->size = fread(in->data, 1, SIZE_MAX_INPUT, f);
    fclose(f);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void read_path(const char *path)
{
    struct stat info;
    struct dirent **list;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        read_file(path);
        return;
    }
    int count = scandir(path, &list, visible, by_name); /* in one order on every machine */
    for (int i = 0; i < count; i++) {
        char name[4096];
        snprintf(name, sizeof name, "%s/%s", path, list[i]->d_name);
        read_file(name);
        free(list[i]);
    }
    free(list);
}

int main(int argc, char **argv)
{
    long long runs = 0, done = 0;
    double seconds = 1e9, start = clock_seconds();
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-runs=", 6) == 0)
            runs = atoll(argv[i] + 6);
        else if (strncmp(argv[i], "-seed=", 6) == 0)
            key.seed = strtoull(argv[i] + 6, NULL, 10);
        else if (strncmp(argv[i], "-seconds=", 9) == 0)
            seconds = atof(argv[i] + 9);
        else if (strncmp(argv[i], "-save=", 6) == 0)
            save = argv[i] + 6;
        else
            read_path(argv[i]);
    }
    if (corpus_count == 0) {
        fprintf(stderr, "usage: %s [-runs=N] [-seed=N] [-seconds=N] [-save=FILE] FILE|FOLDER...\n",
                argv[0]);
        return 64;
    }
    signal(SIGABRT, on_crash);
    signal(SIGSEGV, on_crash);
    signal(SIGFPE, on_crash);
    for (int i = 0; i < corpus_count; i++) {
        memcpy(current, corpus[i].data, corpus[i].size);
        current_size = corpus[i].size;
        run_current();
    }
    for (; done < runs && clock_seconds() - start < seconds; done++) {
        mutate();
        run_current();
    }
    printf("%d files of the corpus and %lld changed ones (seed %llu) in %.1f s\n", corpus_count,
           done, (unsigned long long)key.seed, clock_seconds() - start);
    for (int i = 0; i < corpus_count; i++)
        free(corpus[i].data);
    return 0;
}
