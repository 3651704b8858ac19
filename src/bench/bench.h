/* The speed of training and evaluation, without files: random tokens, memory always full. */
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
    BENCH_UPDATE,   /* memory, weights' gradients, optimizer */
    BENCH_COUNT
};

struct bench_step_result {
    double seconds; /* median of the timed steps */
    double fastest; /* and the fastest */
    int64_t tokens; /* of a step */
    int64_t parameters;
    double forward_evals, backward_evals;        /* of the last step */
    struct op_stat stat[OP_COUNT];               /* over the timed steps */
    struct op_stat phase[BENCH_COUNT][OP_COUNT]; /* the same, phase by phase */
    double total_seconds;                        /* of all timed steps */
    struct model_bytes bytes;                    /* of the model; the optimizer's beside it */
    size_t optimizer_bytes;
    size_t planned[PART_COUNT]; /* bytes of memory by part, see op_part */
    int64_t steps;
};

/* A model with all that a step needs, of a resolved configuration, on Zipf-like random tokens.
 * Several may live side by side, so that their steps can alternate. */
struct bench;

/* `train`: training steps, in the configuration's `accumulate` parts; else evaluation: segments of
 * the training's batch and length, solved as solver.forward says, and scored. Freed with
 * bench_close. */
enum status bench_open(struct bench **out, struct backend *be, const struct config *config,
                       bool train, struct error *err);
void bench_close(struct bench *b);
/* Steps until the segment memory is full and the caches are warm. */
enum status bench_warm(struct bench *b, struct error *err);
enum status bench_step(struct bench *b, double *seconds, struct error *err);
const struct model *bench_model(const struct bench *b);
const struct optimizer *bench_optimizer(const struct bench *b);

/* Sorts them; the middle one. count >= 1. */
double bench_median(double *times, int64_t count);

/* Called between steps, to measure something else in the same run. */
typedef void (*bench_between_fn)(void *ctx);

/* One such model: warmed, then `steps` timed steps, with all that there is to say about them. */
typedef enum status bench_fn(struct backend *be, const struct config *config, int64_t steps,
                             bench_between_fn between, void *ctx, struct bench_step_result *result,
                             struct error *err);
bench_fn bench_train;
bench_fn bench_solve; /* evaluation */

/* The setting at which the published code was measured beside this program: width 256, 8 heads,
 * inner width 1024, 64 positions and 64 of memory, 8 streams, 10,000 words, Broyden with limits
 * 12 and 12. The published limit counts steps after the first evaluation of f: 13 evaluations
 * forward; 12 products with J^T backward, where the first value is known without one. Not resolved
 * yet, so that keys can be changed. */
enum status bench_train_setting(struct config *config, struct error *err);
/* What methods are compared at, each with keys of its own: width 128, 4 heads, inner width 512,
 * trellis 192 + 64, 8 streams of 64 positions and 64 of memory, fixed numbers of evaluations. */
enum status bench_width_setting(struct config *config, struct error *err);

/* The operations by falling seconds. */
void bench_order(const struct op_stat stat[OP_COUNT], enum op_id order[OP_COUNT]);

const char *bench_phase_text(enum bench_phase phase);

#endif
