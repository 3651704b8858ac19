/* One training, which is a model, an optimizer, data, and the step that moves them on. It knows no
 * files but the shards it reads. The run around it (run/run.h) keeps folder, log and checkpoints.
 */
#ifndef DEQ_TRAIN_TRAINER_H
#define DEQ_TRAIN_TRAINER_H

#include "data/stream.h"
#include "store/snapshot.h"

/* Evaluations of f or its vjp in one direction, over the segments of a step. */
struct solve_summary {
    double evals_mean; /* until a position stopped */
    int64_t evals_max;
    double evals_paid;        /* evaluations computed for a position, at least evals_mean */
    double rel_mean, rel_max; /* residuals of what was returned, NaN without a solve */
    int64_t restarts;
    int64_t unconverged; /* positions that wanted a tolerance and did not reach it */
};

struct step_report {
    int64_t step;
    double loss; /* mean over the step's tokens in nats, with dropout */
    double lr, grad_norm;
    bool skipped; /* the gradient was not finite, and nothing was updated */
    int64_t
        layers; /* plain applications of f in an explicit network or pre-training, 0 for a solve */
    struct solve_summary forward, backward;
    double penalty_weight, penalty; /* of the Jacobian, NAN in a step that did not compute it */
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
    struct dist *dist;     /* borrows, NULL for one rank */
    struct config config;  /* resolved */
    struct vocab *vocab;   /* owns */
    struct stream *stream; /* owns */
    struct model *model;   /* owns */
    struct optimizer optimizer;
    struct train_state state;
    struct trainer_dropped dropped;
    struct step_report *reports; /* owns [ranks] */
};

/* Opens the data and plans all memory. The parameters are drawn from the seed. If `from` is not
 * NULL, everything continues as it says.
 *
 * With several ranks each of the `accumulate` parts of the batch is divided among them. They see
 * the same batches, dropout masks and memory as one process would. They differ from it in the order
 * of sums and, with the solver's scope "batch", in what a batch is.
 *
 * STATUS_CONFIG if the batch cannot be divided so, or for what config_resolve refuses.
 * STATUS_NOINPUT for missing shards, STATUS_DATA for bad ones or another vocabulary than that of
 * `from`, STATUS_DEVICE for a precision that the device lacks, STATUS_IO, STATUS_NOMEM. On failure
 * *t is freed. */
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

/* Takes one optimizer step on the next segment of all streams. All ranks call it. The batch is
 * computed in `accumulate` parts, one after the other, which gives the same gradient in less
 * memory. A gradient that is not finite leaves parameters and moments as they were and empties the
 * segment memory. Every rank gets the report of the whole batch. STATUS_DATA or STATUS_IO from
 * reading, STATUS_DEVICE or STATUS_NOMEM from the backend. */
enum status trainer_step(struct trainer *t, struct step_report *report, struct error *err);

/* With train.ema, puts the average in place of the weights for an evaluation, and the weights back.
 * The gradients lose what they hold, which is nothing between steps. */
void trainer_show_average(struct trainer *t);
void trainer_hide_average(struct trainer *t);

/* Whether so many ranks can divide a batch. STATUS_CONFIG. */
enum status trainer_check_ranks(const struct config_train *c, int ranks, struct error *err);

/* The buckets [*from, *to) of gradients that are complete once the loss is known, so that they
 * travel beside the backward solve. They are the output layer's own, to which neither the embedding
 * nor f adds. There are none with a loss at earlier iterates, which is taken behind that solve, and
 * the table of tied weights waits for the embedding. */
void trainer_early_buckets(const struct params *p, const struct config *config, int64_t *from,
                           int64_t *to);

/* The learning rate of step n, counted from 1. After a reset of the schedule it begins anew and
 * covers the steps that are left. */
double trainer_rate(const struct trainer *t, int64_t n);

/* Sets the number format of products that train.precision names. STATUS_DEVICE if the device lacks
 * it. */
enum status trainer_set_precision(struct backend *be, const struct config_train *train,
                                  struct error *err);

/* What a checkpoint of this training holds. */
struct snapshot_source trainer_snapshot(const struct trainer *t);

/* Loads the vocabulary of data.dir and resolves the configuration against it and the number of
 * ranks. The caller frees *vocab, which is NULL on failure. STATUS_NOINPUT, STATUS_DATA, STATUS_IO,
 * STATUS_CONFIG, STATUS_NOMEM. */
enum status trainer_resolve_data(struct config *config, const struct dist *dist,
                                 struct vocab **vocab, struct error *err);

#endif
