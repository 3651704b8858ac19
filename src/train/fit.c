#include "train/fit.h"

enum { RESERVE_PART = 32 }; /* one in so many bytes */

enum status fit_measure(struct backend *be, fit_fn make, const void *what, enum precision precision,
                        size_t *bytes, struct error *err)
{
    size_t before = be->bytes, peak = be->peak_bytes;
    int64_t syncs = be->syncs;
    backend_plan(be, true);
    enum status status = make(what, be, err);
    *bytes = be->peak_bytes - before;
    if (precision == PRECISION_BF16)
        *bytes += be->operand_bytes / 2;
    backend_plan(be, false);
    backend_reset_stats(be);
    be->peak_bytes = peak;
    be->syncs = syncs;
    return status;
}

size_t fit_limit(const struct backend *be)
{
    return be->device_free - be->device_free / RESERVE_PART;
}

double fit_gib(size_t bytes)
{
    return (double)bytes / (1 << 30);
}
