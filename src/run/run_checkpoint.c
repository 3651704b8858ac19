/* Saves the checkpoints of a run, by a copy of the state that a thread writes. */
#include "run/run_impl.h"

#include "base/atomic_file.h"
#include "base/clock.h"
#include "base/mem.h"
#include <stdio.h>
#include <unistd.h>

/* Training goes before writing where both want the processor. */
enum { WRITER_NICENESS = 19 };
/* The speed of writing, in bytes a second, that is assumed until a save has been timed. */
static const double ASSUMED_WRITE_SPEED = 50e6;

/* Gives the file at `path` another name by a hard link. Where links cannot be made, it writes the
 * checkpoint once more. */
static enum status add_name(const struct run *run, const char *path, const char *name,
                            struct error *err)
{
    char link_path[RUN_PATH], other[RUN_PATH], link_name[64];
    snprintf(link_name, sizeof link_name, "%s" ATOMIC_FILE_MARK "%ld-link", name, (long)getpid());
    TRY(run_path(run, other, name, err));
    TRY(run_path(run, link_path, link_name, err));
    unlink(link_path);
    if (link(path, link_path) == 0 && rename(link_path, other) == 0)
        return STATUS_OK;
    unlink(link_path);
    return snapshot_write(other, &run->image, err);
}

enum status run_remove_old(const struct run *run, int64_t step, struct error *err)
{
    const struct config_train *c = &run->trainer.config.train;
    char name[64], path[RUN_PATH];
    int64_t *steps, newest = 0;
    int64_t stable = run_stable_step(c, run->trainer.state.schedule_start);
    size_t count;
    TRY(run_list_steps(run, &steps, &count, err));
    for (size_t i = 0; i < count; i++) {
        bool kept = (c->keep_every > 0 && steps[i] % c->keep_every == 0) || steps[i] == stable;
        if (steps[i] > step || newest++ < c->keep_last || kept)
            continue;
        run_step_name(name, steps[i]);
        if (run_path(run, path, name, err) == STATUS_OK)
            (void)unlink(path);
    }
    mem_free(steps);
    return STATUS_OK;
}

static enum status write_names(const struct run *run, const struct save_job *job, struct error *err)
{
    char path[RUN_PATH], step_name[64];
    const char *names[3];
    int count = 0;
    run_step_name(step_name, job->step);
    if (job->names & SAVE_STEP)
        names[count++] = step_name;
    if (job->names & SAVE_BEST)
        names[count++] = "best.bin";
    if (job->names & SAVE_LAST) /* last, since a run that continues from it makes no other again */
        names[count++] = "last.bin";
    TRY(metrics_sync(run->log, err)); /* a log never lacks steps of a checkpoint */
    TRY(run_path(run, path, names[0], err));
    TRY(snapshot_write(path, &run->image, err));
    for (int i = 1; i < count; i++)
        TRY(add_name(run, path, names[i], err));
    if (count > 1)
        TRY(atomic_folder_sync(run->options->dir, err));
    return job->names & SAVE_STEP ? run_remove_old(run, job->step, err) : STATUS_OK;
}

/* The writer's thread runs this for every save. */
static enum status write_job(void *ctx, struct error *err)
{
    struct run *run = ctx;
    double start = clock_seconds();
    TRY(write_names(run, &run->job, err));
    run->job.seconds = clock_seconds() - start;
    return STATUS_OK;
}

enum status run_open_writer(struct run *run, struct error *err)
{
    struct snapshot_source source = trainer_snapshot(&run->trainer);
    TRY(snapshot_image_create(&run->image, &source, err));
    if (!run_writes(run))
        return STATUS_OK;
    run->slowest_save = (double)snapshot_image_bytes(&run->image) / ASSUMED_WRITE_SPEED;
    return worker_open(&run->writer, write_job, run, WRITER_NICENESS, err);
}

enum status run_wait_saved(struct run *run, struct error *err)
{
    if (run->writer == NULL)
        return STATUS_OK;
    TRY(worker_wait(run->writer, err));
    if (run->job.seconds > run->slowest_save)
        run->slowest_save = run->job.seconds;
    return STATUS_OK;
}

enum status run_check_saved(struct run *run, struct error *err)
{
    return run->writer != NULL && worker_busy(run->writer) ? STATUS_OK : run_wait_saved(run, err);
}

enum status run_save(struct run *run, unsigned names, struct error *err)
{
    const struct train_state *state = &run->trainer.state;
    struct snapshot_source source = trainer_snapshot(&run->trainer);
    TRY(run_wait_saved(run, err));
    /* Rank 0 alone sees weights that are not finite. */
    TRY(dist_agree(run->options->dist, snapshot_take(&run->image, &source, err), err));
    run->job = (struct save_job){.names = names, .step = state->step};
    if (run->writer != NULL)
        worker_start(run->writer);
    if (names & SAVE_LAST)
        run->saved = state->step;
    return STATUS_OK;
}
