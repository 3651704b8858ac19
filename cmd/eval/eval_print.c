/* Prints what deq eval finds. */
#include "cmd/eval/eval.h"

#include "cmd/output.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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
    if (r->unknown > 0)
        json_write_real(w, "bits_per_byte_known", r->bits_per_byte_known);
    json_write_real(w, "unknown", r->unknown);
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

void eval_write(struct json_writer *w, const struct request *r, const struct eval_report *a)
{
    json_write_string(w, "checkpoint", a->checkpoint);
    json_write_int(w, "step", a->step);
    if (r->text != NULL) {
        json_write_string(w, "text", r->text);
    } else {
        json_write_string(w, "data", a->config.data.dir);
        json_write_string(w, "split", r->split);
    }
    json_write_string(w, "token", a->token);
    json_write_int(w, "batch", a->config.eval.batch);
    json_write_int(w, "tgt_len", a->config.eval.tgt_len);
    json_write_int(w, "mem_len", a->config.eval.mem_len);
    write_result(w, &a->whole);
    if (a->row_count == 0)
        return;
    json_write_array(w, "nfe");
    for (int i = 0; i < a->row_count; i++) {
        json_write_object(w, NULL);
        json_write_int(w, "evaluations", a->nfe[i]);
        write_result(w, &a->rows[i]);
        json_write_end(w);
    }
    json_write_end(w);
}

const char *eval_token_name(const struct vocab *vocab)
{
    switch (vocab_rule(vocab).split) {
    case TEXT_SPLIT_BYTES:
        return "byte";
    case TEXT_SPLIT_SUBWORDS:
        return "subword";
    case TEXT_SPLIT_IDS:
        return "id";
    default:
        return "word";
    }
}

/* "5.12 per byte (nll ...), 8040 per word, ..." */
static void print_perplexity(const struct eval_report *a)
{
    const struct evaluation_result *m = &a->whole;
    bool bytes = strcmp(a->token, "byte") == 0;
    printf("  perplexity     %.3f per %s (nll %.5f)", m->ppl, bytes ? "byte" : "token", m->nll);
    if (isfinite(m->ppl_word)) /* of many bytes it can be any number */
        printf(bytes ? ", %.4g per word" : ", %.3f per word", m->ppl_word);
    if (m->unknown > 0)
        printf(", %.4f bits per byte of known words", m->bits_per_byte_known);
    else if (isfinite(m->bits_per_byte)) /* of token files the bytes are not known */
        printf(", %.4f bits per byte", m->bits_per_byte);
    putchar('\n');
}

/* Says where figures are of another text than the one that was given. */
void eval_warn(const struct request *r, const struct eval_report *a)
{
    output_warn_unknown("eval", a->whole.unknown, "scored",
                        r->text != NULL ? r->text : a->config.data.dir);
}

static void print_leak(const struct eval_report *a)
{
    const struct evaluation_result *m = &a->whole;
    if (m->leak_positions > 0)
        printf("  leak           %.3g nats at most (mean %.3g, %lld positions tested)\n",
               m->leak_max, m->leak_mean, (long long)m->leak_positions);
    else
        printf("  leak           nothing to test, since %s\n",
               a->config.model.vocab_size < 2 ? "a vocabulary of one word has no other token"
                                              : "segments are too short to have later tokens");
}

void eval_print(const struct request *r, const struct eval_report *a)
{
    const struct evaluation_result *m = &a->whole;
    if (r->text != NULL)
        printf("%s (step %lld) on %s\n", a->checkpoint, (long long)a->step, r->text);
    else
        printf("%s (step %lld) on %s of %s\n", a->checkpoint, (long long)a->step, r->split,
               a->config.data.dir);
    if (isfinite(m->nll_recall))
        printf("  loss           %.4g over all positions, %.4g a recalled symbol (%.3f %% right)\n",
               m->nll, m->nll_recall, 100 * m->recalled);
    else
        print_perplexity(a);
    if (m->unknown > 0)
        printf("  unknown        %.2f %% of the scored tokens are <unk>\n", 100 * m->unknown);
    if (r->text != NULL)
        printf("  tokens scored  %lld of %lld, each in a context of up to %lld\n",
               (long long)m->tokens, (long long)a->tokens,
               (long long)(a->config.eval.mem_len + a->config.eval.tgt_len));
    else
        printf("  tokens scored  %lld of %lld; %lld streams, segments of %lld, memory of %lld\n",
               (long long)m->tokens, (long long)a->tokens, (long long)a->config.eval.batch,
               (long long)a->config.eval.tgt_len, (long long)a->config.eval.mem_len);
    printf("  evaluations    %.2f a position (%lld at most; %.2f computed)", m->nfe_mean,
           (long long)m->nfe_max, m->nfe_paid);
    if (isfinite(m->rel_mean))
        printf(", residual %.2e (%.2e at most)", m->rel_mean, m->rel_max);
    putchar('\n');
    printf("  operations     %.3g MFLOP a position\n", 1e-6 * m->flops);
    if (r->text == NULL)
        print_leak(a);
    if (m->radius_sequences > 0)
        printf(
            "  spectral radius  %.3f on average, %.3f at most (%lld sequences; Rayleigh quotient "
            "as published: %.3f)\n",
            m->radius_mean, m->radius_max, (long long)m->radius_sequences, m->rayleigh_mean);
    printf("  speed          %.0f tokens/s (%.1f s)\n", m->tokens_per_s, m->seconds);
}

void eval_print_nfe_head(void)
{
    printf("evaluations  perplexity        nll  residual  (at most)      leak     (mean)  "
           "tokens/s\n");
}

void eval_print_nfe_row(int64_t nfe, const struct evaluation_result *m)
{
    printf("%11lld  %10.3f  %9.5f  %8.2e  %8.2e", (long long)nfe, m->ppl, m->nll, m->rel_mean,
           m->rel_max);
    if (m->leak_positions > 0)
        printf("  %8.3g  %9.3g", m->leak_max, m->leak_mean);
    else
        printf("  %8s  %9s", "-", "-");
    printf("  %8.0f\n", m->tokens_per_s);
}

/* --- several checkpoints ------------------------------------------------------------------------
 */

void eval_print_table_head(void)
{
    printf("       ppl        nll    ppl_word  bits/byte  unknown    tokens    nfe     step  "
           "checkpoint\n");
}

/* A figure, or - where it has no meaning. */
static void print_figure(const char *format, int width, double value)
{
    if (isfinite(value))
        printf(format, width, value);
    else
        printf("%*s", width, "-");
}

void eval_print_table_row(const struct eval_report *a)
{
    const struct evaluation_result *m = &a->whole;
    bool paid = m->unknown == 0;
    print_figure("%*.3f", 10, m->ppl);
    print_figure("%*.5f", 11, m->nll);
    print_figure("%*.4g", 12, m->ppl_word);
    print_figure("%*.4f", 10, paid ? m->bits_per_byte : m->bits_per_byte_known);
    printf("%s%7.2f%%  %8lld", paid ? " " : "*", 100 * m->unknown, (long long)m->tokens);
    printf("  %5.1f  %7lld  %s\n", m->nfe_mean, (long long)a->step, a->checkpoint);
}

void eval_print_table_failure(const char *checkpoint)
{
    printf("%10s%11s%12s%10s %8s  %8s  %5s  %7s  %s: failed\n", "-", "-", "-", "-", "-", "-", "-",
           "-", checkpoint);
}
