/* One training: model, optimiser, data, and the step that moves them on. Knows no files but the
 * shards it reads; the run around it (run.h) keeps folder, log and checkpoints. */
#ifndef DEQ_TRAIN_TRAINER_H
#define DEQ_TRAIN_TRAINER_H

#include "io/stream.h"
#include "train/snapshot.h"

struct trainer {
    struct backend *be;    /* borrows */
    struct config config;  /* resolved */
    struct vocab *vocab;   /* owns */
    struct stream *stream; /* owns */
    struct model *model;   /* owns */
    struct optimizer optimizer;
    struct train_state state;
};

/* Evaluations of f or its vjp in one direction, over the segments of a step. */
struct solve_summary {
    double evals_mean; /* until a position stopped */
    int64_t evals_max;
    double rel_mean, rel_max; /* residuals of what was returned; NaN without a solve */
    int64_t restarts;
    int64_t unconverged; /* positions that wanted a tolerance and did not reach it */
};

struct step_report {
    int64_t step;
    double loss; /* mean over the step's tokens, nats; with dropout */
    double lr, grad_norm;
    bool skipped;   /* gradient not finite: no update */
    int64_t layers; /* explicit network, pre-training: plain applications of f; 0: equilibrium */
    struct solve_summary forward, backward;
    int64_t tokens;
    double seconds;
};

/* Opens the data and plans all memory. The parameters are drawn from the seed, or, if `from` is
 * not NULL, everything continues as it says. */
enum status trainer_create(struct trainer *t, struct backend *be, const struct config *config,
                           struct snapshot *from, struct error *err);
void trainer_free(struct trainer *t);

/* One optimiser step on the next segment of all streams, computed in `accumulate` parts of the
 * batch one after the other: the same gradient, in less memory. A gradient that is not finite
 * leaves parameters and moments as they were and empties the segment memory. */
enum status trainer_step(struct trainer *t, struct step_report *report, struct error *err);

/* What a checkpoint of this training holds. */
struct snapshot_source trainer_snapshot(const struct trainer *t);

/* Vocabulary and shard folder of a configuration, resolved against each other. */
enum status trainer_resolve_data(struct config *config, struct vocab **vocab, struct error *err);

#endif
