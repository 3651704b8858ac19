/* Finds the checkpoint from which a run goes on, and checks that it belongs to the run. */
#include "run/run_impl.h"

#include "base/mem.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Whether a key must stay the same during a run. Keys that say what the network is must. How it is
 * trained and where its data lie may change. */
static bool is_fixed(const char *path)
{
    /* A name that ends with a dot stands for all keys below it. */
    static const char *const changeable[] = {
        "data.",         "solver.",          "gradient.",      "jacobian.",
        "correction.",   "train.",           "eval.",          "model.dropout",
        "model.dropatt", "model.dropouti",   "model.dropouth", "model.emb_dropout",
        "model.wdrop",   "model.vocab_size",
    };
    for (size_t i = 0; i < sizeof changeable / sizeof *changeable; i++) {
        const char *name = changeable[i];
        size_t n = strlen(name);
        if (name[n - 1] == '.' ? strncmp(path, name, n) == 0 : strcmp(path, name) == 0)
            return false;
    }
    return true;
}

/* Returns STATUS_CONFIG if `then`, of the checkpoint `path`, describes another model than `now`. */
static enum status check_same(const struct config *now, const struct config *then, const char *path,
                              struct error *err)
{
    struct config_difference d;
    TRY(config_compare(then, now, is_fixed, &d, err));
    if (d.path == NULL)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "%s: was made with %s %s, not %s: choose another --out, or the configuration "
                     "it was made with (deq info %s)",
                     path, d.path, d.a, d.b, path);
}

/* Returns STATUS_CONFIG if the seeds differ, since weights of one seed with masks of another belong
 * to no run. A checkpoint that --resume names may have another seed. */
static enum status check_seed(const struct run *run, const struct config *now,
                              const struct config *then, const char *path, struct error *err)
{
    if (run->options->resume == RESUME_FILE || now->train.seed == then->train.seed)
        return STATUS_OK;
    return error_set(err, STATUS_CONFIG,
                     "%s: was trained with train.seed %lld, not %lld: choose another --out for "
                     "another seed",
                     path, (long long)then->train.seed, (long long)now->train.seed);
}

/* Reads and checks the whole file, so that damage shows before the trainer is half restored. */
static enum status check_whole(const char *path, struct error *err)
{
    struct checkpoint *file;
    TRY(checkpoint_open(&file, path, err));
    enum status status = checkpoint_verify(file, err);
    checkpoint_close(file);
    return status;
}

static bool is_damage(enum status status)
{
    return status == STATUS_DATA || status == STATUS_IO;
}

/* Writes the path of checkpoint `name` to `path` and returns true if the file is whole. A damaged
 * one is reported to the observer. *status and `err` keep the first damage, but any other error
 * replaces it. */
static bool take_if_whole(const struct run *run, const char *name, char path[RUN_PATH],
                          enum status *status, struct error *err)
{
    struct error why;
    enum status found = run_path(run, path, name, &why);
    if (found == STATUS_OK && !run_is_file(path))
        return false;
    if (found == STATUS_OK)
        found = check_whole(path, &why);
    if (found == STATUS_OK)
        return true;
    run_log_message(run, "skipped, damaged: %.900s", why.text);
    if (*status == STATUS_OK || !is_damage(found)) {
        *status = found;
        *err = why;
    }
    return false;
}

/* Whether `state` belongs to a run that began from the file of --resume. The same command then
 * continues that run and does not begin again. */
static bool began_from_file(const struct run *run, const struct train_state *state)
{
    char origin[SNAPSHOT_ORIGIN_MAX];
    snprintf(origin, sizeof origin, "%s", run->options->resume_file);
    return strcmp(origin, state->origin) == 0;
}

/* Writes the path of last.bin to `path` and returns true if it is whole and belongs to such a run.
 */
static bool find_begun(const struct run *run, char path[RUN_PATH])
{
    struct snapshot last;
    struct error ignored;
    if (run_path(run, path, "last.bin", &ignored) != STATUS_OK || !run_is_file(path) ||
        snapshot_open(&last, path, &ignored) != STATUS_OK)
        return false;
    bool begun =
        began_from_file(run, &last.state) && checkpoint_verify(last.file, &ignored) == STATUS_OK;
    snapshot_close(&last);
    return begun;
}

enum status run_find_checkpoint(const struct run *run, char path[RUN_PATH], struct error *err)
{
    enum status status = STATUS_OK;
    char name[64];
    int64_t *steps = NULL;
    size_t count = 0;
    if (run->options->resume == RESUME_FILE) {
        if (find_begun(run, path))
            return STATUS_OK;
        if (snprintf(path, RUN_PATH, "%s", run->options->resume_file) >= RUN_PATH)
            return error_set(err, STATUS_NOINPUT, "--resume: path too long");
        if (access(path, F_OK) != 0)
            return error_set(err, STATUS_NOINPUT,
                             "--resume: want auto, never or a checkpoint; %s: %s", path,
                             strerror(errno));
        return STATUS_OK;
    }
    if (take_if_whole(run, "last.bin", path, &status, err))
        return STATUS_OK;
    TRY(run_list_steps(run, &steps, &count, err));
    bool found = false;
    for (size_t i = 0; i < count && !found; i++) {
        run_step_name(name, steps[i]);
        found = take_if_whole(run, name, path, &status, err);
    }
    mem_free(steps);
    if (found || take_if_whole(run, "best.bin", path, &status, err))
        return STATUS_OK;
    path[0] = '\0';
    if (is_damage(status)) {
        char first[sizeof err->text];
        snprintf(first, sizeof first, "%.700s", err->text);
        return error_set(err, status,
                         "%s: none of its checkpoints is whole (%s); restore one, or begin again "
                         "with another --out",
                         run->options->dir, first);
    }
    return status;
}

/* Reports what another number of processes changes. */
static void report_ranks(const struct run *run)
{
    long long before = (long long)run->trainer.state.ranks;
    int now = dist_size(run->options->dist);
    if (run->trainer.state.step > 0 && before != now)
        run_log_message(run,
                        "now %d processes, before %lld: batches, masks and memory are the same, "
                        "but sums are made in another order, so that losses differ by rounding",
                        now, before);
}

static bool is_last(const struct run *run, const char *path)
{
    char last[RUN_PATH];
    struct error ignored;
    return run_path(run, last, "last.bin", &ignored) == STATUS_OK && strcmp(path, last) == 0;
}

enum status run_open_trainer(struct run *run, struct backend *be, const struct config *config,
                             const char *path, struct error *err)
{
    struct snapshot from;
    struct dist *dist = run->options->dist;
    run->continues_folder = run->options->resume != RESUME_FILE;
    if (path[0] == '\0')
        return trainer_create(&run->trainer, be, dist, config, NULL, err);
    TRY(snapshot_open(&from, path, err));
    enum status status = check_same(config, &from.config, path, err);
    if (status == STATUS_OK)
        status = check_seed(run, config, &from.config, path, err);
    if (status == STATUS_OK)
        status = trainer_create(&run->trainer, be, dist, config, &from, err);
    if (status == STATUS_OK) {
        if (is_last(run, path) && began_from_file(run, &from.state))
            run->continues_folder = true;
        if (!run->continues_folder)
            snprintf(run->trainer.state.origin, SNAPSHOT_ORIGIN_MAX, "%s",
                     run->options->resume_file);
        run_log_message(run, "continuing from %s at step %lld", path, (long long)from.state.step);
        report_ranks(run);
    }
    snapshot_close(&from);
    if (run->continues_folder && is_last(run, path))
        run->saved = run->trainer.state.step;
    return status;
}
