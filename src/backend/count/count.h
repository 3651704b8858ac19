/* A backend that counts and computes nothing.
 *
 * Every operation is checked and counted (ops/op_functions.h) as on a real device, and nothing is
 * computed or allocated. Whatever runs on it (the trainer, a solver) shows its calls,
 * floating-point operations, bytes and memory in no time, whatever its size.
 *
 * Downloads give ones. Residuals therefore do not fall, and no solve ends before its last
 * iteration. */
#ifndef DEQ_BACKEND_COUNT_COUNT_H
#define DEQ_BACKEND_COUNT_COUNT_H

#include "backend/backend.h"

/* How fast a device runs, for the seconds of the statistics. A call takes
 *   max(flops / rate, bytes / bandwidth) + call_seconds
 * The rate is `product_rate` for products, and `plain_rate` for what other operations compute.
 * Attention on tensor cores is charged for what its tiles compute, whether a query sees it or not.
 */
struct count_device {
    double product_rate; /* FLOP/s */
    double plain_rate;
    double attention_rate; /* of attention on tensor cores, 0 where it runs on plain ones */
    double bandwidth;      /* bytes/s */
    double call_seconds;   /* of a launch that follows other launches */
    double sync_seconds;   /* added for a download, which waits */
    /* Low-precision tensors are bfloat16. Other operands of products are float32 and are first
     * rounded to bfloat16 in passes of their own. Each is a launch that reads 4 bytes a number and
     * writes 2. */
    bool rounds;
    bool rectifier_passes; /* a wide layer takes a further launch for its rectifier, unless fused */
    bool kernel_scratch;   /* operations take scratch as those in cuda/ do (device_scratch.h) */
    int64_t chunk_numbers, ffn_rows; /* as in struct ops */
};

/* Opens a backend that counts, in float32 as on a device. STATUS_NOMEM. */
enum status count_open(struct backend *be, const struct count_device *device, struct error *err);
/* Opens a backend that counts in the number formats, pieces and precision of `like`, to learn in no
 * time how much memory something would take there. STATUS_NOMEM. */
enum status count_open_like(struct backend *be, const struct backend *like, struct error *err);

/* Returns the most bytes of scratch memory that a call so far would have needed. */
size_t count_scratch(const struct backend *be);

#endif
