/* What processes with a GPU each send one another in a training step, and how long that takes.
 *
 * The model is that of a ring, which is what NCCL takes where sums have an order (its switches are
 * off). To sum the gradients over N ranks and to gather what follows from them, each rank sends
 * (N - 1) / N of the flat array both times. The ring passes through all GPUs of a machine and then
 * on to the next one. NCCL lays a ring through each network card, so that all cards of a machine
 * carry an equal part, and the slower one of a GPU's link and of those cards together sets the
 * pace. Beside the bytes each call takes its time, which grows with the number of ranks. */
#ifndef DEQ_BENCH_EXCHANGE_H
#define DEQ_BENCH_EXCHANGE_H

#include "bench/chip.h"

enum { EXCHANGE_MACHINE = 8 /* GPUs */ };

/* Assumed of NCCL: the part of the rates that it reaches, as measured by others on H100 and A100
 * (0.75 to 0.9 without switches), and the seconds of a call and of a step of its ring, inside a
 * machine and between two, by its own model (tuning.cc, protocol LL128). */
struct exchange_rates {
    double share, call_seconds, hop_seconds, network_hop_seconds;
};
struct exchange_rates exchange_rates(void);

/* A step's load. Numbers are float32. */
struct exchange_load {
    int64_t numbers;  /* of the flat gradient, which is summed, and divided as dist/dist.h says */
    int64_t early;    /* of those, complete before the backward solve */
    int64_t gathered; /* sent back behind the update, or before it */
    double beside;    /* seconds of the backward pass that follows, beside which `early` travels */
};

struct exchange {
    int machines;
    double sent;                          /* bytes that a rank sends */
    double sum_seconds, gather_seconds;   /* in all */
    double hidden_seconds, shown_seconds; /* beside the backward pass, and while the rank waits */
};

/* Of chip->ranks, at least 2. */
struct exchange exchange_plan(const struct exchange_load *load, const struct chip *chip);

#endif
