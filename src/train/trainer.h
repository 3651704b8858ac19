/* One training: model, optimizer, data, and the step that moves them on. Knows no files but the
 * shards it reads; the run around it (run.h) keeps folder, log and checkpoints. */
#ifndef DEQ_TRAIN_TRAINER_H
#define DEQ_TRAIN_TRAINER_H

#include "data/stream.h"
#include "store/snapshot.h"

/* Evaluations of f or its vjp in one direction, over the segments of a step. */
struct solve_summary {
    double evals_mean; /* until a position stopped */
    int64_t evals_max;
    double evals_paid;        /* positions evaluated, for each: at least evals_mean */
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
    double penalty_weight, penalty; /* of the Jacobian; NAN in a step that did not compute it */
    int64_t tokens;
    double seconds;
};

/* What of a checkpoint does not belong to the data and settings of a training that continues from
 * it, and was therefore left out. */
struct trainer_dropped {
    bool text;        /* another training text, which is read from its start */
    bool memory;      /* the segment memory is empty */
    bool optimizer;   /* the optimizer is of another kind and begins anew */
    int64_t repeated; /* tokens that are read again, as a segment of this length begins there */
};

struct trainer {
    struct backend *be;    /* borrows */
    struct dist *dist;     /* borrows; NULL: one rank */
    struct config config;  /* resolved */
    struct vocab *vocab;   /* owns */
    struct stream *stream; /* owns */
    struct model *model;   /* owns */
    struct optimizer optimizer;
    struct train_state state;
    struct trainer_dropped dropped;
    struct step_report *reports; /* owns: [ranks] */
};

/* Opens the data and plans all memory. The parameters are drawn from the seed, or, if `from` is
 * not NULL, everything continues as it says.
 *
 * With several ranks each of the `accumulate` parts of the batch is divided among them: they see
 * the same batches, dropout masks and memory as one process would, and differ from it in nothing
 * but the order of sums (and, with the solver's scope "batch", in what a batch is). STATUS_CONFIG
 * if the batch cannot be divided so. */
enum status trainer_create(struct trainer *t, struct backend *be, struct dist *dist,
                           const struct config *config, struct snapshot *from, struct error *err);
void trainer_free(struct trainer *t);

/* What may begin anew in a training that continues. */
enum {
    TRAINER_RESET_OPTIMIZER = 1, /* its moments and number of updates */
    TRAINER_RESET_SCHEDULE = 2,  /* warm-up and decay of the learning rate, over the steps left */
    TRAINER_RESET_DATA = 4       /* position in the text, segment memory and best loss */
};
/* Begins these anew. */
enum status trainer_reset(struct trainer *t, unsigned what, struct error *err);
/* Takes the weights of a checkpoint into a training that begins. STATUS_DATA if its vocabulary is
 * another one, and what snapshot_read_params returns. */
enum status trainer_take_weights(struct trainer *t, struct snapshot *from, struct error *err);

/* All ranks. One optimizer step on the next segment of all streams, computed in `accumulate` parts
 * of the batch one after the other: the same gradient, in less memory. A gradient that is not
 * finite leaves parameters and moments as they were and empties the segment memory. The report is
 * that of the whole batch, on every rank. */
enum status trainer_step(struct trainer *t, struct step_report *report, struct error *err);

/* Products as the configuration wants them, or STATUS_DEVICE. */
enum status trainer_set_precision(struct backend *be, const struct config_train *train,
                                  struct error *err);

/* What a checkpoint of this training holds. */
struct snapshot_source trainer_snapshot(const struct trainer *t);

/* Vocabulary and shard folder of a configuration, resolved against each other and against the
 * number of ranks. */
enum status trainer_resolve_data(struct config *config, const struct dist *dist,
                                 struct vocab **vocab, struct error *err);

#endif
