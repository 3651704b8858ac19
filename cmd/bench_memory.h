/* deq bench memory: memory by what it is for, against depth and solver evaluations. */
#ifndef DEQ_CMD_BENCH_MEMORY_H
#define DEQ_CMD_BENCH_MEMORY_H

#include "base/status.h"

/* The command line behind "bench": argv[0] is "memory". */
enum status bench_memory(int argc, char **argv, struct error *err);

#endif
