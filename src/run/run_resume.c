/* Finds the checkpoint from which a run goes on, and checks that it belongs to the run. */
#include "run/run_impl.h"

#include "base/mem.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Returns STATUS_CONFIG if `then`, of the checkpoint `path`, describes another model than `now`. */
static enum status check_same(const struct config *now, const struct config *then, const char *path,
                              struct error *err)
{
    struct config_difference d;
    TRY(config_compare(then, now, config_is_model_key, &d, err));
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

/* What a run remembers of the checkpoint that it began from, or "". */
static void origin_of(const struct run_options *o, char out[SNAPSHOT_ORIGIN_MAX])
{
    const char *file = o->resume == RESUME_FILE ? o->resume_file : o->init_from;
    snprintf(out, SNAPSHOT_ORIGIN_MAX, "%s%s", file == o->init_from && file ? "weights of " : "",
             file != NULL ? file : "");
}

/* Whether `state` belongs to a run that began from the file of --resume or --init-from. The same
 * command then continues that run and does not begin again. */
static bool began_from_file(const struct run *run, const struct train_state *state)
{
    char origin[SNAPSHOT_ORIGIN_MAX];
    origin_of(run->options, origin);
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

/* --- what belongs to other data and settings -------------------------------------------------- */

/* Whether a validation loss depends on the key. */
static bool is_measure(const char *path)
{
    return strncmp(path, "eval.", 5) == 0 || strncmp(path, "solver.forward.", 15) == 0;
}

static bool is_measure_or_folder(const char *path)
{
    return is_measure(path) || strcmp(path, "data.dir") == 0;
}

void run_check_best(struct run *run)
{
    struct train_state *state = &run->trainer.state;
    const struct config_difference *d = &run->measured;
    uint64_t text = stream_digest(run->valid);
    char why[3 * CONFIG_SHOWN + 64] = "";
    if (!run->in_folder)
        snprintf(why, sizeof why, "belongs to another run");
    else if (state->valid_text != 0 && state->valid_text != text)
        snprintf(why, sizeof why, "was measured on another validation text");
    else if (d->path != NULL)
        snprintf(why, sizeof why, "was measured with %s %s, not %s", d->path, d->a, d->b);
    if (why[0] != '\0' && isfinite(state->best_nll)) {
        run_log_message(run, "the best loss so far, %.4f at step %lld, %s: best.bin begins anew",
                        state->best_nll, (long long)state->best_step, why);
        state->best_nll = INFINITY;
        state->best = (struct snapshot_figures){0};
        state->best_step = state->waited = 0;
    }
    state->valid_text = text;
}

/* Says what of the checkpoint could not be used. */
static void report_dropped(const struct run *run)
{
    const struct trainer *t = &run->trainer;
    const struct trainer_dropped *d = &t->dropped;
    if (d->optimizer)
        run_log_message(run, "another optimizer than before: its state begins anew");
    if (d->text)
        run_log_message(run, "another training text than before: it is read from its start");
    else if (d->repeated > 0)
        run_log_message(run,
                        "another batch or length than before: %lld tokens are read again, since a "
                        "segment begins there",
                        (long long)d->repeated);
    if (d->memory)
        run_log_message(run, "the segment memory belongs to another text, batch or place: it "
                             "starts empty");
}

/* Begins anew what --reset says. A run that was stopped and goes on by the same command has done so
 * already. */
static enum status reset(struct run *run, const struct snapshot *from, struct error *err)
{
    unsigned what = run->options->reset;
    const struct train_state *then = &from->state;
    bool stopped = run->continues_folder && then->step < from->config.train.steps;
    if (what == 0 || (stopped && then->reset == (int64_t)what)) {
        run->trainer.state.reset = what;
        return STATUS_OK;
    }
    TRY(trainer_reset(&run->trainer, what, err));
    run_log_message(run, "begun anew:%s%s%s", what & TRAINER_RESET_OPTIMIZER ? " optimizer" : "",
                    what & TRAINER_RESET_SCHEDULE ? " schedule" : "",
                    what & TRAINER_RESET_DATA ? " data" : "");
    if (what & TRAINER_RESET_SCHEDULE) {
        char text[SCHEDULE_TEXT];
        schedule_text(&run->trainer.config.train, run->trainer.state.schedule_start, text);
        run_log_message(run, "the learning rate %s", text);
    }
    return STATUS_OK;
}

/* --- the trainer ------------------------------------------------------------------------------ */

/* Begins a new run, with the weights of a checkpoint if --init-from names one. */
static enum status begin_trainer(struct run *run, struct backend *be, const struct config *config,
                                 struct error *err)
{
    struct snapshot from;
    const char *path = run->options->init_from;
    TRY(trainer_create(&run->trainer, be, run->options->dist, config, NULL, err));
    run->trainer.state.reset = run->options->reset;
    if (path == NULL)
        return STATUS_OK;
    TRY(snapshot_open(&from, path, err));
    enum status status = check_same(config, &from.config, path, err);
    if (status == STATUS_OK)
        status = trainer_take_weights(&run->trainer, &from, err);
    origin_of(run->options, run->trainer.state.origin);
    snapshot_close(&from);
    if (status == STATUS_OK)
        run_log_message(run, "beginning with the weights of %s", path);
    return status;
}

/* Whether the checkpoint lies in the folder of the run. */
static bool is_in_folder(const struct run *run, const char *path)
{
    struct stat a, b;
    char folder[RUN_PATH];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - path) + 1 : 1,
             slash != NULL ? path : ".");
    return stat(folder, &a) == 0 && stat(run->options->dir, &b) == 0 && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

/* Checks that the checkpoint belongs to this run. */
static enum status check_origin(const struct run *run, const struct config *config,
                                const struct snapshot *from, const char *path, struct error *err)
{
    if (run->options->init_from != NULL && !began_from_file(run, &from->state))
        return error_set(err, STATUS_CANTCREATE,
                         "%s: is of a run that did not begin with the weights of %s: choose "
                         "another --out, or leave out --init-from to continue it",
                         path, run->options->init_from);
    TRY(check_same(config, &from->config, path, err));
    return check_seed(run, config, &from->config, path, err);
}

/* Compares what the checkpoint was made with, and says what changes. */
static enum status compare(struct run *run, const struct snapshot *from, const char *path,
                           struct error *err)
{
    const struct train_state *then = &from->state;
    bool known = then->valid_text != 0;
    if (is_last(run, path) && began_from_file(run, then))
        run->continues_folder = true;
    run->in_folder = run->continues_folder || is_in_folder(run, path);
    if (!run->continues_folder)
        origin_of(run->options, run->trainer.state.origin);
    run_log_message(run, "continuing from %s at step %lld", path, (long long)then->step);
    report_ranks(run);
    report_dropped(run);
    TRY(run_carry_schedule(run, from, err));
    TRY(config_compare(&from->config, &run->trainer.config,
                       known ? is_measure : is_measure_or_folder, &run->measured, err));
    return reset(run, from, err);
}

enum status run_open_trainer(struct run *run, struct backend *be, const struct config *config,
                             const char *path, struct error *err)
{
    struct snapshot from;
    struct dist *dist = run->options->dist;
    run->continues_folder = run->options->resume != RESUME_FILE;
    if (path[0] == '\0')
        return begin_trainer(run, be, config, err);
    TRY(snapshot_open(&from, path, err));
    enum status status = check_origin(run, config, &from, path, err);
    if (status == STATUS_OK)
        status = trainer_create(&run->trainer, be, dist, config, &from, err);
    if (status == STATUS_OK)
        status = compare(run, &from, path, err);
    snapshot_close(&from);
    if (run->continues_folder && is_last(run, path))
        run->saved = run->trainer.state.step;
    return status;
}
