/* What the processor can do at most, measured: the roof over the speed of any operation.
 *
 * Every thread measures by itself, in pieces of less than a millisecond of which the fastest
 * counts. What else runs on the machine then hardly lowers a roof, and the sum over the threads is
 * a rate that threads which work together cannot exceed. */
#ifndef DEQ_BENCH_ROOF_H
#define DEQ_BENCH_ROOF_H

#include "config/config.h"

struct roof {
    double product; /* FLOP/s of the fastest product routine, all threads */
    /* Bytes/s, read and written, of loops over data in the first cache, all threads. Data that
     * comes from further away comes slower. */
    double memory;
    const char *routine; /* the fastest, for people */
    int64_t m, n, k;     /* of its fastest product, [m,k] [k,n] */
};

/* Measures for some tenths of a second. Products are by oneDNN and by OpenBLAS, where it can be
 * loaded, in fp32. With `precision` bf16 they are in bf16 too, since small products stay in fp32
 * and some processors are no faster in bf16. STATUS_NOMEM. STATUS_DEVICE if no routine works. */
enum status roof_measure(struct roof *r, int threads, enum precision precision, struct error *err);

/* The least seconds in which so many operations and bytes can be had. */
double roof_seconds(const struct roof *r, double flops, double bytes);

#endif
