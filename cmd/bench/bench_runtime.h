/* deq bench runtime: training and evaluation time of equilibria beside explicit networks. */
#ifndef DEQ_CMD_BENCH_BENCH_RUNTIME_H
#define DEQ_CMD_BENCH_BENCH_RUNTIME_H

#include "base/status.h"

#define BENCH_RUNTIME_USAGE                                                                       \
    "runtime\n"                                                                                   \
    "Times training steps and evaluation of equilibria and explicit networks, which take turns\n" \
    "step by step in one process, and divides by the first of each kind: above 1 is slower.\n"    \
    "Without checkpoints: untrained networks at the same width, batch and length; the\n"          \
    "equilibria with the default limits and with the published ones, the explicit networks at\n"  \
    "the paper's depths and with as many layers as the equilibrium has evaluations. With\n"       \
    "checkpoints: those networks as they were trained, on their data, and their perplexity, to\n" \
    "compare at equal quality.\n"                                                                 \
    "\n"                                                                                          \
    "      --config FILE      the common setting (default: that of bench memory, memory full)\n"  \
    "      --checkpoint FILE  a checkpoint of deq train; repeat it, the first is the measure\n"   \
    "      --split NAME       of their data: valid (default), test or train\n"                    \
    "      --set KEY=VALUE    change a key of the common setting, or of all checkpoints\n"        \
    "      --steps N          timed steps of each (default: 20)\n"                                \
    "      --threads N        processor threads (default: all)\n"                                 \
    "      --device NAME      cpu (default), cuda or auto\n"                                      \
    "      --json             one JSON object: rows[] with train_ratio, eval_ratio, ...\n"

/* argv[0] is "runtime". */
enum status bench_runtime(int argc, char **argv, struct error *err);

#endif
