/* The speed of training and evaluation on random tokens, without files. */
#ifndef DEQ_BENCH_BENCH_H
#define DEQ_BENCH_BENCH_H

#include "deq/model.h"
#include "optimizer/optimizer.h"

/* The parts of a training step, in their order. */
enum bench_phase {
    BENCH_EMBED,    /* weights, embedding, injection */
    BENCH_FORWARD,  /* the solve, and f at its end */
    BENCH_LOSS,     /* softmax and loss, with their gradients */
    BENCH_BACKWARD, /* the adjoint solve, and the gradients of everything before the loss */
    BENCH_REMEMBER, /* memory, and from effective weights' gradients to those of parameters */
    BENCH_OPTIMIZER,
    BENCH_COUNT
};

struct bench_step_result {
    double seconds; /* of a step, the median */
    double fastest; /* of a step */
    int64_t tokens; /* of a step */
    int64_t parameters;
    /* Numbers of the flat gradient, of its buckets that are complete before the backward solve, and
     * those that a step gathers, with several ranks. */
    int64_t numbers, early, gathered;
    double forward_evals, backward_evals;        /* of the last step */
    struct op_stat stat[OP_COUNT];               /* over as many steps as were timed */
    struct op_stat phase[BENCH_COUNT][OP_COUNT]; /* the same, phase by phase */
    double total_seconds;                        /* of all timed steps */
    /* The seconds in `stat` and `phase` are the device's own. They are of further steps, which
     * start call by call. */
    bool device_times;
    struct model_bytes bytes; /* of the model, without the optimizer */
    size_t optimizer_bytes;
    size_t planned[PART_COUNT]; /* bytes of memory by part, see op_part */
    int64_t steps;              /* timed */
};

/* A model with all that a step needs. Its tokens are random, and their frequency falls like 1/rank,
 * as that of words. Several may live side by side, so that their steps can alternate. */
struct bench;

/* Opens the model of a resolved configuration. With `train` a step is a training step, in the
 * configuration's `accumulate` parts. Otherwise it is the evaluation of a segment of the training's
 * batch and length, solved as solver.forward says. Freed with bench_close.
 * STATUS_NOMEM, STATUS_DEVICE (also if the device lacks train.precision), STATUS_CONFIG. */
enum status bench_open(struct bench **out, struct backend *be, const struct config *config,
                       bool train, int ranks, struct error *err);
/* NULL is allowed. */
void bench_close(struct bench *b);
/* Runs steps until the segment memory is full and the caches are warm. Fails as bench_step. */
enum status bench_warm(struct bench *b, struct error *err);
/* Runs one step and measures it. STATUS_DEVICE, STATUS_NOMEM. */
enum status bench_step(struct bench *b, double *seconds, struct error *err);
const struct model *bench_model(const struct bench *b);
const struct optimizer *bench_optimizer(const struct bench *b);

/* Sorts times[count] and returns the middle one. count >= 1. */
double bench_median(double *times, int64_t count);

struct bench_options {
    bool train;     /* see bench_open */
    int64_t steps;  /* to time, at least 1 */
    double budget;  /* > 0: seconds after which no further step begins, but one is timed */
    int ranks;      /* see bench_open */
    int64_t layers; /* > 0: training steps of so many layers, as in pre-training */
    /* Called after each timed step, to measure something else in the same run. May be NULL. */
    void (*between)(void *ctx);
    void *ctx; /* borrows, for `between` */
};

/* Opens a model, warms it and times its steps. On a device that works beside the host, as many
 * steps follow in which it times each operation. Fails as bench_open and bench_step. */
enum status bench_run(struct backend *be, const struct config *config,
                      const struct bench_options *options, struct bench_step_result *result,
                      struct error *err);

/* The setting at which the published code was measured beside this program. It has width 256, 8
 * heads, inner width 1024, 64 positions and 64 of memory, 8 streams, Broyden with limits 12 and 12.
 * The vocabulary, left to config_resolve, had 10,000 words. The published limit counts the steps
 * after the first evaluation of f. Forward that makes 13 evaluations. Backward it makes 12 products
 * with J^T, because the first value is known without one. The setting is not resolved yet, so that
 * keys can be changed. STATUS_CONFIG. */
enum status bench_train_setting(struct config *config, struct error *err);
/* The setting at which methods are compared, each with keys of its own. It has width 128, 4 heads,
 * inner width 512, trellis 192 + 64, 8 streams of 64 positions and 64 of memory, fixed numbers of
 * evaluations. Not resolved yet. STATUS_CONFIG. */
enum status bench_width_setting(struct config *config, struct error *err);

/* Sorts the operations, the most expensive first. */
void bench_order(const struct op_stat stat[OP_COUNT], enum op_id order[OP_COUNT]);

const char *bench_phase_text(enum bench_phase phase);

#endif
