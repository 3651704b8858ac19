/* What a device that works beside the host reaches, measured by its own clock: the roof over the
 * speed of its operations. */
#ifndef DEQ_BENCH_DEVICE_ROOF_H
#define DEQ_BENCH_DEVICE_ROOF_H

#include "backend/backend.h"

struct device_roof {
    double product; /* FLOP/s of its fastest square product in the precision that is set */
    double copy;    /* bytes/s, read and written, of its fastest copy within its memory */
    int64_t size;   /* of that product, [size,size] [size,size] */
    double copied;  /* bytes of that copy */
};

/* Measures for some tenths of a second, in at most a quarter of the memory that was free at the
 * backend's opening. Products and copies grow until they take a millisecond. Adds to be->stat.
 * Their time must be the device's (backend_time_calls). STATUS_DEVICE, STATUS_NOMEM. */
enum status device_roof_measure(struct device_roof *r, struct backend *be, struct error *err);

#endif
