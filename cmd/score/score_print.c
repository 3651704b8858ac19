/* Prints what deq score finds. */
#include "cmd/score/score.h"

#include "base/clock.h"
#include "base/utf8.h"
#include "cmd/output.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static bool has_unknown(const struct score_output *o)
{
    return vocab_unk(o->vocab) >= 0;
}

static void print_head(struct score_output *o, bool pairs)
{
    if (o->head_printed)
        return;
    o->head_printed = true;
    if (o->tokens) {
        printf("%6s\t%10s\t%6s\t%4s\t%s\n", pairs ? "pair" : "line", "logprob", "rank", "nfe",
               "token");
        return;
    }
    printf("%6s\t%11s\t%7s", pairs ? "pair" : "line", "logprob", "tokens");
    if (pairs)
        printf("\t%6s", "greedy");
    if (has_unknown(o))
        printf("\t%7s\t%10s\t%10s\t%s\n", "unknown", "ppl", "ppl_known", "bits_per_byte_known");
    else
        printf("\t%10s\t%s\n", "ppl", "bits_per_byte");
}

/* A number, or - where there is none. */
static void print_real(const char *format, int width, double value)
{
    if (isfinite(value))
        printf(format, value);
    else
        printf("%*s", width, "-");
}

static void print_figures(const struct score_output *o, const struct score_tally *t)
{
    if (has_unknown(o)) {
        printf("\t%7lld\t", (long long)t->unknown);
        print_real("%10.3f", 10, score_ppl(t));
        putchar('\t');
        print_real("%10.3f", 10, score_ppl_known(t));
        putchar('\t');
        print_real("%.4f", 1, score_bits_per_byte_known(t));
    } else {
        putchar('\t');
        print_real("%10.3f", 10, score_ppl(t));
        putchar('\t');
        print_real("%.4f", 1, score_bits_per_byte(t));
    }
    putchar('\n');
}

/* A piece in a table. What is no visible text stands there as the byte vocabulary spells it. */
static void print_piece(const struct score_output *o, const struct score_piece *p)
{
    if (p->line_end) {
        enum text_split split = vocab_rule(o->vocab).split;
        bool byte = split == TEXT_SPLIT_BYTES || split == TEXT_SPLIT_SUBWORDS;
        fputs(byte ? "<0x0A>" : VOCAB_EOS, stdout);
        return;
    }
    bool text = utf8_check(p->text, p->len) == p->len;
    for (size_t i = 0; i < p->len; i++) {
        unsigned char c = (unsigned char)p->text[i];
        if (c <= ' ' || c == 0x7F || (c >= 0x80 && !text))
            printf("<0x%02X>", c);
        else
            putchar(c);
    }
    if (p->unknown)
        fputs(" (unknown)", stdout);
}

static void write_figures(struct json_writer *w, const struct score_tally *t)
{
    json_write_real(w, "logprob", t->logp);
    json_write_int(w, "tokens", t->tokens);
    json_write_int(w, "unknown", t->unknown);
    json_write_real(w, "ppl", score_ppl(t));
    json_write_real(w, "ppl_known", score_ppl_known(t));
    if (t->unknown > 0)
        json_write_real(w, "bits_per_byte_known", score_bits_per_byte_known(t));
    else
        json_write_real(w, "bits_per_byte", score_bits_per_byte(t));
}

/* The text of a piece. Bytes of a byte model that are no text by themselves are spelled as its
 * vocabulary spells them. */
static void write_text(struct json_writer *w, const struct score_piece *p)
{
    char text[PIECE_TEXT_MAX];
    size_t n = p->len < sizeof text - 1 ? p->len : sizeof text - 1;
    if (p->line_end) {
        json_write_string(w, "text", "\n");
        return;
    }
    if (p->len == 1 && ((unsigned char)p->text[0] >= 0x80 || p->text[0] == '\0')) {
        snprintf(text, sizeof text, "<0x%02X>", (unsigned char)p->text[0]);
    } else {
        memcpy(text, p->text, n);
        text[n] = '\0';
    }
    json_write_string(w, "text", text);
}

static void write_pieces(struct json_writer *w, const struct score_token *tokens,
                         const struct score_piece *pieces, int64_t count)
{
    json_write_array(w, "pieces");
    for (int64_t i = 0; i < count; i++) {
        json_write_object(w, NULL);
        write_text(w, &pieces[i]);
        if (pieces[i].unknown)
            json_write_bool(w, "unknown", true);
        json_write_real(w, "logprob", tokens[i].logp);
        json_write_int(w, "rank", tokens[i].rank);
        json_write_int(w, "nfe", tokens[i].evals);
        json_write_end(w);
    }
    json_write_end(w);
}

enum status score_print(struct score_output *o, const struct score_token *tokens,
                        const struct score_piece *pieces, int64_t count, const bool *greedy,
                        struct error *err)
{
    struct score_tally t = {0};
    for (int64_t i = 0; i < count; i++)
        score_tally_add(&t, &tokens[i], pieces[i].unknown, pieces[i].bytes);
    score_tally_merge(&o->total, &t);
    o->texts++;
    o->greedy += greedy != NULL && *greedy;
    if (o->json) {
        struct json_writer w;
        output_json_begin(&w);
        json_write_int(&w, greedy != NULL ? "pair" : "line", o->texts);
        write_figures(&w, &t);
        if (greedy != NULL)
            json_write_bool(&w, "greedy", *greedy);
        if (o->tokens)
            write_pieces(&w, tokens, pieces, count);
        return output_json_print(&w, err);
    }
    print_head(o, greedy != NULL);
    if (o->tokens) {
        for (int64_t i = 0; i < count; i++) {
            printf("%6lld\t%10.4f\t%6d\t%4d\t", (long long)o->texts, tokens[i].logp,
                   (int)tokens[i].rank, (int)tokens[i].evals);
            print_piece(o, &pieces[i]);
            putchar('\n');
        }
        return STATUS_OK;
    }
    printf("%6lld\t%11.4f\t%7lld", (long long)o->texts, t.logp, (long long)t.tokens);
    if (greedy != NULL)
        printf("\t%6s", *greedy ? "yes" : "no");
    print_figures(o, &t);
    return STATUS_OK;
}

enum status score_print_total(struct score_output *o, const struct scorer *s,
                              const char *checkpoint, struct error *err)
{
    const struct score_tally *t = &o->total;
    double seconds = clock_seconds() - o->start, tokens = (double)t->tokens;
    bool pairs = o->pairs;
    if (!o->json) {
        print_head(o, pairs);
        if (o->tokens) {
            printf("%6s\t%10.4f\t%6s\t%4.1f\t%lld tokens\n", "total", t->logp, "",
                   tokens > 0 ? t->evals / tokens : 0, (long long)t->tokens);
            return STATUS_OK;
        }
        printf("%6s\t%11.4f\t%7lld", "total", t->logp, (long long)t->tokens);
        if (pairs)
            printf("\t%6lld", (long long)o->greedy);
        print_figures(o, t);
        return STATUS_OK;
    }
    struct json_writer w;
    output_json_begin(&w);
    json_write_string(&w, "checkpoint", checkpoint);
    json_write_int(&w, pairs ? "pairs" : "lines", o->texts);
    write_figures(&w, t);
    if (pairs)
        json_write_int(&w, "greedy", o->greedy);
    json_write_real(&w, "nfe_mean", t->evals / tokens);
    json_write_int(&w, "nfe_max", t->evals_max);
    json_write_real(&w, "nfe_paid", s->paid / tokens);
    json_write_real(&w, "residual_mean", t->residual / tokens);
    json_write_real(&w, "residual_max", t->residual_max);
    json_write_int(&w, "unconverged", s->unconverged);
    json_write_real(&w, "seconds", seconds);
    json_write_real(&w, "tokens_per_s", tokens / seconds);
    return output_json_print(&w, err);
}
