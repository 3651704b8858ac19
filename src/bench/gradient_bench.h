/* Methods of differentiating through the fixed point, compared on a trained model and its data by
 * their distance from the implicit gradient of tight solves, their time and their memory. */
#ifndef DEQ_BENCH_GRADIENT_BENCH_H
#define DEQ_BENCH_GRADIENT_BENCH_H

#include "store/snapshot.h"

struct gradient_options {
    const char *split;
    int64_t segments;   /* to compare, whose means the rows hold */
    bool tight_forward; /* every method starts from a forward solve as tight as the reference's */
};

struct gradient_row {
    char name[64];
    double cosine;     /* g.r / |g||r| over all parameters, r being the reference's gradient */
    double error;      /* |g - r| / |r| */
    double forward_s;  /* seconds of a segment's solve */
    double backward_s; /* seconds from its loss to the gradients */
    double forward_evals, backward_evals;
    double bytes; /* for states, solver and saved activations, without parameters and their
                     gradients */
};

struct gradient_bench {
    struct gradient_row *rows; /* owns [count], first the reference against itself */
    int64_t count;
    double forward_residual, backward_residual; /* the reference's largest */
};

/* Compares on the parameters of the snapshot and the data that `config` names. Batch, lengths and
 * dropout are those of training. Call gradient_bench_free in any case.
 * STATUS_CONFIG for an explicit network or a batch that does not fit. STATUS_DATA, STATUS_NOINPUT
 * and STATUS_IO for the snapshot and the shards, which must have the snapshot's vocabulary.
 * STATUS_NOMEM, STATUS_DEVICE. */
enum status gradient_bench_run(struct gradient_bench *b, struct backend *be, struct snapshot *from,
                               const struct config *config, const struct gradient_options *options,
                               struct error *err);
void gradient_bench_free(struct gradient_bench *b);

#endif
