/* What deq bench train and deq bench solve print. */
#ifndef DEQ_CMD_BENCH_BENCH_STEP_H
#define DEQ_CMD_BENCH_BENCH_STEP_H

#include "bench/bench.h"

struct bench_report {
    const char *what; /* "train" or "solve" */
    const struct config *config;
    const struct bench_step_result *result;
    double sgemm, bandwidth; /* of the machine: GFLOP/s, GB/s */
    double peak;             /* bytes above the program's start */
};

/* As a table on stdout, or as one JSON object. */
enum status bench_report_print(const struct bench_report *r, bool json, struct error *err);

#endif
