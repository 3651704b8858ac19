/* Aligned, zeroed allocations. */
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { MEM_ALIGN = 64 };

enum status mem_alloc(void **out, size_t count, size_t size, struct error *err)
{
    *out = NULL;
    if (size != 0 && count > (SIZE_MAX - MEM_ALIGN) / size)
        return error_set(err, STATUS_NOMEM, "out of memory: %zu objects of %zu bytes", count, size);
    size_t bytes = (count * size + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN;
    if (bytes == 0)
        bytes = MEM_ALIGN;
    void *p = NULL;
    if (posix_memalign(&p, MEM_ALIGN, bytes) != 0)
        return error_set(err, STATUS_NOMEM,
                         "out of memory: %zu bytes refused; use a smaller batch, segment or model",
                         bytes);
    memset(p, 0, bytes);
    *out = p;
    return STATUS_OK;
}

enum status mem_grow(void **ptr, size_t old_count, size_t new_count, size_t size, struct error *err)
{
    void *p = NULL;
    TRY(mem_alloc(&p, new_count, size, err));
    size_t keep = old_count < new_count ? old_count : new_count;
    if (keep != 0 && *ptr != NULL)
        memcpy(p, *ptr, keep * size);
    mem_free(*ptr);
    *ptr = p;
    return STATUS_OK;
}

enum status mem_strdup(char **out, const char *text, struct error *err)
{
    size_t n = strlen(text) + 1;
    void *p = NULL;
    TRY(mem_alloc(&p, n, 1, err));
    memcpy(p, text, n);
    *out = p;
    return STATUS_OK;
}

/* Nothing is written to the block that is asked for. */
bool mem_has_room(size_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY)
        return true;
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p != MAP_FAILED && munmap(p, bytes) == 0;
}

void mem_free(void *ptr)
{
    free(ptr);
}
