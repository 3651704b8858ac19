/* The checkpoints of a run. */
#include "train/run_impl.h"

#include "base/clock.h"
#include "io/atomic_file.h"
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

enum { STEP_NAME_DIGITS = 8 };

enum status run_save(struct run *run, const char *name, struct error *err)
{
    char path[RUN_PATH];
    double start = clock_seconds();
    struct snapshot_source source = trainer_snapshot(&run->trainer);
    TRY(metrics_sync(run->log, err));
    TRY(run_path(run, path, name, err));
    TRY(snapshot_write(path, &source, err));
    double took = clock_seconds() - start;
    run->slowest_save = took > run->slowest_save ? took : run->slowest_save;
    return STATUS_OK;
}

/* The step of a file named step-NNNNNNNN.bin, or -1. */
static int64_t step_of_name(const char *name)
{
    long long step;
    int end = 0;
    if (sscanf(name, "step-%lld.bin%n", &step, &end) != 1 || end == 0 || name[end] != '\0')
        return -1;
    return step;
}

/* Removes step checkpoints beyond the newest `keep_last`. */
static void remove_old(const struct run *run)
{
    const char *folder = run->options->dir;
    for (;;) {
        DIR *dir = opendir(folder);
        int64_t count = 0, oldest = INT64_MAX;
        char name[64] = "", path[RUN_PATH];
        struct error ignored;
        if (dir == NULL)
            return;
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
            int64_t step = step_of_name(entry->d_name);
            count += step >= 0;
            if (step >= 0 && step < oldest) {
                oldest = step;
                snprintf(name, sizeof name, "%.63s", entry->d_name);
            }
        }
        closedir(dir);
        if (count <= run->trainer.config.train.keep_last ||
            run_path(run, path, name, &ignored) != STATUS_OK || unlink(path) != 0)
            return;
    }
}

/* last.bin, and on the way a step checkpoint: one file under two names where links can be made. */
enum status run_save_step(struct run *run, struct error *err)
{
    char name[64], step_path[RUN_PATH], last_path[RUN_PATH], link_path[RUN_PATH];
    if (run->trainer.config.train.keep_last == 0)
        return run_save(run, "last.bin", err);
    snprintf(name, sizeof name, "step-%0*lld.bin", STEP_NAME_DIGITS,
             (long long)run->trainer.state.step);
    TRY(run_save(run, name, err));
    TRY(run_path(run, step_path, name, err));
    TRY(run_path(run, last_path, "last.bin", err));
    TRY(run_path(run, link_path, "last.bin" ATOMIC_FILE_MARK "link", err));
    unlink(link_path);
    if (link(step_path, link_path) != 0 || rename(link_path, last_path) != 0) {
        unlink(link_path);
        TRY(run_save(run, "last.bin", err));
    }
    TRY(atomic_folder_sync(run->options->dir, err));
    remove_old(run);
    return STATUS_OK;
}
