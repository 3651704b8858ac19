/* Shared by the parts of a run: the folder, the checkpoints, the log, the loop. */
#ifndef DEQ_TRAIN_RUN_IMPL_H
#define DEQ_TRAIN_RUN_IMPL_H

#include "io/metrics.h"
#include "train/run.h"

enum { RUN_PATH = 4096 };

struct run {
    const struct run_options *options;
    const struct run_observer *observer;
    struct trainer trainer;
    struct model *eval_model;     /* owns; NULL: no evaluation */
    struct stream *valid;         /* owns */
    struct metrics *log;          /* owns */
    double started, slowest_save; /* seconds */
    int64_t skipped_in_a_row;
};

/* A message for whoever watches. */
void run_tell(const struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* run_folder.c: DIR/name into out. */
enum status run_path(const struct run *run, char out[RUN_PATH], const char *name,
                     struct error *err);
bool run_is_file(const char *path);
/* STATUS_CANTCREATE if the folder is there and holds something that is not this run. */
enum status run_check_folder(const struct run *run, struct error *err);
/* Makes the folder and its parents, if they are not there. */
enum status run_make_folder(const struct run *run, struct error *err);
/* STATUS_CONFIG if `then`, of the checkpoint `path`, is about another model than `now`. How long,
 * how fast or how exactly it is trained may change under a run. */
enum status run_check_same(const struct config *now, const struct config *then, const char *path,
                           struct error *err);
enum status run_write_config(const struct run *run, struct error *err);

/* run_checkpoint.c: one checkpoint under that name. */
enum status run_save(struct run *run, const char *name, struct error *err);
/* last.bin and, on the way, a numbered one; old numbered ones go. */
enum status run_save_step(struct run *run, struct error *err);

/* run_log.c */
enum status run_log_step(struct run *run, const struct step_report *r, struct error *err);
enum status run_log_evaluation(struct run *run, const struct evaluation_result *r, bool best,
                               struct error *err);

#endif
