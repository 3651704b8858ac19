/* A run, which is a training with its folder, log, evaluations and checkpoints.
 *
 *   RUN/config.json         the resolved configuration
 *   RUN/log.jsonl           one JSON object a start ("event": "start"), a step and an evaluation
 *   RUN/last.bin            the newest checkpoint
 *   RUN/best.bin            the checkpoint of the lowest validation loss
 *   RUN/step-00001000.bin   numbered checkpoints, the newest train.keep_last and those of every
 *                           train.keep_every steps, and that before a cool-down (wsd)
 *
 * The state is copied in memory and written by a thread beside the training. If that fails, the run
 * ends at its next step. A stopped run goes on from last.bin. If that is damaged, a message names
 * it and the newest whole checkpoint is taken. From the same folder on the same machine with as
 * many threads, the run ends bit for bit as if it had never been stopped.
 */
#ifndef DEQ_RUN_RUN_H
#define DEQ_RUN_RUN_H

#include "train/evaluation.h"
#include "train/trainer.h"
#include <stdatomic.h>

enum run_resume { RESUME_AUTO, RESUME_NEVER, RESUME_FILE };

struct run_options {
    struct dist *dist;       /* ranks that train together, NULL for one */
    const char *dir;         /* made if it does not exist */
    enum run_resume resume;  /* RESUME_AUTO continues if there is a checkpoint */
    const char *resume_file; /* for RESUME_FILE */
    const char *init_from;   /* checkpoint whose weights a new run begins with, or NULL */
    unsigned reset;          /* TRAINER_RESET_..., once in a run that continues */
    double deadline;         /* of clock_seconds, to save and stop before, or 0 */
    const atomic_bool *stop; /* once true, save and stop after the step, may be NULL */
    const char *version;     /* of the program, for the log, may be NULL */
    const char *command;     /* its command line, for the log, may be NULL */
};

/* Functions that are called as the run goes on. Each may be NULL. */
struct run_observer {
    void *ctx;
    /* Called once, before the first step of this process. `bytes` are those of run_memory. */
    void (*begin)(void *ctx, const struct trainer *t, size_t bytes);
    void (*step)(void *ctx, const struct trainer *t, const struct step_report *r);
    /* Called while an evaluation runs, after `tokens` of its `of` tokens. */
    void (*evaluating)(void *ctx, int64_t tokens, int64_t of);
    void (*evaluation)(void *ctx, const struct trainer *t, const struct evaluation_result *r,
                       bool best);
    void (*message)(void *ctx, const char *text);
    /* Called once all steps are done and saved. */
    void (*done)(void *ctx, const struct trainer *t);
};

/* Measures, without allocating anything, how much of the backend's memory the run of a resolved
 * configuration (vocab_size known) takes on each of `ranks` processes. *bytes includes models,
 * solver histories, the optimizer (unsharded) and the rounded operands of products. Returns
 * STATUS_DEVICE if the backend lacks the precision, or STATUS_NOMEM. */
enum status run_memory(struct backend *be, const struct config *config, int ranks, size_t *bytes,
                       struct error *err);
/* As run_memory, and compares *bytes with the memory the device had left when it was opened.
 * Returns STATUS_DEVICE, with a setting that would fit, if it is more. Backends without memory of
 * their own always pass. */
enum status run_check_memory(struct backend *be, const struct config *config, int ranks,
                             size_t *bytes, struct error *err);

/* Returns STATUS_CONFIG, with a remedy, if all steps of a resolved configuration are unrolled ones,
 * so that its equilibrium would never be trained. */
enum status run_check_steps(const struct config *config, struct error *err);
/* Says through observer->message if the warm-up is longer than a run of which `done` steps are
 * done. */
void run_warn_steps(const struct config *config, int64_t done, const struct run_observer *observer);

/* All ranks of options->dist. Trains until train.steps are done. Rank 0 alone writes to the folder.
 * An error that all ranks meet has its text on one of them only (dist_agree). An error of one rank
 * alone must be followed by dist_abort. A run that continues with another number of processes
 * differs only by rounding, since sums are made in another order. Returns
 *   - STATUS_STOPPED, with everything saved, if `stop` or the deadline ended it sooner
 *   - STATUS_CANTCREATE for a folder that holds another run or in which another process trains, and
 *     if a file cannot be made
 *   - STATUS_CHECK if too many steps in a row had no finite gradient
 *   - STATUS_CONFIG if the configuration does not fit the data, the ranks or the checkpoint, and
 *     what run_check_steps returns
 *   - STATUS_NOINPUT, STATUS_DATA or STATUS_IO for data and checkpoints that are missing, damaged
 * or unreadable, and STATUS_IO if writing fails
 *   - STATUS_DEVICE for a fault of the device or too little memory on it
 *   - STATUS_NOMEM, or STATUS_INTERNAL if zlib does not start */
enum status run_train(struct backend *be, const struct config *config,
                      const struct run_options *options, const struct run_observer *observer,
                      struct error *err);

#endif
