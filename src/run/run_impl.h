/* Shared by the parts of a run: the folder, the checkpoints, the log, the loop. */
#ifndef DEQ_RUN_RUN_IMPL_H
#define DEQ_RUN_RUN_IMPL_H

#include "base/worker.h"
#include "run/metrics.h"
#include "run/run.h"

enum { RUN_PATH = 4096 };

/* The names a checkpoint gets; several are one file. */
enum { SAVE_LAST = 1, SAVE_STEP = 2, SAVE_BEST = 4 };

struct save_job {
    unsigned names;
    int64_t step;
    double seconds; /* that writing took */
};

struct run {
    const struct run_options *options;
    const struct run_observer *observer;
    struct trainer trainer;
    struct model *eval_model; /* owns; NULL: no evaluation */
    struct stream *valid;     /* owns */
    struct metrics *log;      /* owns */
    int lock;                 /* descriptor that locks the folder; -1: none */
    /* the writer's while it is busy: */
    struct snapshot_image image;
    struct save_job job;
    struct worker *writer;             /* owns */
    bool own;                          /* goes on with this folder's checkpoint, or from none */
    int64_t saved;                     /* step of the newest checkpoint; -1: none */
    const char *stopping;              /* why; NULL while it goes on */
    double slowest_step, slowest_save; /* seconds */
    double reserve;                    /* seconds kept in hand before the deadline */
    int64_t skipped_in_a_row;
};

/* Whether this process is the one that writes. */
static inline bool run_writes(const struct run *run)
{
    return dist_rank(run->options->dist) == 0;
}

/* A message for whoever watches. */
void run_log_message(const struct run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* run_folder.c: DIR/name into out. */
enum status run_path(const struct run *run, char out[RUN_PATH], const char *name,
                     struct error *err);
bool run_is_file(const char *path);
/* Steps of the folder's numbered checkpoints, newest first; freed by the caller with mem_free. */
enum status run_list_steps(const struct run *run, int64_t **steps, size_t *count,
                           struct error *err);
void run_step_name(char out[64], int64_t step);
/* STATUS_CANTCREATE if the folder is there and holds something that is not this run. */
enum status run_check_folder(const struct run *run, struct error *err);
/* Makes the folder and its parents, if they are not there. */
enum status run_make_folder(const struct run *run, struct error *err);
/* Locks the folder, if it is there and not locked yet, and removes what a killed process left half
 * written in it. STATUS_CANTCREATE if another process trains in it. */
enum status run_lock_folder(struct run *run, struct error *err);
void run_unlock_folder(struct run *run);
enum status run_write_config(const struct run *run, struct error *err);

/* run_resume.c: the checkpoint of the folder to continue from, into `path`: last.bin; if it is
 * damaged or missing, the newest numbered one that is whole; then best.bin. path[0] 0 if the folder
 * has none at all; an error if it has, but none is whole. With RESUME_FILE that file,
 * or last.bin if it belongs to a run that began from that file. */
enum status run_find_checkpoint(const struct run *run, char path[RUN_PATH], struct error *err);
/* The trainer, from the checkpoint at `path` or from the seed. */
enum status run_open_trainer(struct run *run, struct backend *be, const struct config *config,
                             const char *path, struct error *err);

/* run_checkpoint.c: plans the copy and starts the writer. */
enum status run_open_writer(struct run *run, struct error *err);
/* Removes numbered checkpoints but the newest train.keep_last and those kept for good. Later ones
 * than `step` belong to a future that this run will come to, or to nobody: they are left alone. */
enum status run_remove_old(const struct run *run, int64_t step, struct error *err);
/* All ranks. Copies the state, once the writer is free, and has it written under these names.
 * Errors of the writing come from run_check_saved, run_wait_saved and the next run_save. */
enum status run_save(struct run *run, unsigned names, struct error *err);
enum status run_check_saved(struct run *run, struct error *err); /* without waiting */
enum status run_wait_saved(struct run *run, struct error *err);

/* run_evaluate.c: opens the validation split, if there is one and it is wanted. */
enum status run_open_validation(struct run *run, struct error *err);
/* Whether an evaluation belongs to the step done and has not been made. */
bool run_evaluation_due(const struct run *run);
/* All ranks. Makes it. *best: its loss is the lowest so far. A reason to stop breaks it off: it
 * stays due. */
enum status run_evaluate(struct run *run, bool *best, struct error *err);

/* All ranks. run.c: notes in run->stopping if any rank was asked to stop or its time is up; true if
 * so. */
bool run_must_stop(struct run *run);

/* run_log.c */
enum status run_log_step(struct run *run, const struct step_report *r, struct error *err);
enum status run_log_evaluation(struct run *run, const struct evaluation_result *r, bool best,
                               struct error *err);

#endif
