/* The speed of training and evaluation, without files: random tokens, memory always full. */
#ifndef DEQ_TRAIN_BENCH_H
#define DEQ_TRAIN_BENCH_H

#include "model/model.h"
#include "train/optimizer.h"

/* The parts of a training step, in their order. */
enum bench_phase {
    PHASE_EMBED,    /* weights, embedding, injection */
    PHASE_FORWARD,  /* the solve, and f at its end */
    PHASE_LOSS,     /* softmax and loss, with their gradients */
    PHASE_BACKWARD, /* the adjoint solve, and the gradients of everything before the loss */
    PHASE_UPDATE,   /* memory, weights' gradients, optimiser */
    PHASE_COUNT
};

struct bench_step_result {
    double seconds; /* median of the timed steps */
    double fastest; /* and the fastest */
    int64_t tokens; /* of a step */
    int64_t parameters;
    double forward_evals, backward_evals;        /* of the last step */
    struct op_stat stat[OP_COUNT];               /* over the timed steps */
    struct op_stat phase[PHASE_COUNT][OP_COUNT]; /* the same, phase by phase */
    double total_seconds;                        /* of all timed steps */
    struct model_bytes bytes;                    /* of the model; the optimiser's beside it */
    size_t optimizer_bytes;
    size_t planned[PART_COUNT]; /* bytes of memory by part, see op_part */
    int64_t steps;
};

/* Called between steps, to measure something else in the same run. */
typedef void (*bench_between_fn)(void *ctx);

/* Some steps to fill memory and caches, then `steps` timed ones, of a resolved configuration on
 * Zipf-like random tokens. */
typedef enum status bench_fn(struct backend *be, const struct config *config, int64_t steps,
                             bench_between_fn between, void *ctx, struct bench_step_result *result,
                             struct error *err);
/* Training steps, in the configuration's `accumulate` parts. */
bench_fn bench_train;
/* Evaluation: segments of the training's batch and length, solved as solver.forward says, and
 * scored. */
bench_fn bench_solve;

/* The setting of model-spec 14, at which the published code was measured: width 256, 8 heads,
 * inner width 1024, 64 positions and 64 of memory, 8 streams, 10,000 words, Broyden with limits
 * 12 and 12. The published limit counts steps after the first evaluation of f: 13 evaluations
 * forward; 12 products with J^T backward, where the first value is known without one. Not resolved
 * yet, so that keys can be changed. */
enum status bench_train_setting(struct config *config, struct error *err);

const char *bench_phase_text(enum bench_phase phase);

#endif
