/* Sums over scored tokens. */
#include "score/tally.h"

#include <math.h>

void score_tally_add(struct score_tally *t, const struct score_token *token, bool unknown,
                     int64_t bytes)
{
    t->tokens++;
    t->bytes += bytes;
    t->logp += token->logp;
    t->evals += token->evals;
    if (token->evals > t->evals_max)
        t->evals_max = token->evals;
    t->residual += token->residual;
    if (!(token->residual <= t->residual_max)) /* a NaN stays */
        t->residual_max = token->residual;
    if (unknown) {
        t->unknown++;
        return;
    }
    t->known_bytes += bytes;
    t->known_logp += token->logp;
}

void score_tally_merge(struct score_tally *t, const struct score_tally *more)
{
    t->tokens += more->tokens;
    t->unknown += more->unknown;
    t->bytes += more->bytes;
    t->known_bytes += more->known_bytes;
    t->logp += more->logp;
    t->known_logp += more->known_logp;
    t->evals += more->evals;
    if (more->evals_max > t->evals_max)
        t->evals_max = more->evals_max;
    t->residual += more->residual;
    if (!(more->residual_max <= t->residual_max))
        t->residual_max = more->residual_max;
}

double score_ppl(const struct score_tally *t)
{
    return t->tokens > 0 ? exp(-t->logp / (double)t->tokens) : NAN;
}

double score_ppl_known(const struct score_tally *t)
{
    int64_t known = t->tokens - t->unknown;
    return known > 0 ? exp(-t->known_logp / (double)known) : NAN;
}

double score_bits_per_byte(const struct score_tally *t)
{
    return t->unknown == 0 ? score_bits_per_byte_known(t) : NAN;
}

double score_bits_per_byte_known(const struct score_tally *t)
{
    return t->known_bytes > 0 ? -t->known_logp / (double)t->known_bytes / log(2.0) : NAN;
}
