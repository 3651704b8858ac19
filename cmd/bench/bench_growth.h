/* deq bench growth: time and memory of a training step against everything that makes it larger. */
#ifndef DEQ_CMD_BENCH_BENCH_GROWTH_H
#define DEQ_CMD_BENCH_BENCH_GROWTH_H

#include "base/status.h"

#define BENCH_GROWTH_USAGE                                                                         \
    "growth\n"                                                                                     \
    "Times training steps while length, width, vocabulary, evaluations and batch double, one\n"    \
    "after the other, and fits the exponents of time and memory between neighbours beside those\n" \
    "of the arithmetic (floating-point operations of the products; bytes of the operations).\n"    \
    "\n"                                                                                           \
    "      --set KEY=VALUE  change a key of the common setting (that of bench memory)\n"           \
    "      --steps N        timed steps of each point (default: 5)\n"                              \
    "      --plot FILE      also draw it, FILE.png or FILE.svg (needs gnuplot)\n"                  \
    "      --threads N      processor threads (default: all)\n"                                    \
    "      --json           one JSON object: axes[] of points[] and exponents\n"

/* argv[0] is "growth". */
enum status bench_growth(int argc, char **argv, struct error *err);

#endif
