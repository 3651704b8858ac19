/* Training and evaluation time of networks beside each other: the paper's Table 4. All of them live
 * at once and take turns, step by step, so that whatever slows the machine slows them alike. */
#ifndef DEQ_BENCH_RUNTIME_BENCH_H
#define DEQ_BENCH_RUNTIME_BENCH_H

#include "config/config.h"

struct backend;

struct runtime_row {
    int64_t parameters, layers; /* layers: 0 in an equilibrium */
    double forward, backward;   /* evaluations of f in a training step, products with J^T; layers
                                   of an explicit network in both */
    double eval_forward;        /* evaluations of f in evaluation */
    int64_t tokens;             /* of a training step */
    double train_seconds;       /* median step */
    double eval_tokens_per_s;
    double ppl;         /* of a trained network; NaN without one */
    int64_t steps;      /* its training so far; 0 without one */
    double run_seconds; /* what that took, on whatever machine it was */
};

struct runtime_options {
    int64_t steps; /* timed steps and segments each; of trained networks, rounds of a step */
    /* of trained networks: */
    const char *split;
    const char *const *settings; /* [setting_count] KEY=VALUE, for each of the configurations */
    int setting_count;
};

/* Untrained networks of resolved configurations, on random tokens: `rows` [count]. Evaluation runs
 * segments of the training's batch and length with solver.forward. */
enum status runtime_untrained(struct backend *be, const struct config *configs, int64_t count,
                              const struct runtime_options *o, struct runtime_row *rows,
                              struct error *err);

/* Trained ones, from their checkpoints: training steps on their own data, as the run would go on,
 * and the evaluation of the whole split, which gives the perplexity at which they are compared. */
enum status runtime_trained(struct backend *be, const char *const *checkpoints, int64_t count,
                            const struct runtime_options *o, struct runtime_row *rows,
                            struct error *err);

#endif
