/* A scratch folder for a test that works with files. It is entered before the test and removed
 * after it. */
#ifndef DEQ_TESTS_BASE_SCRATCH_H
#define DEQ_TESTS_BASE_SCRATCH_H

#include <dirent.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A set-up of cmocka. *state becomes the folder's absolute path. */
static inline int scratch_enter(void **state)
{
    char *name = strdup("/tmp/deq-test-XXXXXX");
    *state = name;
    return name == NULL || mkdtemp(name) == NULL || chdir(name) != 0;
}

static inline int scratch_leave(void **state)
{
    char line[256];
    snprintf(line, sizeof line, "rm -rf '%s'", (char *)*state);
    free(*state);
    return chdir("/") != 0 || system(line) != 0;
}

static inline void scratch_write(const char *path, const void *data, size_t size)
{
    unlink(path); /* a rewritten file is forced to disk by some file systems, which is slow */
    FILE *f = fopen(path, "wb");
    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
}

/* The whole file and a NUL behind it. The caller frees it with free. */
static inline char *scratch_read(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        abort();
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    char *data = malloc(*size + 1);
    if (data == NULL || fread(data, 1, *size, f) != *size)
        abort();
    data[*size] = '\0';
    fclose(f);
    return data;
}

/* The number of entries of a folder without "." and "..", or -1 if there is no such folder. */
static inline int scratch_entries(const char *folder)
{
    DIR *d = opendir(folder);
    int n = -2;
    if (d == NULL)
        return -1;
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

#endif
