/* Measures the memory of a command on a backend that counts. */
#include "backend/count/memory_check.h"

#include "backend/count/count.h"

/* What is kept back: one in so many bytes, and on devices of usual size at least so many MiB. The
 * executables of graphs lie there, whose size CUDA does not tell. */
enum { RESERVE_PART = 32, RESERVE_LEAST = 512, USUAL_SIZE = 4096 };

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
    const size_t mib = (size_t)1 << 20;
    size_t reserve = be->device_free / RESERVE_PART;
    if (be->device_free >= USUAL_SIZE * mib && reserve < RESERVE_LEAST * mib)
        reserve = RESERVE_LEAST * mib;
    return be->device_free - reserve;
}

double memory_check_gib(size_t bytes)
{
    return (double)bytes / (1 << 30);
}
