/* What the machine can do, measured in the same run as our own figures. That is OpenBLAS's SGEMM
 * and the bandwidth of memory. */
#ifndef DEQ_CMD_MACHINE_H
#define DEQ_CMD_MACHINE_H

#include "base/status.h"
#include <cblas.h>
#include <stdbool.h>
#include <stdint.h>

enum { MACHINE_SAMPLES = 100001 };

struct machine {
    __typeof__(cblas_sgemm) *product;
    float *a, *b, *c; /* owns: operands of the product */
    float *from, *to; /* owns: for the copy, well beyond the caches */
    double sgemm[MACHINE_SAMPLES], bandwidth[MACHINE_SAMPLES];
    int64_t count;
    int threads;
};

/* OpenBLAS takes a processor that it does not know for one of 2004. For a fair comparison it is
 * then told what to use. It listens only while it is loaded, so the program starts itself again
 * with the arguments of this process. Nothing may have been printed before. STATUS_NOMEM. */
enum status machine_restart_if_unfair(struct error *err);

/* Allocates the operands and sets OpenBLAS's threads. The caller frees it with machine_free.
 * STATUS_NOMEM, STATUS_DEVICE if OpenBLAS cannot be loaded. */
enum status machine_create(struct machine **out, int threads, struct error *err);
void machine_free(struct machine *m);
/* Takes one sample of each rate, which lasts some ten milliseconds. It is a bench_between_fn. */
void machine_measure(void *machine);
/* The medians of the samples. The first is in GFLOP/s of cblas_sgemm, 1024 x 2048 x 512. The second
 * is in GB/s of a copy, which counts the bytes read and those written. */
double machine_sgemm(struct machine *m);
double machine_bandwidth(struct machine *m);
/* What OpenBLAS takes the processor for. */
const char *machine_core(void);

/* A line of /proc/self/status, such as "VmHWM:", in bytes, or 0 if there is no such line. */
double machine_memory_line(const char *key);

#endif
