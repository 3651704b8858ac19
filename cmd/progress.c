/* Prints the progress of a training. */
#include "cmd/progress.h"

#include "base/clock.h"
#include "cmd/estimate.h"
#include "cmd/output.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Seconds between plain lines, and between rewrites of the live one. */
static const double PLAIN_EVERY = 10, LIVE_EVERY = 0.1;
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
    p->first_step = t->state.step;
    if (dist_size(t->dist) > 1)
        fprintf(stderr, "%d processes over %s; each with:\n", dist_size(t->dist),
                dist_transport(t->dist));
    char parameters[ESTIMATE_COUNT_MAX], tokens[ESTIMATE_COUNT_MAX], text[ESTIMATE_MAX];
    const struct estimate estimate = {.steps = c->steps - t->state.step,
                                      .tokens = c->batch * c->tgt_len,
                                      .seconds = NAN,
                                      .bytes = (double)bytes,
                                      .machine = estimate_machine(t->be)};
    estimate_count(params_distinct(t->model->params, NULL), parameters);
    estimate_count(stream_tokens(t->stream), tokens);
    fprintf(stderr, "%s parameters, %s training tokens; %s, %d thread%s\n", parameters, tokens,
            t->be->ops->name, t->be->threads, t->be->threads == 1 ? "" : "s");
    if (estimate.steps <= 0)
        return;
    estimate_text(&estimate, text);
    fprintf(stderr, "%s\n", text);
}

/* Prints what the solves of a step did, as mean evaluations (and the most) and mean residual. */
static void print_solves(const struct step_report *r)
{
    if (r->layers > 0) {
        fprintf(stderr, "  %lld layers", (long long)r->layers);
        return;
    }
    fprintf(stderr, "  f %.1f (%lld) res %.1e", r->forward.evals_mean,
            (long long)r->forward.evals_max, r->forward.rel_mean);
    fprintf(stderr, "  b %.1f (%lld) res %.1e", r->backward.evals_mean,
            (long long)r->backward.evals_max, r->backward.rel_mean);
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
    char left[16];
    format_duration((double)(c->steps - r->step) * p->step_time, left);
    begin_line(p);
    fprintf(stderr, "step %lld/%lld  loss %#.4g  ppl %.1f  lr %.2e  |g| %.3f", (long long)r->step,
            (long long)c->steps, p->loss, exp(p->loss), r->lr, r->grad_norm);
    print_solves(r);
    fprintf(stderr, "  %.0f tok/s  ETA %s", (double)r->tokens / p->step_time, left);
    end_line(p, last);
}

static void on_evaluating(void *ctx, int64_t tokens, int64_t of)
{
    struct progress *p = ctx;
    double now = clock_seconds();
    watch_reader(p);
    if (!p->live || now - p->last_shown < LIVE_EVERY)
        return;
    p->last_shown = now;
    begin_line(p);
    fprintf(stderr, "evaluating: %lld of %lld tokens", (long long)tokens, (long long)of);
    end_line(p, false);
}

static void on_evaluation(void *ctx, const struct trainer *t, const struct evaluation_result *r,
                          bool best)
{
    struct progress *p = ctx;
    begin_line(p);
    if (isfinite(r->nll_recall))
        fprintf(stderr, "step %lld: validation loss %.3g, %.3g a recalled symbol (%.2f %% right)%s",
                (long long)t->state.step, r->nll, r->nll_recall, 100 * r->recalled,
                best ? ", best so far" : "");
    else
        fprintf(stderr, "step %lld: validation ppl %.2f (nll %.4f)%s", (long long)t->state.step,
                r->ppl, r->nll, best ? ", best so far" : "");
    fprintf(stderr, ", %.1f evaluations", r->nfe_mean);
    if (isfinite(r->rel_mean)) /* layers have none */
        fprintf(stderr, ", res %.1e", r->rel_mean);
    if (isfinite(r->leak_max))
        fprintf(stderr, ", leak %.1e", r->leak_max);
    fprintf(stderr, ", %.0f tok/s\n", r->tokens_per_s);
}

bool progress_live(void)
{
    const char *plain = getenv("NO_COLOR");
    return isatty(STDERR_FILENO) == 1 && (plain == NULL || plain[0] == '\0');
}

void progress_start(struct progress *p, struct run_observer *observer, atomic_bool *stop)
{
    *p = (struct progress){.live = progress_live(), .stop = stop};
    *observer = (struct run_observer){.ctx = p,
                                      .begin = on_begin,
                                      .step = on_step,
                                      .evaluating = on_evaluating,
                                      .evaluation = on_evaluation,
                                      .message = on_message};
}
