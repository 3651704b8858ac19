/* deq bench gradient: ways to the gradient, compared on the user's own checkpoint. */
#ifndef DEQ_CMD_BENCH_BENCH_GRADIENT_H
#define DEQ_CMD_BENCH_BENCH_GRADIENT_H

#include "base/status.h"

#define BENCH_GRADIENT_USAGE                                                                    \
    "gradient\n"                                                                                \
    "Compares ways to the gradient on a checkpoint and its data: the implicit one by several\n" \
    "solvers, numbers of products and tolerances, one-step, phantom, unrolled, with the\n"      \
    "implicit gradient of tight solves: cosine and relative error over all parameters, time,\n" \
    "evaluations, memory.\n"                                                                    \
    "\n"                                                                                        \
    "      --checkpoint FILE  a checkpoint of deq train\n"                                      \
    "      --data DIR         folder of shards (default: the one trained on)\n"                 \
    "      --split NAME       train, valid or test (default: train)\n"                          \
    "      --segments N       averaged over so many (default: 2)\n"                             \
    "      --tight-forward    from a tight forward solve, so that only the way back differs\n"  \
    "      --set KEY=VALUE    change a key, such as train.batch\n"                              \
    "      --threads N        processor threads (default: all)\n"                               \
    "      --json             one JSON object: rows[], forward_residual, backward_residual\n"

/* argv[0] is "gradient". */
enum status bench_gradient(int argc, char **argv, struct error *err);

#endif
