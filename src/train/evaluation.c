#include "train/evaluation.h"

#include "base/clock.h"
#include "base/mem.h"
#include <math.h>

static const struct masks no_masks = {.source = MASKS_NONE};

/* Sums over segments, weighted by positions. */
struct sums {
    double nll, nfe, rel;
    int64_t tokens;
};

struct run {
    struct model *m;
    const struct evaluation_options *options;
    struct evaluation_result *r;
    struct sums sums;
    double *nll, *changed_nll; /* owns: [B*L] */
    int32_t *changed;          /* owns: [B*L] tokens with the end of each segment replaced */
    double leak_sum;
};

enum status evaluation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, struct error *err)
{
    struct model_plan plan = {.batch = config->eval.batch,
                              .length = config->eval.tgt_len,
                              .mem_len = config->eval.mem_len};
    return model_create(out, be, config, shared, &plan, err);
}

static enum status set_limits(struct run *run, struct error *err)
{
    const struct config_solver *c = &run->m->config.solver.forward;
    const struct evaluation_options *o = run->options;
    enum solve_stop stop = o->fixed ? STOP_FIXED : (enum solve_stop)c->stop;
    int64_t max_iter = o->max_iter > 0 ? o->max_iter : c->max_iter;
    return equilibrium_set_limits(run->m->eq, max_iter, c->tol, stop, err);
}

static enum status forward(struct run *run, const struct batch *batch, const int32_t *input,
                           double *nll, struct error *err)
{
    model_begin(run->m, input, batch->L, &no_masks);
    TRY(model_solve(run->m, run->options->layers, false, err));
    model_loss(run->m, batch->target, 1.0, false);
    (void)model_read_loss(run->m, nll);
    return STATUS_OK;
}

static enum status add_segment(struct run *run, const struct batch *batch, struct error *err)
{
    int64_t n = batch->B * batch->L;
    struct evaluation_result *r = run->r;
    struct solve_report report;
    TRY(equilibrium_report(run->m->eq, &report, NULL, err));
    for (int64_t i = 0; i < n; i++)
        run->sums.nll += run->nll[i];
    run->sums.nfe += report.evals_mean * (double)n;
    run->sums.rel += report.rel_mean * (double)n;
    run->sums.tokens += n;
    if (report.evals_max > r->nfe_max)
        r->nfe_max = report.evals_max;
    if (!(report.rel_max <= r->rel_max))
        r->rel_max = report.rel_max;
    return STATUS_OK;
}

/* Replaces the inputs of the last quarter of the segment and compares the log-probabilities before
 * it, from the same memory: f is causal, so any difference is the solver's. */
static enum status test_leak(struct run *run, const struct batch *batch, struct error *err)
{
    struct evaluation_result *r = run->r;
    int64_t l = batch->L, cut = l - l / 4, vocab = run->m->config.model.vocab_size;
    if (cut == l)
        return STATUS_OK;
    for (int64_t i = 0; i < batch->B * l; i++)
        run->changed[i] = i % l < cut
                              ? batch->input[i]
                              : (int32_t)((batch->input[i] + 1 + (i * 7919) % (vocab - 1)) % vocab);
    TRY(forward(run, batch, run->changed, run->changed_nll, err));
    TRY(forward(run, batch, batch->input, run->nll, err));
    for (int64_t i = 0; i < batch->B * l; i++) {
        if (i % l >= cut)
            continue;
        double change = fabs(run->changed_nll[i] - run->nll[i]);
        run->leak_sum += change;
        r->leak_positions++;
        if (!(change <= r->leak_max))
            r->leak_max = change;
    }
    return STATUS_OK;
}

/* Segments to test: `count` of `segments`, in the middles of equal parts. */
static bool tests_leak(int64_t segment, int64_t segments, int64_t count)
{
    if (count >= segments)
        return true;
    int64_t before = (2 * segment * count + segments) / (2 * segments);
    return ((2 * segment + 2) * count + segments) / (2 * segments) != before;
}

static enum status run_segments(struct run *run, struct stream *stream,
                                evaluation_progress_fn progress, void *ctx, struct error *err)
{
    const struct evaluation_options *o = run->options;
    int64_t segments = stream_segments(stream);
    if (o->segments > 0 && o->segments < segments)
        segments = o->segments;
    TRY(stream_seek(stream, 0, 0, err));
    model_reset_memory(run->m);
    double leak_seconds = 0, start = clock_seconds();
    for (int64_t i = 0; i < segments; i++) {
        struct batch batch;
        TRY(stream_next(stream, &batch, err));
        if (tests_leak(i, segments, o->leak_segments)) {
            double t = clock_seconds();
            TRY(test_leak(run, &batch, err));
            leak_seconds += clock_seconds() - t;
        }
        TRY(forward(run, &batch, batch.input, run->nll, err));
        TRY(add_segment(run, &batch, err));
        model_remember(run->m);
        double mean = run->sums.nll / (double)run->sums.tokens;
        if (progress != NULL && !progress(ctx, run->sums.tokens, mean))
            return error_set(err, STATUS_STOPPED, "evaluation stopped");
    }
    run->r->seconds = clock_seconds() - start - leak_seconds;
    return backend_check(run->m->be, err);
}

static void finish(struct run *run, struct stream *stream)
{
    struct evaluation_result *r = run->r;
    double tokens = (double)run->sums.tokens;
    double total = (double)stream_tokens(stream);
    r->tokens = run->sums.tokens;
    r->nll = run->sums.nll / tokens;
    r->ppl = exp(r->nll);
    /* words and bytes are known of the whole split: its loss is taken as the mean of what was
     * scored (all but a handful of tokens) */
    r->ppl_word = exp(r->nll * total / (double)stream_words(stream));
    r->bits_per_byte = r->nll * total / (double)stream_text_bytes(stream) / log(2.0);
    r->nfe_mean = run->sums.nfe / tokens;
    r->rel_mean = run->sums.rel / tokens;
    r->tokens_per_s = tokens / r->seconds;
    if (r->leak_positions > 0)
        r->leak_mean = run->leak_sum / (double)r->leak_positions;
    else
        r->leak_max = r->leak_mean = NAN;
}

enum status evaluation_run(struct model *m, struct stream *stream,
                           const struct evaluation_options *options,
                           struct evaluation_result *result, evaluation_progress_fn progress,
                           void *ctx, struct error *err)
{
    enum status status = STATUS_OK;
    struct run run = {.m = m, .options = options, .r = result};
    size_t n = (size_t)(m->plan.batch * m->plan.length);
    *result = (struct evaluation_result){0};
    TRY(set_limits(&run, err));
    TRY_OUT(mem_alloc((void **)&run.nll, n, sizeof *run.nll, err));
    TRY_OUT(mem_alloc((void **)&run.changed_nll, n, sizeof *run.changed_nll, err));
    TRY_OUT(mem_alloc((void **)&run.changed, n, sizeof *run.changed, err));
    TRY_OUT(run_segments(&run, stream, progress, ctx, err));
    finish(&run, stream);
out:
    mem_free(run.nll);
    mem_free(run.changed_nll);
    mem_free(run.changed);
    return status;
}
