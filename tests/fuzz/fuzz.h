/* What the fuzz targets share.
 *
 * A target is a file fuzz_NAME.c with LLVMFuzzerTestOneInput: it gives bytes to a reader as a file
 * and aborts if the reader breaks a promise. It is linked with libFuzzer (make fuzz), which looks
 * for bytes that reach new code, or with replay.c (make tests), which replays a corpus and changes
 * it at random. */
#ifndef DEQ_TESTS_FUZZ_FUZZ_H
#define DEQ_TESTS_FUZZ_FUZZ_H

#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
/* Optional in a target: changes data[size], at most to data[max], and repairs checksums, which no
 * fuzzer could guess. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max, unsigned seed);
/* The fuzzer's own change, for a custom one to begin with. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max);

#define FUZZ_ASSERT(condition)                                                      \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

/* A file in memory that holds the bytes: a path to open, valid until the next call. */
static inline const char *fuzz_file(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0) {
        fd = memfd_create("fuzz", MFD_CLOEXEC);
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    }
    if (fd < 0 || ftruncate(fd, (off_t)size) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();
    return path;
}

static char fuzz_folder_path[64];

static inline void fuzz_folder_remove(void)
{
    char line[96];
    snprintf(line, sizeof line, "rm -rf '%s'", fuzz_folder_path);
    if (system(line) != 0)
        fprintf(stderr, "%s: cannot remove\n", fuzz_folder_path);
}

/* A folder for targets that need one, in memory where that is; removed at the end. */
static inline const char *fuzz_folder(void)
{
    if (fuzz_folder_path[0] == '\0') {
        snprintf(fuzz_folder_path, sizeof fuzz_folder_path, "%s/deq-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (mkdtemp(fuzz_folder_path) == NULL || atexit(fuzz_folder_remove) != 0)
            abort();
    }
    return fuzz_folder_path;
}

/* A refusal is one line that names the input, of a status that says the input is at fault. */
static inline void fuzz_refused(const struct error *err, enum status status, enum status want,
                                const char *name)
{
    FUZZ_ASSERT(status == err->status);
    FUZZ_ASSERT(status == want || status == STATUS_NOMEM);
    FUZZ_ASSERT(strlen(err->text) > strlen(name));
    FUZZ_ASSERT(strncmp(err->text, name, strlen(name)) == 0 || status == STATUS_NOMEM);
    for (const char *p = err->text; *p != '\0'; p++)
        FUZZ_ASSERT((unsigned char)*p >= ' ' && *p != 0x7f);
}

#endif
