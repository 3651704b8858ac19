/* The CPU backend: float32, oneDNN for products, our own fused row, attention and vector
 * operations on OpenMP. */
#ifndef DEQ_CPU_CPU_H
#define DEQ_CPU_CPU_H

#include "ops/backend.h"

/* threads 0: as many as there are cores this process may use (OMP_NUM_THREADS is honoured).
 * STATUS_DEVICE if the processor lacks the instructions the program was built for. */
enum status cpu_open(struct backend *be, int threads, struct error *err);

#endif
