/* Training and evaluation time of several networks side by side, as in the paper's Table 4. All of
 * them live at once and take turns step by step, so that a machine that slows down slows them
 * alike. */
#ifndef DEQ_BENCH_RUNTIME_BENCH_H
#define DEQ_BENCH_RUNTIME_BENCH_H

#include "config/config.h"

struct backend;

struct runtime_row {
    int64_t parameters;
    int64_t layers;       /* 0 means an equilibrium */
    double forward;       /* evaluations of f in a training step, or layers */
    double backward;      /* products with J^T in a training step, or layers */
    double eval_forward;  /* evaluations of f in evaluation */
    int64_t tokens;       /* of a training step */
    double train_seconds; /* of a training step, the median */
    double eval_tokens_per_s;
    double ppl;         /* NaN without a training */
    int64_t steps;      /* trained so far, 0 without a training */
    double run_seconds; /* of that training, on the machine where it ran */
};

struct runtime_options {
    int64_t steps; /* timed steps of each network, and evaluated segments of an untrained one */
    /* for trained networks only */
    const char *split;           /* to evaluate */
    const char *const *settings; /* [setting_count] KEY=VALUE, for each configuration */
    int setting_count;
};

/* Fills rows[count] for untrained networks of resolved configurations, on random tokens. Evaluation
 * runs segments of the training's batch and length with solver.forward. Fails as bench_open. */
enum status runtime_untrained(struct backend *be, const struct config *configs, int64_t count,
                              const struct runtime_options *o, struct runtime_row *rows,
                              struct error *err);

/* Fills rows[count] for trained networks, each with its own data. Training steps continue the run
 * of the checkpoint. Evaluation covers the whole split and gives the perplexity.
 * STATUS_NOINPUT, STATUS_IO and STATUS_DATA for a checkpoint or shards that are missing, unreadable
 * or damaged. STATUS_CONFIG for settings that do not fit. STATUS_NOMEM, STATUS_DEVICE. */
enum status runtime_trained(struct backend *be, const char *const *checkpoints, int64_t count,
                            const struct runtime_options *o, struct runtime_row *rows,
                            struct error *err);

#endif
