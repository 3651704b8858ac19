/* Loads OpenBLAS when it is first wanted. */
#include "backend/cpu/openblas.h"

#include "base/library.h"
#include "base/mem.h"

/* More than OpenBLAS takes when it is loaded, 32 MiB for each of at most some dozen threads. */
static const size_t ROOM_BYTES = (size_t)1 << 30;

void *openblas_function(const char *name)
{
    static const char *const names[] = {"libopenblas.so.0", "libopenblas.so", NULL};
    return mem_has_room(ROOM_BYTES) ? library_function(names, name) : NULL;
}
