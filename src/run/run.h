/* A run: a training with its folder, log, evaluations and checkpoints.
 *
 *   RUN/config.json         the resolved configuration
 *   RUN/log.jsonl           one JSON object a step ("event": "step") and an evaluation
 *   RUN/last.bin            the newest checkpoint
 *   RUN/best.bin            the one of the lowest validation loss
 *   RUN/step-00001000.bin   numbered ones: the newest train.keep_last, and every train.keep_every
 *                           steps
 *
 * A checkpoint is copied in memory and written by a thread beside the training; what goes wrong
 * there ends the run at its next step. A run goes on from last.bin; if that is damaged, it is named
 * and the newest whole one is taken. From the same folder on the same machine with as many threads
 * it ends, bit for bit, as if it had never been stopped, and each step stands in the log once.
 */
#ifndef DEQ_RUN_RUN_H
#define DEQ_RUN_RUN_H

#include "train/evaluation.h"
#include "train/trainer.h"
#include <stdatomic.h>

enum run_resume { RESUME_AUTO, RESUME_NEVER, RESUME_FILE };

struct run_options {
    struct dist *dist;       /* ranks that train together; NULL: one */
    const char *dir;         /* made if it does not exist */
    enum run_resume resume;  /* auto: continue if there is a checkpoint */
    const char *resume_file; /* RESUME_FILE */
    double deadline;         /* of clock_seconds: save and stop before; 0: none */
    const atomic_bool *stop; /* once true: save and stop after this step; or NULL */
};

/* Who watches. Any function may be NULL. */
struct run_observer {
    void *ctx;
    /* once, when everything is planned: before step 0 or where it continues */
    void (*begin)(void *ctx, const struct trainer *t);
    void (*step)(void *ctx, const struct trainer *t, const struct step_report *r);
    /* while an evaluation runs */
    void (*evaluating)(void *ctx, int64_t tokens, int64_t of);
    void (*evaluation)(void *ctx, const struct trainer *t, const struct evaluation_result *r,
                       bool best);
    void (*message)(void *ctx, const char *text);
};

/* Bytes of the backend's memory that the run of a resolved configuration (vocab_size known) takes:
 * its models, histories, optimizer (unsharded) and the rounded operands of products, on each of
 * `ranks` processes. Nothing is allocated. */
enum status run_memory(struct backend *be, const struct config *config, int ranks, size_t *bytes,
                       struct error *err);
/* STATUS_DEVICE if that is more than the device had left when it was opened, with what would fit;
 * STATUS_OK on backends without memory of their own. */
enum status run_check_memory(struct backend *be, const struct config *config, int ranks,
                             struct error *err);

/* All ranks of options->dist. Rank 0 looks after the folder, and others say nothing: an error that
 * all meet has its text on one of them only (dist_agree). An error of one rank alone must be
 * followed by dist_abort. With one more process or one less a run goes on in the same way but for
 * rounding: sums are made in another order.
 *
 * Trains until train.steps are done. STATUS_STOPPED, with everything saved, if `stop` or the
 * deadline ended it sooner. STATUS_CANTCREATE for a folder that holds another run or in which
 * another process trains, STATUS_CHECK if nothing but non-finite gradients came for too long. */
enum status run_train(struct backend *be, const struct config *config,
                      const struct run_options *options, const struct run_observer *observer,
                      struct error *err);

#endif
