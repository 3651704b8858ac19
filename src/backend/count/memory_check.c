/* Measures the memory of a command on a backend that counts. */
#include "backend/count/memory_check.h"

#include "backend/count/count.h"

enum { RESERVE_PART = 32 }; /* one in so many bytes */

enum status memory_check_measure(const struct backend *be, memory_check_fn make, const void *what,
                                 size_t *bytes, struct error *err)
{
    struct backend counted;
    TRY(count_open_like(&counted, be, err));
    enum status status = make(what, &counted, err);
    *bytes = counted.peak_bytes + count_scratch(&counted);
    backend_close(&counted);
    return status;
}

size_t memory_check_limit(const struct backend *be)
{
    return be->device_free - be->device_free / RESERVE_PART;
}

double memory_check_gib(size_t bytes)
{
    return (double)bytes / (1 << 30);
}
