/* Prints the progress of a training. */
#include "cmd/progress.h"

#include "base/clock.h"
#include "cmd/estimate.h"
#include "cmd/output.h"
#include "cmd/progress_line.h"
#include "cmd/summary.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Seconds between plain lines, and between rewrites of the live one. */
static const double PLAIN_EVERY = 10, LIVE_EVERY = 1;
/* Weight of the newest step in running means. */
static const double NEWEST = 0.05;

/* "1:02:03", "4:05". */
static void format_duration(double seconds, char out[16])
{
    long s = isfinite(seconds) && seconds > 0 ? lround(fmin(seconds, 3.6e6)) : 0;
    if (s >= 3600)
        snprintf(out, 16, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 16, "%ld:%02ld", s / 60, s % 60);
}

/* Looks whether somebody still reads. */
static void watch_reader(struct progress *p)
{
    if (output_reader_gone(STDERR_FILENO))
        atomic_store(p->stop, true);
}

void progress_break(struct progress *p)
{
    if (p->line_open)
        fputc('\n', stderr);
    p->line_open = false;
}

/* On a terminal, goes back to the start of the line and clears it. */
static void begin_line(struct progress *p)
{
    if (p->live)
        fputs("\r\033[K", stderr);
    p->line_open = false;
}

static void end_line(struct progress *p, bool keep)
{
    if (p->live && !keep) {
        p->line_open = true;
        fflush(stderr);
    } else {
        fputc('\n', stderr);
    }
}

static void on_message(void *ctx, const char *text)
{
    struct progress *p = ctx;
    progress_break(p);
    fprintf(stderr, "%s\n", text);
}

static void on_begin(void *ctx, const struct trainer *t, size_t bytes)
{
    struct progress *p = ctx;
    const struct config_train *c = &t->config.train;
    double unknown = stream_unknown(t->stream);
    p->first_step = t->state.step;
    if (dist_size(t->dist) > 1)
        fprintf(stderr, "%d processes over %s; each with:\n", dist_size(t->dist),
                dist_transport(t->dist));
    char parameters[ESTIMATE_COUNT_MAX], tokens[ESTIMATE_COUNT_MAX], text[ESTIMATE_MAX];
    const struct estimate estimate = {.steps = c->steps - t->state.step,
                                      .tokens = c->batch * c->tgt_len,
                                      .seconds = p->seconds,
                                      .where = p->where,
                                      .bytes = (double)bytes,
                                      .machine = estimate_machine(t->be)};
    estimate_count(params_distinct(t->model->params, NULL), parameters);
    estimate_count(stream_tokens(t->stream), tokens);
    fprintf(stderr, "%s parameters, %s training tokens", parameters, tokens);
    if (unknown > 0)
        fprintf(stderr, ", %.2f %% of them <unk>", 100 * unknown);
    fprintf(stderr, "; %s, %d thread%s\n", t->be->ops->name, t->be->threads,
            t->be->threads == 1 ? "" : "s");
    output_warn_unknown("train", unknown, "training", t->config.data.dir);
    if (estimate.steps <= 0)
        return;
    estimate_text(&estimate, text);
    fprintf(stderr, "%s\n", text);
}

/* Adds what the solves of a step did, as mean evaluations (and the most) and mean residual. */
static void add_solves(struct progress_line *line, const struct step_report *r)
{
    if (r->layers > 0) {
        progress_line_add(line, 7, "%lld layers", (long long)r->layers);
        return;
    }
    progress_line_add(line, 7, "f %.1f (%lld) res %.1e", r->forward.evals_mean,
                      (long long)r->forward.evals_max, r->forward.rel_mean);
    progress_line_add(line, 8, "b %.1f (%lld) res %.1e", r->backward.evals_mean,
                      (long long)r->backward.evals_max, r->backward.rel_mean);
}

/* Prints the line of a step. The ranks say in which order fields are left out of a narrow window,
 * the highest first. */
static void print_step(const struct progress *p, const struct trainer *t,
                       const struct step_report *r)
{
    const struct config_train *c = &t->config.train;
    struct progress_line line = {0};
    char text[PROGRESS_LINE_MAX], left[16];
    format_duration((double)(c->steps - r->step) * p->step_time, left);
    progress_line_add(&line, 0, "step %lld/%lld", (long long)r->step, (long long)c->steps);
    progress_line_add(&line, 3, "%lld %%", (long long)(100 * r->step / c->steps));
    progress_line_add(&line, 1, "loss %#.4g", p->loss);
    progress_line_add(&line, 4, "ppl %.1f", exp(p->loss));
    progress_line_add(&line, 6, "lr %.2e", r->lr);
    progress_line_add(&line, 9, "|g| %.3f", r->grad_norm);
    add_solves(&line, r);
    progress_line_add(&line, 5, "%.0f tok/s", (double)r->tokens / p->step_time);
    progress_line_add(&line, 2, "ETA %s", left);
    progress_line_write(&line, p->live ? progress_line_width() : 0, text);
    fputs(text, stderr);
}

static void on_step(void *ctx, const struct trainer *t, const struct step_report *r)
{
    struct progress *p = ctx;
    const struct config_train *c = &t->config.train;
    bool first = r->step == p->first_step + 1, last = r->step == c->steps;
    double now = clock_seconds(), weight = first ? 1 : NEWEST;
    watch_reader(p);
    if (isfinite(r->loss))
        p->loss += (first ? 1 : NEWEST) * (r->loss - p->loss);
    p->step_time += weight * (r->seconds - p->step_time);
    if (r->skipped) {
        begin_line(p);
        fprintf(stderr, "step %lld skipped: its gradient is not finite (%lld so far)\n",
                (long long)r->step, (long long)t->state.skipped);
    }
    if (!first && !last && now - p->last_shown < (p->live ? LIVE_EVERY : PLAIN_EVERY))
        return;
    p->last_shown = now;
    begin_line(p);
    print_step(p, t, r);
    end_line(p, last);
}

static void on_evaluating(void *ctx, int64_t tokens, int64_t of)
{
    struct progress *p = ctx;
    struct progress_line line = {0};
    char text[PROGRESS_LINE_MAX];
    double now = clock_seconds();
    watch_reader(p);
    if (!p->live || now - p->last_shown < LIVE_EVERY)
        return;
    p->last_shown = now;
    progress_line_add(&line, 0, "evaluating: %lld %%", (long long)(100 * tokens / of));
    progress_line_add(&line, 1, "%lld of %lld tokens", (long long)tokens, (long long)of);
    progress_line_write(&line, progress_line_width(), text);
    begin_line(p);
    fputs(text, stderr);
    end_line(p, false);
}

static void on_evaluation(void *ctx, const struct trainer *t, const struct evaluation_result *r,
                          bool best)
{
    struct progress *p = ctx;
    struct progress_line line = {.between = ", "};
    char text[PROGRESS_LINE_MAX];
    if (isfinite(r->nll_recall)) {
        progress_line_add(&line, 0, "step %lld: validation loss %.3g", (long long)t->state.step,
                          r->nll);
        progress_line_add(&line, 1, "%.3g a recalled symbol (%.2f %% right)", r->nll_recall,
                          100 * r->recalled);
    } else {
        progress_line_add(&line, 0, "step %lld: validation ppl %.2f", (long long)t->state.step,
                          r->ppl);
        progress_line_add(&line, 4, "nll %.4f", r->nll);
    }
    if (isfinite(r->bits_per_byte))
        progress_line_add(&line, 3, "%.3f bits per byte", r->bits_per_byte);
    if (r->unknown > 0)
        progress_line_add(&line, 3, "%.2f %% <unk>", 100 * r->unknown);
    if (best)
        progress_line_add(&line, 2, "best so far");
    progress_line_add(&line, 6, "%.1f evaluations", r->nfe_mean);
    if (isfinite(r->rel_mean)) /* layers have none */
        progress_line_add(&line, 7, "res %.1e", r->rel_mean);
    if (isfinite(r->leak_max))
        progress_line_add(&line, 8, "leak %.1e", r->leak_max);
    progress_line_add(&line, 5, "%.0f tok/s", r->tokens_per_s);
    progress_line_write(&line, p->live ? progress_line_width() : 0, text);
    begin_line(p);
    fprintf(stderr, "%s\n", text);
}

static void on_done(void *ctx, const struct trainer *t)
{
    struct progress *p = ctx;
    progress_break(p);
    summary_print(p->dir, clock_seconds() - p->started, t);
}

bool progress_live(void)
{
    const char *plain = getenv("NO_COLOR");
    return isatty(STDERR_FILENO) == 1 && (plain == NULL || plain[0] == '\0');
}

void progress_start(struct progress *p, struct run_observer *observer, const char *dir,
                    atomic_bool *stop)
{
    *p = (struct progress){.live = progress_live(),
                           .started = clock_seconds(),
                           .seconds = NAN,
                           .dir = dir,
                           .stop = stop};
    *observer = (struct run_observer){.ctx = p,
                                      .begin = on_begin,
                                      .step = on_step,
                                      .evaluating = on_evaluating,
                                      .evaluation = on_evaluation,
                                      .message = on_message,
                                      .done = on_done};
}
