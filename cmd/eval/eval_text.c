/* Evaluates a checkpoint over a text of any length. */
#include "cmd/eval/eval.h"

#include "base/clock.h"
#include "cmd/progress.h"
#include "score/running_text.h"

#include <math.h>
#include <stdio.h>

static bool show_progress(void *ctx, const struct score_tally *sums)
{
    (void)ctx;
    if (progress_live())
        fprintf(stderr, "\r\033[K%lld tokens, ppl %.2f", (long long)sums->tokens, score_ppl(sums));
    return true;
}

static double booked_flops(const struct backend *be)
{
    double sum = 0;
    for (int id = 0; id < OP_COUNT; id++)
        sum += be->stat[id].flops;
    return sum;
}

static void fill_result(struct evaluation_result *r, const struct score_tally *t,
                        const struct scorer *s, int64_t words)
{
    double tokens = (double)t->tokens;
    *r = (struct evaluation_result){
        .tokens = t->tokens,
        .nll = -t->logp / tokens,
        .ppl = score_ppl(t),
        .nll_recall = NAN,
        .recalled = NAN,
        .ppl_word = words > 0 ? exp(-t->logp / (double)words) : NAN,
        .unknown = (double)t->unknown / tokens,
        .bits_per_byte = score_bits_per_byte(t),
        .bits_per_byte_known = score_bits_per_byte_known(t),
        .nfe_mean = t->evals / tokens,
        .nfe_max = t->evals_max,
        .nfe_paid = s->paid / tokens,
        .rel_mean = t->residual / tokens,
        .rel_max = t->residual_max,
        .leak_max = NAN,
        .leak_mean = NAN,
        .radius_mean = NAN,
    };
}

static enum status score_all(const struct request *r, struct scorer *s, struct text_reader *reader,
                             const struct vocab *vocab, struct eval_report *report,
                             struct error *err)
{
    struct running_text how = {.vocab = vocab, .progress = show_progress};
    struct score_tally sums;
    double start = clock_seconds(), flops = booked_flops(s->be);
    enum status status = score_running_text(s, reader, &how, &sums, err);
    if (progress_live())
        fputs("\r\033[K", stderr);
    TRY(status);
    if (sums.tokens == 0)
        return error_set(err, STATUS_DATA, "%s: holds no token that could be scored", r->text);
    struct evaluation_result *result = &report->whole;
    fill_result(result, &sums, s, text_reader_words(reader));
    result->seconds = clock_seconds() - start;
    result->tokens_per_s = (double)sums.tokens / result->seconds;
    result->flops = (booked_flops(s->be) - flops) / (double)sums.tokens;
    report->tokens = sums.tokens + (text_line_start(vocab) < 0);
    if (s->unconverged > 0)
        fprintf(stderr,
                "deq eval: warning: %lld of %lld positions of %s did not reach the tolerance "
                "(largest residual %.2g)\n",
                (long long)s->unconverged, (long long)s->positions, report->checkpoint,
                sums.residual_max);
    return STATUS_OK;
}

enum status eval_text(const struct request *r, struct backend *be, struct snapshot *from,
                      const struct text_source *text, struct eval_report *report, struct error *err)
{
    enum status status = STATUS_OK;
    struct config config = from->config;
    struct text_reader *reader = NULL;
    struct scorer *s = NULL;
    struct score_plan plan;
    TRY(eval_set(r, &config, err));
    if (r->mem_len >= 0)
        config.eval.mem_len = r->mem_len;
    TRY(config_resolve(&config, config.model.vocab_size, err));
    score_prepare(&plan, &config, r->tol > 0 ? r->tol : SCORE_TOL, SCORE_MAX_ITER);
    plan.unk = vocab_unk(from->vocab);
    report->config = config;
    report->config.eval.batch = 1;
    report->token = eval_token_name(from->vocab);
    if (text_line_start(from->vocab) < 0)
        fprintf(stderr,
                "deq eval: the vocabulary of %s has no %s, so that line ends and the first word "
                "are not scored\n",
                report->checkpoint, VOCAB_EOS);
    TRY_OUT(text_reader_open(&reader, text, from->vocab, err));
    TRY_OUT(scorer_create(&s, be, &plan, err));
    TRY_OUT(snapshot_read_params(from, &s->params, err));
    TRY_OUT(score_all(r, s, reader, from->vocab, report, err));
out:
    scorer_free(s);
    text_reader_close(reader);
    return status;
}
