#include "run/run_impl.h"

#include "base/clock.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* Non-finite steps in a row after which no good one is to be expected. */
enum { HOPELESS_STEPS = 50 };

void run_log_message(const struct run *run, const char *format, ...)
{
    char text[1024];
    va_list args;
    if (run->observer->message == NULL)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    run->observer->message(run->observer->ctx, text);
}

/* The time left must suffice for another step, for the save that may be under way and for one
 * more. */
static bool time_is_up(const struct run *run)
{
    double deadline = run->options->deadline;
    return deadline > 0 &&
           clock_seconds() + run->slowest_step + 2 * run->slowest_save + run->reserve > deadline;
}

/* A second, but half of a shorter time: a limit of a second would else end every call before its
 * first step, and a script that repeats the command would never end. */
static double reserve(const struct run *run)
{
    return fmax(0, fmin(1, 0.5 * (run->options->deadline - clock_seconds())));
}

bool run_must_stop(struct run *run)
{
    static const char *const reasons[] = {NULL, "time limit reached", "asked to stop"};
    bool asked = run->options->stop != NULL && atomic_load(run->options->stop);
    run->stopping = reasons[dist_max(run->options->dist, asked ? 2 : time_is_up(run))];
    return run->stopping != NULL;
}

static enum status step(struct run *run, struct error *err)
{
    struct trainer *t = &run->trainer;
    const struct config_train *c = &t->config.train;
    struct step_report report;
    TRY(trainer_step(t, &report, err));
    if (report.seconds > run->slowest_step)
        run->slowest_step = report.seconds;
    if (report.step % c->log_every == 0 || report.step == c->steps || report.skipped)
        TRY(run_log_step(run, &report, err));
    if (run->observer->step != NULL)
        run->observer->step(run->observer->ctx, t, &report);
    run->skipped_in_a_row = report.skipped ? run->skipped_in_a_row + 1 : 0;
    if (run->skipped_in_a_row >= HOPELESS_STEPS)
        return error_set(err, STATUS_CHECK,
                         "%d steps in a row without a finite gradient, the last at step %lld: "
                         "lower train.lr or raise train.warmup_steps; the last good state is in "
                         "%s/last.bin",
                         HOPELESS_STEPS, (long long)t->state.step, run->options->dir);
    return STATUS_OK;
}

/* The names under which the step done is saved, if it is. */
static unsigned checkpoint_due(const struct run *run)
{
    const struct config_train *c = &run->trainer.config.train;
    int64_t n = run->trainer.state.step;
    bool for_good = c->keep_every > 0 && n % c->keep_every == 0;
    bool regular = n == c->steps || (c->checkpoint_every > 0 && n % c->checkpoint_every == 0);
    if (n == 0 || n == run->saved || !(regular || for_good))
        return 0;
    return c->keep_last > 0 || for_good ? SAVE_LAST | SAVE_STEP : SAVE_LAST;
}

/* What belongs to the step done: its evaluation, then its checkpoint. */
static enum status finish_step(struct run *run, struct error *err)
{
    unsigned names = 0;
    bool best;
    if (run_evaluation_due(run)) {
        TRY(run_evaluate(run, &best, err));
        if (run_evaluation_due(run))
            return STATUS_OK; /* broken off */
        names |= best ? SAVE_BEST : 0;
    }
    names |= checkpoint_due(run);
    return names != 0 ? run_save(run, names, err) : STATUS_OK;
}

static enum status stop(struct run *run, struct error *err)
{
    const struct trainer *t = &run->trainer;
    if (run->saved != t->state.step)
        TRY(run_save(run, SAVE_LAST, err));
    TRY(run_wait_saved(run, err));
    const char *how =
        run->options->resume == RESUME_NEVER ? "run it with --resume auto" : "run the same command";
    return error_set(err, STATUS_STOPPED, "%s: saved at step %lld of %lld; %s to continue",
                     run->stopping, (long long)t->state.step, (long long)t->config.train.steps,
                     how);
}

/* A resumed run may have stopped before what belongs to its last step was done, so that comes
 * first. */
static enum status loop(struct run *run, struct error *err)
{
    const struct trainer *t = &run->trainer;
    for (;;) {
        TRY(finish_step(run, err));
        if (t->state.step >= t->config.train.steps && !run_evaluation_due(run))
            return run_wait_saved(run, err);
        TRY(run_check_saved(run, err));
        if (run_must_stop(run))
            return stop(run, err);
        TRY(step(run, err));
    }
}

/* What rank 0 alone does: which checkpoint to continue from ... */
static enum status open_folder(struct run *run, char path[RUN_PATH], struct error *err)
{
    if (!run_writes(run))
        return STATUS_OK;
    TRY(run_check_folder(run, err));
    TRY(run_lock_folder(run, err));
    return run_find_checkpoint(run, path, err);
}

/* ... and, once all can train, the folder and what is written there. */
static enum status open_log(struct run *run, struct error *err)
{
    char path[RUN_PATH];
    struct train_state *state = &run->trainer.state;
    struct metrics_position at = {.step = state->step,
                                  .evaluation = state->evaluated,
                                  .lines = run->own ? state->logged
                                                    : 0}; /* else the log is another one */
    if (!run_writes(run))
        return STATUS_OK;
    TRY(run_make_folder(run, err));
    TRY(run_lock_folder(run, err));
    TRY(run_write_config(run, err)); /* first: it marks the folder as that of a run */
    TRY(run_path(run, path, "log.jsonl", err));
    TRY(metrics_open_append(&run->log, path, &at, err));
    struct metrics_found found = metrics_found(run->log);
    if (found.unreadable > 0)
        run_log_message(run, "%s: %lld lines dropped that were damaged", path,
                        (long long)found.unreadable);
    if (found.missing > 0)
        run_log_message(run, "%s: %lld of %lld lines that belong to the checkpoint are missing",
                        path, (long long)found.missing, (long long)at.lines);
    state->logged = found.kept;
    /* what a process left that was killed between a save and the removal of older ones */
    bool numbered = run->trainer.config.train.keep_last > 0;
    return numbered ? run_remove_old(run, state->step, err) : STATUS_OK;
}

/* Warns of a tolerance that rounding keeps out of reach: such a solve always uses all its
 * evaluations. ||f|| of a row is about sqrt(d_model), which makes a relative floor absolute. */
static void warn_tolerance(const struct run *run, const struct config *c,
                           const struct solver_config *s, const char *name)
{
    double floor = precision_floor(c->train.precision);
    if (s->stop == STOP_ABS)
        floor *= sqrt((double)c->model.d_model);
    if (s->stop == STOP_FIXED || s->tol >= floor)
        return;
    run_log_message(
        run,
        "warning: solver.%s.tol: %g cannot be reached with train.precision %s, whose "
        "rounding leaves residuals of about %.1g: every solve will use up its evaluations. "
        "Raise it, or take fp32",
        name, s->tol, precision_name(c->train.precision), floor);
}

static enum status open_parts(struct run *run, struct backend *be, const struct config *config,
                              const char *path, struct error *err)
{
    TRY(run_open_trainer(run, be, config, path, err));
    TRY(run_open_validation(run, err));
    return run_open_writer(run, err);
}

static enum status open_run(struct run *run, struct backend *be, const struct config *config,
                            struct error *err)
{
    char path[RUN_PATH] = "";
    struct dist *dist = run->options->dist;
    struct vocab *vocab = NULL;
    struct config resolved = *config;
    /* what can be wrong with the input is found before anything is made */
    enum status status = trainer_resolve_data(&resolved, dist, &vocab, err);
    vocab_free(vocab);
    TRY(dist_agree(dist, status, err));
    warn_tolerance(run, config, &config->solver.forward, "forward");
    if (config->gradient.method == GRADIENT_IMPLICIT)
        warn_tolerance(run, config, &config->solver.backward, "backward");
    TRY(dist_agree(dist, run_check_memory(be, &resolved, dist_size(dist), err), err));
    TRY(dist_agree(dist, open_folder(run, path, err), err));
    dist_broadcast(dist, path, sizeof path);
    TRY(dist_agree(dist, open_parts(run, be, &resolved, path, err), err));
    TRY(dist_agree(dist, open_log(run, err), err));
    if (run_evaluation_due(run))
        run->saved = -1; /* the checkpoint that belongs to it was left out too */
    return STATUS_OK;
}

enum status run_train(struct backend *be, const struct config *config,
                      const struct run_options *options, const struct run_observer *observer,
                      struct error *err)
{
    enum status status = STATUS_OK;
    struct run run = {.options = options, .observer = observer, .lock = -1, .saved = -1};
    run.reserve = reserve(&run);
    TRY_OUT(open_run(&run, be, config, err));
    if (run.trainer.state.step >= run.trainer.config.train.steps && !run_evaluation_due(&run))
        run_log_message(&run,
                        "nothing left to do: all %lld steps are done (raise train.steps for more)",
                        (long long)run.trainer.state.step);
    if (observer->begin != NULL)
        observer->begin(observer->ctx, &run.trainer);
    TRY_OUT(loop(&run, err));
out:
    worker_close(run.writer);
    snapshot_image_free(&run.image);
    metrics_close(run.log);
    model_free(run.eval_model);
    stream_close(run.valid);
    trainer_free(&run.trainer);
    run_unlock_folder(&run);
    return status;
}
