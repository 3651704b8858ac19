/* deq bench memory: memory by what it is for, against depth and solver evaluations. */
#ifndef DEQ_CMD_BENCH_BENCH_MEMORY_H
#define DEQ_CMD_BENCH_BENCH_MEMORY_H

#include "base/status.h"

#define BENCH_MEMORY_USAGE                                                                         \
    "memory\n"                                                                                     \
    "Trains a few steps of each method at the same width, batch and length, each in a\n"           \
    "process of its own: equilibria at 1 to 200 evaluations of f, explicit networks of 1 to 70\n"  \
    "layers, with and without recomputation. Prints the memory of each by what it is for, and\n"   \
    "the process's own peak.\n"                                                                    \
    "\n"                                                                                           \
    "      --config FILE    the common setting (default: width 128, inner width 512, trellis\n"    \
    "                       192 + 64, 8 streams of 64 positions and 64 of memory, 2,000 words);\n" \
    "                       cell, depth and forward method are each row's own\n"                   \
    "      --set KEY=VALUE  change a key of it\n"                                                  \
    "      --plot FILE      also draw it, FILE.png or FILE.svg (needs gnuplot)\n"                  \
    "      --threads N      processor threads (default: all)\n"                                    \
    "      --json           one JSON object: rows[], reduction_vs_trellis70,\n"                    \
    "                       reduction_vs_transformer16 and 18, variation_10_to_200\n"

/* argv[0] is "memory". */
enum status bench_memory(int argc, char **argv, struct error *err);

#endif
