/* A run: a training with its folder, log, evaluations and checkpoints.
 *
 *   RUN/config.json         the resolved configuration
 *   RUN/log.jsonl           one JSON object a step ("event": "step") and an evaluation
 *   RUN/last.bin            the newest checkpoint
 *   RUN/best.bin            the one of the lowest validation loss
 *   RUN/step-00001000.bin   the newest train.keep_last of those every train.checkpoint_every steps
 */
#ifndef DEQ_TRAIN_RUN_H
#define DEQ_TRAIN_RUN_H

#include "train/evaluation.h"
#include "train/trainer.h"
#include <signal.h>

enum run_resume { RESUME_AUTO, RESUME_NEVER, RESUME_FILE };

struct run_options {
    const char *dir;                   /* made if it does not exist */
    enum run_resume resume;            /* auto: continue from last.bin if there is one */
    const char *resume_file;           /* RESUME_FILE */
    double time_limit;                 /* seconds; save and stop before; 0: none */
    const volatile sig_atomic_t *stop; /* set by a signal: save and stop after this step; or NULL */
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
 * its models, histories, optimiser and the rounded operands of products. Nothing is allocated. */
enum status run_memory(struct backend *be, const struct config *config, size_t *bytes,
                       struct error *err);
/* STATUS_DEVICE if that is more than the device had left when it was opened, with what would fit;
 * STATUS_OK on backends without memory of their own. */
enum status run_check_memory(struct backend *be, const struct config *config, struct error *err);

/* Trains until train.steps are done. STATUS_STOPPED, with everything saved, if `stop` or the time
 * limit ended it sooner. STATUS_CANTCREATE for a folder that holds another run, STATUS_CHECK if
 * nothing but non-finite gradients came for too long. */
enum status run_train(struct backend *be, const struct config *config,
                      const struct run_options *options, const struct run_observer *observer,
                      struct error *err);

#endif
