#include "train/run.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "io/atomic_file.h"
#include "io/metrics.h"
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PATH = 4096,
    HOPELESS_STEPS = 50, /* non-finite steps in a row after which no good one is to be expected */
    STEP_NAME_DIGITS = 8
};

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

static void tell(const struct run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void tell(const struct run *run, const char *format, ...)
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

static enum status path_in(const struct run *run, char out[PATH], const char *name,
                           struct error *err)
{
    int n = snprintf(out, PATH, "%s/%s", run->options->dir, name);
    if (n < 0 || n >= PATH)
        return error_set(err, STATUS_CANTCREATE, "%s: path too long", run->options->dir);
    return STATUS_OK;
}

static bool is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

/* --- the folder ------------------------------------------------------------------------------ */

/* Makes the folder and its parents. */
static enum status make_folder(const char *dir, struct error *err)
{
    char path[PATH];
    if (snprintf(path, sizeof path, "%s", dir) >= (int)sizeof path)
        return error_set(err, STATUS_CANTCREATE, "%s: path too long", dir);
    for (char *p = path + 1;; p++) {
        char was = *p;
        if (was != '/' && was != '\0')
            continue;
        *p = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return error_set(err, STATUS_CANTCREATE, "%s: cannot make the folder: %s", path,
                             strerror(errno));
        *p = was;
        if (was == '\0')
            break;
    }
    struct stat info;
    if (stat(dir, &info) != 0 || !S_ISDIR(info.st_mode))
        return error_set(err, STATUS_CANTCREATE, "%s: is not a folder", dir);
    return STATUS_OK;
}

/* A folder that holds something that is no run of ours is not touched; hidden files do not count,
 * scripts keep their marks in them. */
static enum status check_folder(const struct run *run, struct error *err)
{
    char config[PATH], last[PATH];
    TRY(path_in(run, config, "config.json", err));
    TRY(path_in(run, last, "last.bin", err));
    if (run->options->resume == RESUME_NEVER && (is_file(last) || is_file(config)))
        return error_set(err, STATUS_CANTCREATE,
                         "%s: holds a run already: choose another --out, remove the folder, or "
                         "continue it with --resume auto",
                         run->options->dir);
    DIR *dir = opendir(run->options->dir);
    if (dir == NULL)
        return error_set(err, STATUS_CANTCREATE, "%s: cannot read the folder: %s",
                         run->options->dir, strerror(errno));
    bool empty = true;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        empty = empty && entry->d_name[0] == '.';
    closedir(dir);
    if (!empty && !is_file(config))
        return error_set(err, STATUS_CANTCREATE,
                         "%s: is not empty and holds no run: choose another --out",
                         run->options->dir);
    return STATUS_OK;
}

/* What a run is about may not change under it; how long or how often may. */
static enum status check_same(const struct config *now, const struct config *then, const char *path,
                              struct error *err)
{
    struct config a = *now, b = *then;
    char *left = NULL, *right = NULL;
    a.train = b.train;
    a.eval = b.eval;
    a.model.vocab_size = b.model.vocab_size;
    memcpy(a.data.dir, b.data.dir, sizeof a.data.dir);
    a.solver.forward = b.solver.forward;
    a.solver.backward = b.solver.backward;
    a.gradient = b.gradient;
    a.model.dropout = b.model.dropout;
    a.model.dropatt = b.model.dropatt;
    enum status status = config_to_json(&a, false, &left, err);
    if (status == STATUS_OK)
        status = config_to_json(&b, false, &right, err);
    if (status == STATUS_OK && strcmp(left, right) != 0)
        status = error_set(err, STATUS_CONFIG,
                           "%s: its model section differs from the configuration given: choose "
                           "another --out, or the configuration it was made with (deq info %s)",
                           path, path);
    mem_free(left);
    mem_free(right);
    return status;
}

static enum status write_config(const struct run *run, struct error *err)
{
    char path[PATH], *text = NULL;
    TRY(path_in(run, path, "config.json", err));
    TRY(config_to_json(&run->trainer.config, true, &text, err));
    enum status status = atomic_file_put(path, text, strlen(text), err);
    mem_free(text);
    return status;
}

/* --- checkpoints ------------------------------------------------------------------------------ */

static enum status save(struct run *run, const char *name, struct error *err)
{
    char path[PATH];
    double start = clock_seconds();
    struct snapshot_source source = trainer_snapshot(&run->trainer);
    TRY(metrics_sync(run->log, err));
    TRY(path_in(run, path, name, err));
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
        char name[64] = "", path[PATH];
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
            path_in(run, path, name, &ignored) != STATUS_OK || unlink(path) != 0)
            return;
    }
}

/* last.bin, and on the way a step checkpoint: one file under two names where links can be made. */
static enum status save_step(struct run *run, struct error *err)
{
    char name[64], step_path[PATH], last_path[PATH], link_path[PATH];
    if (run->trainer.config.train.keep_last == 0)
        return save(run, "last.bin", err);
    snprintf(name, sizeof name, "step-%0*lld.bin", STEP_NAME_DIGITS,
             (long long)run->trainer.state.step);
    TRY(save(run, name, err));
    TRY(path_in(run, step_path, name, err));
    TRY(path_in(run, last_path, "last.bin", err));
    TRY(path_in(run, link_path, "last.bin" ATOMIC_FILE_MARK "link", err));
    unlink(link_path);
    if (link(step_path, link_path) != 0 || rename(link_path, last_path) != 0) {
        unlink(link_path);
        TRY(save(run, "last.bin", err));
    }
    TRY(atomic_folder_sync(run->options->dir, err));
    remove_old(run);
    return STATUS_OK;
}

/* --- the log ---------------------------------------------------------------------------------- */

static void write_solve(struct json_writer *w, const char *key, const struct solve_summary *s)
{
    json_write_object(w, key);
    json_write_real(w, "evals_mean", s->evals_mean);
    json_write_int(w, "evals_max", s->evals_max);
    json_write_real(w, "rel_mean", s->rel_mean);
    json_write_real(w, "rel_max", s->rel_max);
    json_write_int(w, "restarts", s->restarts);
    json_write_int(w, "unconverged", s->unconverged);
    json_write_end(w);
}

static enum status log_line(struct run *run, struct json_writer *w, struct error *err)
{
    char *text = NULL;
    json_write_end(w);
    TRY(json_write_finish(w, &text, err));
    enum status status = metrics_write(run->log, text, err);
    mem_free(text);
    return status;
}

static enum status log_step(struct run *run, const struct step_report *r, struct error *err)
{
    struct json_writer w;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_string(&w, "event", "step");
    json_write_int(&w, "step", r->step);
    json_write_real(&w, "loss", r->loss);
    json_write_real(&w, "ppl", exp(r->loss));
    json_write_real(&w, "lr", r->lr);
    json_write_real(&w, "grad_norm", r->grad_norm);
    json_write_bool(&w, "skipped", r->skipped);
    json_write_int(&w, "layers", r->layers);
    write_solve(&w, "forward", &r->forward);
    write_solve(&w, "backward", &r->backward);
    json_write_int(&w, "tokens", run->trainer.state.tokens);
    json_write_real(&w, "seconds", r->seconds);
    json_write_real(&w, "tokens_per_s", (double)r->tokens / r->seconds);
    return log_line(run, &w, err);
}

static enum status log_evaluation(struct run *run, const struct evaluation_result *r, bool best,
                                  struct error *err)
{
    struct json_writer w;
    json_write_begin(&w, false);
    json_write_object(&w, NULL);
    json_write_string(&w, "event", "evaluation");
    json_write_int(&w, "step", run->trainer.state.step);
    json_write_real(&w, "nll", r->nll);
    json_write_real(&w, "ppl", r->ppl);
    json_write_int(&w, "tokens", r->tokens);
    json_write_real(&w, "nfe_mean", r->nfe_mean);
    json_write_int(&w, "nfe_max", r->nfe_max);
    json_write_real(&w, "rel_mean", r->rel_mean);
    json_write_real(&w, "rel_max", r->rel_max);
    json_write_real(&w, "leak", r->leak_max);
    json_write_real(&w, "seconds", r->seconds);
    json_write_bool(&w, "best", best);
    return log_line(run, &w, err);
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
        tell(run, "no validation split in %s: training without evaluation", c->data.dir);
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
    TRY(log_evaluation(run, &result, best, err));
    if (run->observer->evaluation != NULL)
        run->observer->evaluation(run->observer->ctx, t, &result, best);
    return best ? save(run, "best.bin", err) : STATUS_OK;
}

/* --- the run ---------------------------------------------------------------------------------- */

static enum status open_trainer(struct run *run, struct backend *be, const struct config *config,
                                struct error *err)
{
    char path[PATH];
    struct snapshot from;
    TRY(path_in(run, path, "last.bin", err));
    const char *file = run->options->resume == RESUME_FILE ? run->options->resume_file : path;
    if (run->options->resume != RESUME_FILE && !is_file(path))
        return trainer_create(&run->trainer, be, config, NULL, err);
    TRY(snapshot_open(&from, file, err));
    enum status status = check_same(config, &from.config, file, err);
    if (status == STATUS_OK)
        status = trainer_create(&run->trainer, be, config, &from, err);
    if (status == STATUS_OK)
        tell(run, "continuing from %s at step %lld", file, (long long)from.state.step);
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
        TRY(log_step(run, &report, err));
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
        TRY(save_step(run, err));
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
            TRY(save(run, "last.bin", err));
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

static enum status open_run(struct run *run, struct backend *be, const struct config *config,
                            struct error *err)
{
    char path[PATH];
    struct vocab *vocab = NULL;
    struct config resolved = *config;
    /* what can be wrong with the input is found before anything is made */
    TRY(trainer_resolve_data(&resolved, &vocab, err));
    vocab_free(vocab);
    TRY(make_folder(run->options->dir, err));
    TRY(check_folder(run, err));
    TRY(open_trainer(run, be, &resolved, err));
    TRY(open_validation(run, err));
    TRY(path_in(run, path, "log.jsonl", err));
    TRY(metrics_open_append(&run->log, path, run->trainer.state.step, err));
    return write_config(run, err);
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
