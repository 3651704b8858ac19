#include "cmd/eval_report.h"
#include "cmd/output.h"

#include <math.h>
#include <stdio.h>

static void write_result(struct json_writer *w, const struct evaluation_result *r)
{
    json_write_real(w, "ppl", r->ppl);
    json_write_real(w, "nll", r->nll);
    if (isfinite(r->nll_recall)) {
        json_write_real(w, "nll_recall", r->nll_recall);
        json_write_real(w, "recalled", r->recalled);
    }
    json_write_int(w, "tokens", r->tokens);
    json_write_real(w, "ppl_word", r->ppl_word);
    json_write_real(w, "bits_per_byte", r->bits_per_byte);
    json_write_real(w, "nfe_mean", r->nfe_mean);
    json_write_int(w, "nfe_max", r->nfe_max);
    json_write_real(w, "nfe_paid", r->nfe_paid);
    json_write_real(w, "flops", r->flops);
    json_write_real(w, "residual_mean", r->rel_mean);
    json_write_real(w, "residual_max", r->rel_max);
    json_write_real(w, "leak", r->leak_max);
    json_write_real(w, "leak_mean", r->leak_mean);
    json_write_int(w, "leak_positions", r->leak_positions);
    if (r->radius_sequences > 0) {
        json_write_real(w, "spectral_radius", r->radius_mean);
        json_write_real(w, "spectral_radius_max", r->radius_max);
        json_write_real(w, "spectral_radius_rayleigh", r->rayleigh_mean);
        json_write_int(w, "spectral_radius_sequences", r->radius_sequences);
    }
    json_write_real(w, "tokens_per_s", r->tokens_per_s);
    json_write_real(w, "seconds", r->seconds);
}

/* What a token of the data is: of a word-level text <eos> is one too. */
static const char *token_text(const struct eval_report *a)
{
    if (stream_recall(a->stream) > 0)
        return "symbol";
    return stream_is_bytes(a->stream) ? "byte" : "word";
}

enum status eval_report_json(const struct eval_report *a, const struct evaluation_result *whole,
                             struct error *err)
{
    struct json_writer w;
    report_json_begin(&w);
    json_write_string(&w, "checkpoint", a->checkpoint);
    json_write_int(&w, "step", a->step);
    json_write_string(&w, "data", a->config->data.dir);
    json_write_string(&w, "split", a->split);
    json_write_string(&w, "token", token_text(a));
    json_write_int(&w, "batch", a->config->eval.batch);
    json_write_int(&w, "tgt_len", a->config->eval.tgt_len);
    json_write_int(&w, "mem_len", a->config->eval.mem_len);
    write_result(&w, whole);
    if (a->row_count > 0) {
        json_write_array(&w, "nfe");
        for (int i = 0; i < a->row_count; i++) {
            json_write_object(&w, NULL);
            json_write_int(&w, "evaluations", a->nfe[i]);
            write_result(&w, &a->rows[i]);
            json_write_end(&w);
        }
        json_write_end(&w);
    }
    return report_json_print(&w, err);
}

/* "5.12 per byte (nll ...), 8040 per word, ..." */
static void print_perplexity(const struct eval_report *a, const struct evaluation_result *m)
{
    bool bytes = stream_is_bytes(a->stream);
    printf("  perplexity     %.3f per %s (nll %.5f)", m->ppl, bytes ? "byte" : "token", m->nll);
    if (isfinite(m->ppl_word)) /* of many bytes it can be any number */
        printf(bytes ? ", %.4g per word" : ", %.3f per word", m->ppl_word);
    printf(", %.4f bits per byte\n", m->bits_per_byte);
}

void eval_report_text(const struct eval_report *a, const struct evaluation_result *m)
{
    printf("%s (step %lld) on %s of %s\n", a->checkpoint, (long long)a->step, a->split,
           a->config->data.dir);
    if (isfinite(m->nll_recall))
        printf("  loss           %.4g over all positions, %.4g a recalled symbol (%.3f %% right)\n",
               m->nll, m->nll_recall, 100 * m->recalled);
    else
        print_perplexity(a, m);
    printf("  tokens scored  %lld of %lld; %lld streams, segments of %lld, memory of %lld\n",
           (long long)m->tokens, (long long)stream_tokens(a->stream),
           (long long)a->config->eval.batch, (long long)a->config->eval.tgt_len,
           (long long)a->config->eval.mem_len);
    printf("  evaluations    %.2f a position (%lld at most; %.2f computed)", m->nfe_mean,
           (long long)m->nfe_max, m->nfe_paid);
    if (isfinite(m->rel_mean))
        printf(", residual %.2e (%.2e at most)", m->rel_mean, m->rel_max);
    putchar('\n');
    printf("  operations     %.3g MFLOP a position\n", 1e-6 * m->flops);
    if (m->leak_positions > 0)
        printf("  leak           %.3g nats at most (mean %.3g, %lld positions tested)\n",
               m->leak_max, m->leak_mean, (long long)m->leak_positions);
    else
        printf("  leak           nothing to test: a segment of one position has no later tokens\n");
    if (m->radius_sequences > 0)
        printf(
            "  spectral radius  %.3f on average, %.3f at most (%lld sequences; Rayleigh quotient "
            "as published: %.3f)\n",
            m->radius_mean, m->radius_max, (long long)m->radius_sequences, m->rayleigh_mean);
    printf("  speed          %.0f tokens/s (%.1f s)\n", m->tokens_per_s, m->seconds);
}

void eval_report_head(void)
{
    printf("evaluations  perplexity        nll  residual  (at most)      leak     (mean)  "
           "tokens/s\n");
}

void eval_report_row(int64_t nfe, const struct evaluation_result *m)
{
    printf("%11lld  %10.3f  %9.5f  %8.2e  %8.2e", (long long)nfe, m->ppl, m->nll, m->rel_mean,
           m->rel_max);
    if (m->leak_positions > 0)
        printf("  %8.3g  %9.3g", m->leak_max, m->leak_mean);
    else
        printf("  %8s  %9s", "-", "-");
    printf("  %8.0f\n", m->tokens_per_s);
}
