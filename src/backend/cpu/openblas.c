/* Loads OpenBLAS when it is first wanted. */
#include "backend/cpu/openblas.h"

#include "base/library.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>

/* More than OpenBLAS takes when it is loaded, 32 MiB for each of at most some dozen threads. */
static const size_t ROOM_BYTES = (size_t)1 << 30;

/* Whether the limit on address space leaves that much. Nothing is written to it. */
static bool has_room(void)
{
    void *p = mmap(NULL, ROOM_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p != MAP_FAILED && munmap(p, ROOM_BYTES) == 0;
}

void *openblas_function(const char *name)
{
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", NULL};
    return has_room() ? library_function(names, name) : NULL;
}
