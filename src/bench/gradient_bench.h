/* How well, how fast and in how much memory different ways through the fixed point give the
 * gradient, on a trained model and its data, beside the implicit gradient of tight solves. */
#ifndef DEQ_BENCH_GRADIENT_BENCH_H
#define DEQ_BENCH_GRADIENT_BENCH_H

#include "store/snapshot.h"

struct gradient_options {
    const char *split;
    int64_t segments;   /* measured; the gradients of each are compared and the figures averaged */
    bool tight_forward; /* all ways start from the reference's forward solve settings */
};

struct gradient_row {
    char name[64];
    double cosine, error;         /* over all parameters: g.r / |g||r|, |g - r| / |r| */
    double forward_s, backward_s; /* seconds of a segment: solve; from the loss to gradients */
    double forward_evals, backward_evals;
    double bytes; /* planned for states, solver, tapes: without parameters and their gradients */
};

struct gradient_bench {
    struct gradient_row *rows; /* owns: the first one is the reference against itself */
    int64_t count;
    double forward_residual, backward_residual; /* of the reference, the worst row */
};

/* Reads parameters from the snapshot, and the data its configuration names; batch and lengths are
 * those of training, dropout as in training. */
enum status gradient_bench_run(struct gradient_bench *b, struct backend *be, struct snapshot *from,
                               const struct config *config, const struct gradient_options *options,
                               struct error *err);
void gradient_bench_free(struct gradient_bench *b);

#endif
