/* What the parts of a run share. */
#ifndef DEQ_RUN_RUN_IMPL_H
#define DEQ_RUN_RUN_IMPL_H

#include "base/worker.h"
#include "run/metrics.h"
#include "run/run.h"
#include "train/schedule.h"
#include <stdio.h>

enum { RUN_PATH = 4096 }; /* bytes of a path, its NUL included */

/* The names a checkpoint gets. Several names are links to one file. */
enum { SAVE_LAST = 1, SAVE_STEP = 2, SAVE_BEST = 4 };

struct save_job {
    unsigned names; /* SAVE_... */
    int64_t step;
    double seconds; /* that writing took */
};

struct run {
    const struct run_options *options;   /* borrows */
    const struct run_observer *observer; /* borrows */
    struct trainer trainer;
    struct model *eval_model; /* owns, NULL without evaluation */
    struct stream *valid;     /* owns */
    struct metrics *log;      /* owns, NULL on ranks that do not write */
    size_t bytes;             /* of run_memory */
    int lock;                 /* descriptor that locks the folder, or -1 */
    /* The writer's thread owns the image and the job while it is busy. */
    struct snapshot_image image;
    struct save_job job;
    struct worker *writer;             /* owns, NULL on ranks that do not write */
    bool continues_folder;             /* the run goes on with this folder, or begins in it */
    bool in_folder;                    /* the checkpoint to continue from lies in the folder */
    struct config_difference measured; /* the first key by which the best loss is another's */
    int64_t saved;                     /* step of the newest checkpoint, or -1 */
    const char *stopping;              /* why the run stops, or NULL while it goes on */
    double slowest_step, slowest_save; /* seconds */
    double reserve;                    /* seconds kept in hand before the deadline */
    int64_t skipped_in_a_row;
};

/* Whether this rank is the one that writes files. */
static inline bool run_writes(const struct run *run)
{
    return dist_rank(run->options->dist) == 0;
}

/* Hands a formatted message to the observer. */
void run_log_message(const struct run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* --- the folder ------------------------------------------------------------------------------- */

/* Writes DIR/name to `out`. Returns STATUS_CANTCREATE if that is too long. */
enum status run_path(const struct run *run, char out[RUN_PATH], const char *name,
                     struct error *err);
bool run_is_file(const char *path);
/* The steps of the folder's numbered checkpoints, newest first. The caller frees *steps with
 * mem_free. Returns STATUS_IO if the folder cannot be read, or STATUS_NOMEM. */
enum status run_list_steps(const struct run *run, int64_t **steps, size_t *count,
                           struct error *err);
/* The name of the numbered checkpoint of a step. */
void run_step_name(char out[64], int64_t step);
/* Returns STATUS_CANTCREATE if the folder exists and cannot be read, or holds files of a run
 * without being one. */
enum status run_check_folder(const struct run *run, struct error *err);
/* Makes the folder and its parents, unless they exist. Returns STATUS_CANTCREATE on failure. */
enum status run_make_folder(const struct run *run, struct error *err);
/* Locks the folder, if it exists and is not locked by this run yet, and removes the temporary files
 * that a killed process left in it. Returns STATUS_CANTCREATE if another process trains in it or
 * the lock cannot be created. */
enum status run_lock_folder(struct run *run, struct error *err);
void run_unlock_folder(struct run *run);
/* Writes config.json. Returns STATUS_CANTCREATE, STATUS_IO or STATUS_NOMEM on failure. */
enum status run_write_config(const struct run *run, struct error *err);

/* --- resuming --------------------------------------------------------------------------------- */

/* Writes the path of the checkpoint to continue from to `path`, or "" if the folder has none. It is
 * last.bin, or if that is damaged or missing the newest numbered one that is whole, or else
 * best.bin. With RESUME_FILE it is that file, or last.bin if that belongs to a run that began from
 * the file. Returns STATUS_NOINPUT if the file does not exist, STATUS_DATA or STATUS_IO if the
 * folder has checkpoints but none is whole, and otherwise the error of reading them or the folder.
 */
enum status run_find_checkpoint(const struct run *run, char path[RUN_PATH], struct error *err);
/* Creates the trainer from the checkpoint at `path`, or from the seed if `path` is "". Returns
 * STATUS_CONFIG if the checkpoint is of another model or seed, STATUS_CANTCREATE if it belongs to a
 * run that did not begin as init_from says, and what snapshot_open and
 * trainer_create return. */
enum status run_open_trainer(struct run *run, struct backend *be, const struct config *config,
                             const char *path, struct error *err);
/* Forgets the best loss if it was measured on another text than run->valid, with other settings or
 * in another folder, and says so. */
void run_check_best(struct run *run);

/* --- the steps and the learning rate ---------------------------------------------------------- */

/* The last step before the cool-down of a schedule "wsd" that began after `start`, or -1 for
 * another schedule. The checkpoint of that step is kept, so that one may go on from it in another
 * way. */
int64_t run_stable_step(const struct config_train *c, int64_t start);
/* Begins the schedule anew if `from` is the checkpoint of a finished run that is given more steps,
 * and says so. Says it if the schedule is another one than before. Returns STATUS_NOMEM. */
enum status run_carry_schedule(struct run *run, const struct snapshot *from, struct error *err);

/* --- checkpoints ------------------------------------------------------------------------------ */

/* Allocates the copy of the state and, on the rank that writes, starts the writer's thread. Returns
 * STATUS_NOMEM, or STATUS_IO if no thread can be started. */
enum status run_open_writer(struct run *run, struct error *err);
/* Removes numbered checkpoints up to `step` except the newest train.keep_last and those of
 * train.keep_every and that before a cool-down. Later ones stay, since this run may not have made
 * them. Returns STATUS_IO if the folder cannot be read, or STATUS_NOMEM. */
enum status run_remove_old(const struct run *run, int64_t step, struct error *err);
/* All ranks. Waits for the writer, copies the state and has it written under the names SAVE_... .
 * Returns the error of the save before, STATUS_NOMEM, or STATUS_DEVICE for a fault of the device.
 * run_check_saved, run_wait_saved and the next run_save return the error of the writing. */
enum status run_save(struct run *run, unsigned names, struct error *err);
/* Returns the error of the last save, or STATUS_OK if it is still under way. */
enum status run_check_saved(struct run *run, struct error *err);
/* Waits for the last save and returns its error. */
enum status run_wait_saved(struct run *run, struct error *err);

/* --- the loop and the log --------------------------------------------------------------------- */

/* All ranks. Whether any rank was asked to stop or its time is up. Sets run->stopping. */
bool run_must_stop(struct run *run);

/* Append a line to the log, on the rank that writes. They return STATUS_IO or STATUS_NOMEM. */
enum status run_log_start(struct run *run, struct error *err);
enum status run_log_step(struct run *run, const struct step_report *r, struct error *err);
enum status run_log_evaluation(struct run *run, const struct evaluation_result *r, bool best,
                               struct error *err);

#endif
