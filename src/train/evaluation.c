/* Scoring a split segment by segment, with tests on some of the segments. */
#include "train/evaluation.h"

#include "backend/count/memory_check.h"
#include "base/clock.h"
#include "base/mem.h"
#include "data/text_decode.h"
#include "deq/spectrum.h"
#include <math.h>

static const struct masks no_masks = {.source = MASKS_NONE};

/* Sums over the positions of all segments. */
struct sums {
    double nll, nfe, paid, rel, flops;
    int64_t tokens;
    double recall_nll;
    int64_t recall, recalled; /* positions that a task asks for, and those with a right answer */
    int64_t unknown;          /* targets that are <unk> */
    double known_nll;         /* of the other targets */
    int64_t known_bytes;      /* that they add to the text, with blanks before them */
};

struct run {
    struct model *m;
    const struct evaluation_options *options;
    struct evaluation_result *r;
    struct sums sums;
    double *nll, *changed_nll; /* owns [B*L] */
    int32_t *changed;          /* owns [B*L] inputs, replaced at the end of each segment */
    double leak_sum;
    double *radius;         /* owns [2 B] */
    struct tensor radius_f; /* owns [B,L,W] */
};

enum status evaluation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, bool vjp, struct error *err)
{
    struct model_plan plan = {.batch = config->eval.batch,
                              .length = config->eval.tgt_len,
                              .mem_len = config->eval.mem_len,
                              .vjp = vjp};
    return model_create(out, be, config, shared, &plan, err);
}

struct planned_evaluation {
    struct config config;
    bool vjp;
};

/* Makes the model and runs one segment, so that the largest product is counted. */
static enum status plan_evaluation(const void *what, struct backend *be, struct error *err)
{
    enum status status = STATUS_OK;
    const struct planned_evaluation *p = what;
    struct model *m = NULL;
    int32_t *tokens = NULL;
    struct tensor f = {0};
    TRY_OUT(evaluation_model(&m, be, &p->config, NULL, p->vjp, err));
    int64_t batch = m->plan.batch, length = m->plan.length;
    if (p->vjp)
        TRY_OUT(op_alloc(be, &f, be->ops->real, 3, batch, length, m->cell->width, 1, err));
    TRY_OUT(mem_alloc((void **)&tokens, (size_t)(batch * length), sizeof *tokens, err));
    model_refresh(m);
    model_begin(m, tokens, length, &no_masks);
    TRY_OUT(model_solve(m, 0, false, err));
    model_loss(m, tokens, 1, false);
out:
    mem_free(tokens);
    op_release(be, &f);
    model_free(m);
    return status;
}

enum status evaluation_check_memory(const struct backend *be, const struct config *config, bool vjp,
                                    struct error *err)
{
    size_t wanted = 0, bytes, limit = memory_check_limit(be);
    struct planned_evaluation p = {*config, vjp};
    if (limit == 0)
        return STATUS_OK;
    TRY(memory_check_measure(be, plan_evaluation, &p, &wanted, err));
    for (bytes = wanted; bytes > limit && p.config.eval.batch > 1;) {
        p.config.eval.batch--;
        TRY(memory_check_measure(be, plan_evaluation, &p, &bytes, err));
    }
    if (wanted <= limit)
        return STATUS_OK;
    if (bytes <= limit)
        return error_set(err, STATUS_DEVICE,
                         "this evaluation wants %.2f GiB of device memory, %.2f more than there "
                         "are: eval.batch=%lld in place of %lld would fit with %.2f GiB",
                         memory_check_gib(wanted), memory_check_gib(wanted - limit),
                         (long long)p.config.eval.batch, (long long)config->eval.batch,
                         memory_check_gib(bytes));
    return error_set(err, STATUS_DEVICE,
                     "this evaluation wants %.2f GiB of device memory, %.2f more than there are, "
                     "and no eval.batch would make it fit: lower eval.tgt_len or eval.mem_len, or "
                     "use --device cpu",
                     memory_check_gib(wanted), memory_check_gib(wanted - limit));
}

static enum status set_limits(struct run *run, struct error *err)
{
    const struct solver_config *c = &run->m->config.solver.forward;
    const struct evaluation_options *o = run->options;
    enum solve_stop stop = o->fixed ? STOP_FIXED : c->stop;
    int64_t max_iter = o->max_iter > 0 ? o->max_iter : c->max_iter;
    return model_set_limits(run->m, DIRECTION_FORWARD, max_iter, c->tol, stop, err);
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

/* The task asks for the last `recall` positions of each record. */
static void add_recall(struct run *run, const struct batch *batch, int64_t recall)
{
    for (int64_t i = 0; i < batch->B * batch->L; i++) {
        if (i % batch->L < batch->L - recall)
            continue;
        run->sums.recall_nll += run->nll[i];
        run->sums.recall++;
        run->sums.recalled += run->nll[i] < log(2.0);
    }
}

/* Sums over the targets that are not <unk>. Of ids the text is not known. */
static void add_known(struct run *run, const struct batch *batch)
{
    const struct vocab *v = run->options->vocab;
    struct sums *sums = &run->sums;
    if (v == NULL || vocab_rule(v).split == TEXT_SPLIT_IDS)
        return;
    for (int64_t i = 0; i < batch->B * batch->L; i++) {
        if (batch->target[i] == vocab_unk(v)) {
            sums->unknown++;
            continue;
        }
        struct text_decoder decoder = text_decoder_begin(v, TEXT_DECODE_RAW);
        (void)text_decode(&decoder, batch->input[i]);
        struct text_bytes bytes = text_decode(&decoder, batch->target[i]);
        sums->known_nll += run->nll[i];
        sums->known_bytes += (int64_t)bytes.len + bytes.blank;
    }
}

static enum status add_segment(struct run *run, const struct batch *batch, struct error *err)
{
    int64_t n = batch->B * batch->L;
    struct evaluation_result *r = run->r;
    struct solve_report report;
    TRY(model_report(run->m, &report, NULL, err));
    for (int64_t i = 0; i < n; i++)
        run->sums.nll += run->nll[i];
    run->sums.nfe += report.evals_mean * (double)n;
    run->sums.paid += report.paid_mean * (double)n;
    run->sums.rel += report.rel_mean * (double)n;
    run->sums.tokens += n;
    if (report.evals_max > r->nfe_max)
        r->nfe_max = report.evals_max;
    if (!(report.rel_max <= r->rel_max))
        r->rel_max = report.rel_max;
    return STATUS_OK;
}

/* Replaces the inputs of the segment's last quarter and compares the log-probabilities before it,
 * with the same memory. Since f is causal, the solver causes any difference. */
static enum status test_leak(struct run *run, const struct batch *batch, struct error *err)
{
    struct evaluation_result *r = run->r;
    int64_t l = batch->L, cut = l - l / 4, vocab = run->m->config.model.vocab_size;
    if (cut == l || vocab < 2) /* no later position, or no other token for it */
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

/* Estimates spectral radii at the states just returned. The saved activations are of each
 * position's last iterate, which need not be the returned one, so that f is evaluated once more. */
static enum status test_radius(struct run *run, const struct batch *batch, struct error *err)
{
    struct evaluation_result *r = run->r;
    struct model *m = run->m;
    struct equilibrium_point at = equilibrium_evaluate(m->eq, &run->radius_f);
    double *rayleigh = run->radius, *growth = run->radius + batch->B;
    TRY(spectral_radius(m->cell, &at, SPECTRUM_ITERATIONS, (uint64_t)r->radius_sequences, rayleigh,
                        growth, err));
    for (int64_t b = 0; b < batch->B; b++) {
        r->radius_sequences++;
        r->radius_mean += (growth[b] - r->radius_mean) / (double)r->radius_sequences;
        r->rayleigh_mean += (rayleigh[b] - r->rayleigh_mean) / (double)r->radius_sequences;
        if (!(growth[b] <= r->radius_max)) /* a NaN stays */
            r->radius_max = growth[b];
    }
    return STATUS_OK;
}

/* The `count` tested segments are the middles of as many equal parts of the split. */
static bool is_tested(int64_t segment, int64_t segments, int64_t count)
{
    if (count >= segments)
        return true;
    int64_t before = (2 * segment * count + segments) / (2 * segments);
    return ((2 * segment + 2) * count + segments) / (2 * segments) != before;
}

static double booked_flops(const struct backend *be)
{
    double sum = 0;
    for (int id = 0; id < OP_COUNT; id++)
        sum += be->stat[id].flops;
    return sum;
}

static enum status run_segments(struct run *run, struct stream *stream, struct error *err)
{
    const struct evaluation_options *o = run->options;
    int64_t segments = stream_segments(stream);
    if (o->segments > 0 && o->segments < segments)
        segments = o->segments;
    TRY(stream_seek(stream, 0, 0, err));
    double test_seconds = 0, start = clock_seconds();
    for (int64_t i = 0; i < segments; i++) {
        struct batch batch;
        TRY(stream_next(stream, &batch, err));
        if (batch.first)
            model_reset_memory(run->m);
        if (is_tested(i, segments, o->leak_segments)) {
            double t = clock_seconds();
            TRY(test_leak(run, &batch, err));
            test_seconds += clock_seconds() - t;
        }
        double flops = booked_flops(run->m->be);
        TRY(forward(run, &batch, batch.input, run->nll, err));
        run->sums.flops += booked_flops(run->m->be) - flops;
        TRY(add_segment(run, &batch, err));
        add_recall(run, &batch, stream_recall(stream));
        add_known(run, &batch);
        if (o->spectrum_segments > 0 && is_tested(i, segments, o->spectrum_segments)) {
            double t = clock_seconds();
            TRY(test_radius(run, &batch, err));
            test_seconds += clock_seconds() - t;
        }
        model_remember(run->m);
        double mean = run->sums.nll / (double)run->sums.tokens;
        if (o->progress != NULL && !o->progress(o->ctx, run->sums.tokens, mean))
            return error_set(err, STATUS_STOPPED, "evaluation stopped");
    }
    run->r->seconds = clock_seconds() - start - test_seconds;
    return backend_check(run->m->be, err);
}

/* What one rank sends to the others. */
struct share {
    struct sums sums;
    struct evaluation_result result;
    double leak_sum;
};

/* Adds the shares of all ranks, in the order of the ranks. */
static enum status merge_shares(struct run *run, struct error *err)
{
    struct dist *d = run->options->dist;
    struct share own = {run->sums, *run->r, run->leak_sum}, *all = NULL;
    if (dist_size(d) == 1)
        return STATUS_OK;
    TRY(mem_alloc((void **)&all, (size_t)dist_size(d), sizeof *all, err));
    dist_all_gather_bytes(d, &own, sizeof own, all);
    run->sums = all[0].sums;
    run->leak_sum = all[0].leak_sum;
    *run->r = all[0].result;
    for (int i = 1; i < dist_size(d); i++) {
        const struct evaluation_result *r = &all[i].result;
        run->sums.nll += all[i].sums.nll;
        run->sums.nfe += all[i].sums.nfe;
        run->sums.paid += all[i].sums.paid;
        run->sums.flops += all[i].sums.flops;
        run->sums.rel += all[i].sums.rel;
        run->sums.tokens += all[i].sums.tokens;
        run->sums.recall_nll += all[i].sums.recall_nll;
        run->sums.recall += all[i].sums.recall;
        run->sums.recalled += all[i].sums.recalled;
        run->sums.unknown += all[i].sums.unknown;
        run->sums.known_nll += all[i].sums.known_nll;
        run->sums.known_bytes += all[i].sums.known_bytes;
        run->leak_sum += all[i].leak_sum;
        run->r->leak_positions += r->leak_positions;
        run->r->nfe_max = r->nfe_max > run->r->nfe_max ? r->nfe_max : run->r->nfe_max;
        if (!(r->rel_max <= run->r->rel_max))
            run->r->rel_max = r->rel_max;
        if (!(r->leak_max <= run->r->leak_max))
            run->r->leak_max = r->leak_max;
    }
    mem_free(all);
    return STATUS_OK;
}

static void finish(struct run *run, struct stream *stream)
{
    struct evaluation_result *r = run->r;
    double tokens = (double)run->sums.tokens;
    double total = (double)stream_tokens(stream);
    r->tokens = run->sums.tokens;
    r->nll = run->sums.nll / tokens;
    r->ppl = exp(r->nll);
    /* The numbers of words and bytes are known for the whole split only. Its loss is taken as the
     * mean over the scored tokens, which are nearly all of it. */
    double words = (double)stream_words(stream), loss = r->nll * total;
    bool text = stream_recall(stream) == 0;
    r->ppl_word = text && words > 0 ? exp(loss / words) : NAN;
    r->unknown = (double)run->sums.unknown / tokens;
    bool paid = run->sums.unknown == 0;
    double known = run->sums.known_nll / (double)run->sums.known_bytes; /* NaN without any */
    double bytes = (double)stream_text_bytes(stream); /* 0 for token files, which do not say */
    r->bits_per_byte = !text || !paid ? NAN : (bytes > 0 ? loss / bytes : known) / log(2.0);
    r->bits_per_byte_known = text && !paid ? known / log(2.0) : NAN;
    r->nfe_mean = run->sums.nfe / tokens;
    r->nfe_paid = run->sums.paid / tokens;
    r->flops = run->sums.flops / tokens;
    r->rel_mean = run->sums.rel / tokens;
    r->tokens_per_s = tokens / r->seconds;
    r->nll_recall = r->recalled = NAN;
    if (run->sums.recall > 0) {
        r->nll_recall = run->sums.recall_nll / (double)run->sums.recall;
        r->recalled = (double)run->sums.recalled / (double)run->sums.recall;
    }
    if (r->leak_positions > 0)
        r->leak_mean = run->leak_sum / (double)r->leak_positions;
    else
        r->leak_max = r->leak_mean = NAN;
    if (r->radius_sequences == 0)
        r->radius_mean = r->radius_max = r->rayleigh_mean = NAN;
}

enum status evaluation_run(struct model *m, struct stream *stream,
                           const struct evaluation_options *options,
                           struct evaluation_result *result, struct error *err)
{
    enum status status = STATUS_OK;
    struct run run = {.m = m, .options = options, .r = result};
    size_t n = (size_t)(m->plan.batch * m->plan.length);
    *result = (struct evaluation_result){0};
    if (options->spectrum_segments > 0 && !equilibrium_solves(m->eq, DIRECTION_FORWARD))
        return error_set(err, STATUS_CONFIG,
                         "model.layers: an explicit network has no equilibrium whose spectral "
                         "radius could be estimated");
    TRY(set_limits(&run, err));
    TRY_OUT(mem_alloc((void **)&run.nll, n, sizeof *run.nll, err));
    TRY_OUT(mem_alloc((void **)&run.changed_nll, n, sizeof *run.changed_nll, err));
    TRY_OUT(mem_alloc((void **)&run.changed, n, sizeof *run.changed, err));
    if (options->spectrum_segments > 0) {
        TRY_OUT(mem_alloc((void **)&run.radius, (size_t)(2 * m->plan.batch), sizeof(double), err));
        TRY_OUT(op_alloc(m->be, &run.radius_f, m->be->ops->real, 3, m->plan.batch, m->plan.length,
                         m->cell->width, 1, err));
    }
    TRY_OUT(run_segments(&run, stream, err));
    TRY_OUT(merge_shares(&run, err));
    finish(&run, stream);
out:
    mem_free(run.nll);
    mem_free(run.changed_nll);
    mem_free(run.changed);
    mem_free(run.radius);
    op_release(m->be, &run.radius_f);
    return status;
}
