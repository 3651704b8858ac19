#include "train/run_impl.h"

#include "base/clock.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

/* Non-finite steps in a row after which no good one is to be expected. */
enum { HOPELESS_STEPS = 50 };

void run_tell(const struct run *run, const char *format, ...)
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

/* --- evaluation ------------------------------------------------------------------------------- */

static enum status open_validation(struct run *run, struct error *err)
{
    const struct config *c = &run->trainer.config;
    struct stream_config data = {
        .dir = c->data.dir, .split = "valid", .batch = c->eval.batch, .length = c->eval.tgt_len};
    if (c->train.eval_every == 0)
        return STATUS_OK;
    enum status status = stream_open(&run->valid, &data, err);
    if (status == STATUS_NOINPUT) {
        run_tell(run, "no validation split in %s: training without evaluation", c->data.dir);
        return STATUS_OK;
    }
    TRY(status);
    return evaluation_model(&run->eval_model, run->trainer.be, c, run->trainer.model->params, err);
}

static bool wants_stop(const struct run *run)
{
    return run->options->stop != NULL && *run->options->stop != 0;
}

static bool on_progress(void *ctx, int64_t tokens, double nll)
{
    struct run *run = ctx;
    (void)nll;
    if (run->observer->evaluating != NULL)
        run->observer->evaluating(run->observer->ctx, tokens, stream_tokens_per_epoch(run->valid));
    return !wants_stop(run);
}

/* Evaluates; a stop in the middle leaves the evaluation out. */
static enum status evaluate(struct run *run, struct error *err)
{
    struct trainer *t = &run->trainer;
    const struct config *c = &t->config;
    struct evaluation_options options = {.max_iter = c->eval.max_iter, .leak_segments = 1};
    struct evaluation_result result;
    if (run->eval_model == NULL)
        return STATUS_OK;
    if (t->state.step <= c->train.pretrain_steps)
        options.layers = c->train.pretrain_layers;
    model_refresh(run->eval_model);
    enum status status =
        evaluation_run(run->eval_model, run->valid, &options, &result, on_progress, run, err);
    if (status == STATUS_STOPPED)
        return STATUS_OK;
    TRY(status);
    bool best = result.nll < t->state.best_nll;
    if (best) {
        t->state.best_nll = result.nll;
        t->state.best_step = t->state.step;
    }
    TRY(run_log_evaluation(run, &result, best, err));
    if (run->observer->evaluation != NULL)
        run->observer->evaluation(run->observer->ctx, t, &result, best);
    return best ? run_save(run, "best.bin", err) : STATUS_OK;
}

/* --- the run ---------------------------------------------------------------------------------- */

static enum status open_trainer(struct run *run, struct backend *be, const struct config *config,
                                struct error *err)
{
    char path[RUN_PATH];
    struct snapshot from;
    TRY(run_path(run, path, "last.bin", err));
    const char *file = run->options->resume == RESUME_FILE ? run->options->resume_file : path;
    if (run->options->resume != RESUME_FILE && !run_is_file(path))
        return trainer_create(&run->trainer, be, config, NULL, err);
    TRY(snapshot_open(&from, file, err));
    enum status status = run_check_same(config, &from.config, file, err);
    if (status == STATUS_OK)
        status = trainer_create(&run->trainer, be, config, &from, err);
    if (status == STATUS_OK)
        run_tell(run, "continuing from %s at step %lld", file, (long long)from.state.step);
    snapshot_close(&from);
    return status;
}

static enum status step(struct run *run, struct error *err)
{
    struct trainer *t = &run->trainer;
    const struct config_train *c = &t->config.train;
    struct step_report report;
    TRY(trainer_step(t, &report, err));
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
    bool last = t->state.step == c->steps;
    if (c->eval_every > 0 && (t->state.step % c->eval_every == 0 || last))
        TRY(evaluate(run, err));
    if (last || (c->checkpoint_every > 0 && t->state.step % c->checkpoint_every == 0))
        TRY(run_save_step(run, err));
    return STATUS_OK;
}

/* Whether to save and stop now: asked to, or the time left may not suffice for another step and
 * saving. */
static const char *stop_reason(const struct run *run, double slowest_step)
{
    double limit = run->options->time_limit;
    if (wants_stop(run))
        return "asked to stop";
    if (limit > 0 &&
        clock_seconds() - run->started + slowest_step + 2 * run->slowest_save + 1 > limit)
        return "time limit reached";
    return NULL;
}

static enum status loop(struct run *run, struct error *err)
{
    struct trainer *t = &run->trainer;
    double slowest_step = 0;
    while (t->state.step < t->config.train.steps) {
        const char *why = stop_reason(run, slowest_step);
        if (why != NULL) {
            TRY(run_save(run, "last.bin", err));
            return error_set(err, STATUS_STOPPED,
                             "%s: saved at step %lld of %lld; run the same command to continue",
                             why, (long long)t->state.step, (long long)t->config.train.steps);
        }
        double start = clock_seconds();
        TRY(step(run, err));
        double took = clock_seconds() - start;
        slowest_step = took > slowest_step ? took : slowest_step;
    }
    return STATUS_OK;
}

/* Warns of a tolerance that rounding keeps out of reach: such a solve always uses all its
 * evaluations. ||f|| of a row is about sqrt(d_model), which makes a relative floor absolute. */
static void warn_tolerance(const struct run *run, const struct config *c,
                           const struct config_solver *s, const char *name)
{
    double floor = precision_floor((enum precision)c->train.precision);
    if (s->stop == CONFIG_STOP_ABS)
        floor *= sqrt((double)c->model.d_model);
    if (s->stop == CONFIG_STOP_FIXED || s->tol >= floor)
        return;
    run_tell(run,
             "warning: solver.%s.tol: %g cannot be reached with train.precision %s, whose "
             "rounding leaves residuals of about %.1g: every solve will use up its evaluations. "
             "Raise it, or take fp32",
             name, s->tol, precision_name((enum precision)c->train.precision), floor);
}

static enum status open_run(struct run *run, struct backend *be, const struct config *config,
                            struct error *err)
{
    char path[RUN_PATH];
    struct vocab *vocab = NULL;
    struct config resolved = *config;
    /* what can be wrong with the input is found before anything is made */
    TRY(trainer_resolve_data(&resolved, &vocab, err));
    vocab_free(vocab);
    TRY(run_check_folder(run, err));
    TRY(backend_set_precision(be, (enum precision)config->train.precision, err));
    warn_tolerance(run, config, &config->solver.forward, "forward");
    if (config->gradient.method == GRADIENT_IMPLICIT)
        warn_tolerance(run, config, &config->solver.backward, "backward");
    TRY(run_check_memory(be, &resolved, err));
    TRY(open_trainer(run, be, &resolved, err));
    TRY(open_validation(run, err));
    TRY(run_make_folder(run, err));
    TRY(run_write_config(run, err)); /* first: it marks the folder as that of a run */
    TRY(run_path(run, path, "log.jsonl", err));
    TRY(metrics_open_append(&run->log, path, run->trainer.state.step, err));
    int64_t unreadable = metrics_found(run->log).unreadable;
    if (unreadable > 0)
        run_tell(run, "%s: %lld lines dropped that were damaged", path, (long long)unreadable);
    return STATUS_OK;
}

enum status run_train(struct backend *be, const struct config *config,
                      const struct run_options *options, const struct run_observer *observer,
                      struct error *err)
{
    enum status status = STATUS_OK;
    struct run run = {.options = options, .observer = observer, .started = clock_seconds()};
    TRY_OUT(open_run(&run, be, config, err));
    if (observer->begin != NULL)
        observer->begin(observer->ctx, &run.trainer);
    TRY_OUT(loop(&run, err));
out:
    metrics_close(run.log);
    model_free(run.eval_model);
    stream_close(run.valid);
    trainer_free(&run.trainer);
    return status;
}
