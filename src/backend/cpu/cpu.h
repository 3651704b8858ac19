/* The CPU backend, in float32. Products are oneDNN's, and row, attention and vector operations are
 * our own on OpenMP. */
#ifndef DEQ_BACKEND_CPU_CPU_H
#define DEQ_BACKEND_CPU_CPU_H

#include "backend/backend.h"

/* Opens the processor with `threads` threads. 0 means as many as there are cores this process may
 * use, or OMP_NUM_THREADS. The environment may lend fewer (OMP_THREAD_LIMIT), and be->threads says
 * how many there are. STATUS_NOMEM. STATUS_DEVICE if the processor lacks the instructions the
 * program was built for. */
enum status cpu_open(struct backend *be, int threads, struct error *err);

#endif
