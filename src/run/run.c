/* The loop of a run, which trains, evaluates and saves until all steps are done. */
#include "run/run_impl.h"

#include "base/clock.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* After so many non-finite steps in a row no good one is expected any more. */
enum { SKIPPED_STEPS_MAX = 50 };

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

/* Whether the time left may not suffice for another step, for the save that may be under way and
 * for one more. */
static bool time_is_up(const struct run *run)
{
    double deadline = run->options->deadline;
    return deadline > 0 &&
           clock_seconds() + run->slowest_step + 2 * run->slowest_save + run->reserve > deadline;
}

/* Seconds to keep in hand before the deadline. It is one, or half of the time left if that is less.
 * Otherwise a limit of a second would end every call before its first step, and a script that
 * repeats the command would never end. */
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

/* --- evaluations ------------------------------------------------------------------------------ */

/* Whether each rank evaluates a part of the streams. If the batch cannot be divided, each evaluates
 * all of them. */
static bool divides_evaluation(const struct trainer *t)
{
    return t->config.eval.batch % dist_size(t->dist) == 0;
}

/* Opens the validation split, if there is one. */
static enum status open_validation(struct run *run, struct error *err)
{
    const struct trainer *t = &run->trainer;
    struct config c = t->config;
    struct stream_config data = {.dir = c.data.dir,
                                 .split = "valid",
                                 .format = c.data.format,
                                 .vocab = t->vocab,
                                 .batch = c.eval.batch,
                                 .length = c.eval.tgt_len};
    if (divides_evaluation(t)) {
        int ranks = dist_size(t->dist);
        data.partition = (struct stream_partition){1, ranks, dist_rank(t->dist)};
        c.eval.batch /= ranks;
    }
    enum status status = stream_open(&run->valid, &data, err);
    if (status == STATUS_NOINPUT) {
        run_log_message(run, "no validation split in %s: training without evaluation", c.data.dir);
        return STATUS_OK;
    }
    TRY(status);
    run_check_best(run);
    return evaluation_model(&run->eval_model, t->be, &c, t->model->params, false, err);
}

/* Whether an evaluation belongs to the last step and has not been made. */
static bool evaluation_due(const struct run *run)
{
    const struct config_train *c = &run->trainer.config.train;
    const struct train_state *state = &run->trainer.state;
    bool now = state->step == c->steps || (c->eval_every > 0 && state->step % c->eval_every == 0);
    return run->eval_model != NULL && now && state->evaluated < state->step;
}

/* Whether the validation loss has not fallen for so long that the training ends (Prechelt 1998). */
static bool out_of_patience(const struct run *run)
{
    int64_t patience = run->trainer.config.train.patience;
    return patience > 0 && run->eval_model != NULL && run->trainer.state.waited >= patience;
}

static bool is_finished(const struct run *run)
{
    bool all = run->trainer.state.step >= run->trainer.config.train.steps || out_of_patience(run);
    return all && !evaluation_due(run);
}

static bool on_progress(void *ctx, int64_t tokens, double nll)
{
    struct run *run = ctx;
    (void)nll;
    if (run->observer->evaluating != NULL)
        run->observer->evaluating(run->observer->ctx, tokens, stream_tokens_per_epoch(run->valid));
    return !run_must_stop(run);
}

/* All ranks. Evaluates the model. *best says whether its loss is the lowest so far. A reason to
 * stop breaks the evaluation off, and then it stays due. */
static enum status evaluate(struct run *run, bool *best, struct error *err)
{
    struct trainer *t = &run->trainer;
    const struct config *c = &t->config;
    struct evaluation_options options = {.max_iter = c->eval.max_iter,
                                         .leak_segments = 1,
                                         .vocab = t->vocab,
                                         .dist = divides_evaluation(t) ? t->dist : NULL,
                                         .progress = on_progress,
                                         .ctx = run};
    struct evaluation_result result;
    *best = false;
    if (t->state.step <= c->train.pretrain_steps)
        options.layers = c->train.pretrain_layers;
    trainer_show_average(t);
    model_refresh(run->eval_model);
    enum status status = evaluation_run(run->eval_model, run->valid, &options, &result, err);
    trainer_hide_average(t);
    if (status == STATUS_STOPPED)
        return STATUS_OK;
    TRY(status);
    /* What was measured in pre-training is the loss of another network. */
    bool other = t->state.best_step <= c->train.pretrain_steps && options.layers == 0;
    *best = other || result.nll < t->state.best_nll;
    t->state.evaluated = t->state.step;
    t->state.waited = *best || options.layers > 0 ? 0 : t->state.waited + 1;
    if (*best) {
        t->state.best_nll = result.nll;
        t->state.best_step = t->state.step;
        t->state.best = (struct snapshot_figures){.known = true,
                                                  .bits_per_byte = result.bits_per_byte,
                                                  .bits_per_byte_known = result.bits_per_byte_known,
                                                  .unknown = result.unknown};
    }
    TRY(run_log_evaluation(run, &result, *best, err));
    if (run->observer->evaluation != NULL)
        run->observer->evaluation(run->observer->ctx, t, &result, *best);
    if (out_of_patience(run) && t->state.step < c->train.steps)
        run_log_message(run,
                        "ended at step %lld of %lld: %lld evaluations in a row were not below "
                        "%.4f, the loss at step %lld (train.patience)",
                        (long long)t->state.step, (long long)c->train.steps,
                        (long long)t->state.waited, t->state.best_nll,
                        (long long)t->state.best_step);
    return STATUS_OK;
}

/* --- the loop --------------------------------------------------------------------------------- */

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
    if (run->skipped_in_a_row >= SKIPPED_STEPS_MAX)
        return error_set(err, STATUS_CHECK,
                         "%d steps in a row without a finite gradient, the last at step %lld: "
                         "lower train.lr or raise train.warmup_steps; the last good state is in "
                         "%s/last.bin",
                         SKIPPED_STEPS_MAX, (long long)t->state.step, run->options->dir);
    return STATUS_OK;
}

/* The names under which the last step is saved, or 0 if it is not. */
static unsigned checkpoint_due(const struct run *run)
{
    const struct config_train *c = &run->trainer.config.train;
    int64_t n = run->trainer.state.step;
    bool kept = (c->keep_every > 0 && n % c->keep_every == 0) ||
                n == run_stable_step(c, run->trainer.state.schedule_start);
    bool last = n == c->steps || out_of_patience(run);
    bool regular = last || (c->checkpoint_every > 0 && n % c->checkpoint_every == 0);
    if (n == 0 || n == run->saved || !(regular || kept))
        return 0;
    return c->keep_last > 0 || kept ? SAVE_LAST | SAVE_STEP : SAVE_LAST;
}

/* Makes the evaluation and then the checkpoint that belong to the last step. */
static enum status finish_step(struct run *run, struct error *err)
{
    unsigned names = 0;
    bool best;
    if (evaluation_due(run)) {
        TRY(evaluate(run, &best, err));
        if (evaluation_due(run))
            return STATUS_OK; /* it was broken off */
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

/* finish_step comes first, since a resumed run may have stopped before its last step was finished.
 */
static enum status loop(struct run *run, struct error *err)
{
    for (;;) {
        TRY(finish_step(run, err));
        if (is_finished(run))
            return run_wait_saved(run, err);
        TRY(run_check_saved(run, err));
        if (run_must_stop(run))
            return stop(run, err);
        TRY(step(run, err));
    }
}

/* --- opening ---------------------------------------------------------------------------------- */

/* On rank 0, checks and locks the folder and finds the checkpoint to continue from. */
static enum status open_folder(struct run *run, char path[RUN_PATH], struct error *err)
{
    if (!run_writes(run))
        return STATUS_OK;
    TRY(run_check_folder(run, err));
    TRY(run_lock_folder(run, err));
    return run_find_checkpoint(run, path, err);
}

/* On rank 0, once all ranks can train, makes the folder and opens the log. */
static enum status open_log(struct run *run, struct error *err)
{
    char path[RUN_PATH];
    struct train_state *state = &run->trainer.state;
    /* `logged` counts the lines of the log in the checkpoint's own folder. */
    struct metrics_position at = {.step = state->step,
                                  .evaluation = state->evaluated,
                                  .lines = run->continues_folder ? state->logged : 0};
    if (!run_writes(run))
        return STATUS_OK;
    TRY(run_make_folder(run, err));
    TRY(run_lock_folder(run, err));
    TRY(run_write_config(run, err)); /* first, as it marks the folder as that of a run */
    TRY(run_path(run, path, "log.jsonl", err));
    TRY(metrics_open_append(&run->log, path, &at, err));
    struct metrics_found found = metrics_found(run->log);
    if (found.unreadable > 0)
        run_log_message(run, "%s: %lld lines dropped that were damaged", path,
                        (long long)found.unreadable);
    if (found.missing > 0)
        run_log_message(run, "%s: %lld of %lld lines that belong to the checkpoint are missing",
                        path, (long long)found.missing, (long long)at.lines);
    state->logged = found.with_step;
    /* A process may have been killed between a save and the removal of older ones. */
    bool numbered = run->trainer.config.train.keep_last > 0;
    return numbered ? run_remove_old(run, state->step, err) : STATUS_OK;
}

/* Warns of a tolerance that rounding keeps out of reach, with which a solve always uses all its
 * evaluations. ||f|| of a row is about sqrt(d_model), which turns a relative floor into an absolute
 * one. */
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
    TRY(open_validation(run, err));
    return run_open_writer(run, err);
}

static enum status open_run(struct run *run, struct backend *be, const struct config *config,
                            struct error *err)
{
    char path[RUN_PATH] = "";
    struct dist *dist = run->options->dist;
    struct vocab *vocab = NULL;
    struct config resolved = *config;
    /* Faults of the input are found before anything is made. */
    enum status status = trainer_resolve_data(&resolved, dist, &vocab, err);
    vocab_free(vocab);
    TRY(dist_agree(dist, status, err));
    TRY(dist_agree(dist, run_check_steps(&resolved, err), err));
    warn_tolerance(run, config, &config->solver.forward, "forward");
    if (config->gradient.method == GRADIENT_IMPLICIT)
        warn_tolerance(run, config, &config->solver.backward, "backward");
    TRY(dist_agree(dist, run_check_memory(be, &resolved, dist_size(dist), &run->bytes, err), err));
    TRY(dist_agree(dist, open_folder(run, path, err), err));
    dist_broadcast(dist, path, sizeof path);
    TRY(dist_agree(dist, open_parts(run, be, &resolved, path, err), err));
    TRY(dist_agree(dist, open_log(run, err), err));
    if (run->trainer.state.schedule_start == 0) /* else the warm-up fits (schedule_from) */
        run_warn_steps(&resolved, run->trainer.state.step, run->observer);
    if (evaluation_due(run))
        run->saved = -1; /* the checkpoint that follows the evaluation was not made either */
    return STATUS_OK;
}

static void say_finished(const struct run *run)
{
    const struct train_state *state = &run->trainer.state;
    if (out_of_patience(run) && state->step < run->trainer.config.train.steps)
        run_log_message(run,
                        "nothing left to do: at step %lld train.patience had run out (raise it to "
                        "go on)",
                        (long long)state->step);
    else
        run_log_message(run,
                        "nothing left to do: all %lld steps are done (raise train.steps for more)",
                        (long long)state->step);
}

enum status run_train(struct backend *be, const struct config *config,
                      const struct run_options *options, const struct run_observer *observer,
                      struct error *err)
{
    enum status status = STATUS_OK;
    struct run run = {.options = options, .observer = observer, .lock = -1, .saved = -1};
    run.reserve = reserve(&run);
    TRY_OUT(open_run(&run, be, config, err));
    if (is_finished(&run))
        say_finished(&run);
    else
        TRY_OUT(dist_agree(options->dist, run_log_start(&run, err), err));
    if (observer->begin != NULL)
        observer->begin(observer->ctx, &run.trainer, run.bytes);
    TRY_OUT(loop(&run, err));
    if (observer->done != NULL)
        observer->done(observer->ctx, &run.trainer);
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
