/* What the machine can do, measured in the same run as our own figures: OpenBLAS's SGEMM and the
 * bandwidth of memory. */
#ifndef DEQ_CMD_MACHINE_H
#define DEQ_CMD_MACHINE_H

#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

enum { MACHINE_SAMPLES = 100001 };

struct machine {
    float *a, *b, *c; /* owns: operands of the product */
    float *from, *to; /* owns: for the copy, well beyond the caches */
    double sgemm[MACHINE_SAMPLES], bandwidth[MACHINE_SAMPLES];
    int64_t count;
    int threads;
};

/* OpenBLAS takes a processor it does not know for one of 2004. Then it is told, for a fair
 * comparison, and since it listens only when it is loaded, the program starts itself again with
 * the arguments of this process: call this before anything has been printed. */
enum status machine_restart_if_unfair(struct error *err);

/* Allocates the operands and sets OpenBLAS's threads. Freed with machine_free. */
enum status machine_create(struct machine **out, int threads, struct error *err);
void machine_free(struct machine *m);
/* One sample of each, of type bench_between_fn: some ten milliseconds. */
void machine_measure(void *machine);
/* Medians: GFLOP/s of cblas_sgemm, 1024 x 2048 x 512, and GB/s of a copy, read and written bytes
 * both counted. */
double machine_sgemm(struct machine *m);
double machine_bandwidth(struct machine *m);
/* What OpenBLAS takes the processor for. */
const char *machine_core(void);

/* A line of /proc/self/status, such as "VmHWM:", in bytes; 0 if there is none. */
double machine_memory_line(const char *key);

#endif
