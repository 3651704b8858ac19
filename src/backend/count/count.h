/* The backend that counts: every operation is checked and booked at the doors (ops/ops*.c) as on a
 * real device, and nothing is computed or allocated. Whatever runs on it (the trainer, a solver)
 * shows its calls, floating-point operations, bytes and memory in no time, whatever its size.
 *
 * Downloads give ones: residuals do not fall, and no solve ends before its last iteration. */
#ifndef DEQ_BACKEND_COUNT_COUNT_H
#define DEQ_BACKEND_COUNT_COUNT_H

#include "backend/backend.h"

/* How a device runs, for the seconds that are booked. A call takes
 *   max(flops / rate, bytes / bandwidth) + call_seconds,
 * with `product_rate` for products and `plain_rate` for what other operations compute. */
struct count_device {
    double product_rate; /* FLOP/s */
    double plain_rate;
    double bandwidth;    /* bytes/s */
    double call_seconds; /* of a launch, behind other launches */
    double sync_seconds; /* more for a download, which waits */
    /* Narrow tensors are bfloat16. Other operands of products are float32 and are first rounded to
     * it in passes of their own, each a launch that reads 4 bytes a number and writes 2. */
    bool rounds;
    bool rectifier_passes; /* of a hidden layer: a launch behind the product, where not inside it */
    int64_t chunk_numbers, ffn_rows; /* as in struct ops */
};

/* float32 as on a device. */
enum status count_open(struct backend *be, const struct count_device *device, struct error *err);
/* In the number formats, pieces and precision of an open backend, in no time: for the memory that
 * something would take there. */
enum status count_open_like(struct backend *be, const struct backend *like, struct error *err);

/* The most scratch memory of its own that a call so far would have taken: rounded operands. */
size_t count_scratch(const struct backend *be);

#endif
