/* Sums over scored tokens, and the figures that follow from them. */
#ifndef DEQ_SCORE_TALLY_H
#define DEQ_SCORE_TALLY_H

#include "score/scorer.h"

struct score_tally {
    int64_t tokens, unknown;    /* scored, and those of them that are <unk> */
    int64_t bytes, known_bytes; /* of the text that they stand for, of all and of the others */
    double logp, known_logp;    /* natural */
    double evals;
    int64_t evals_max;
    double residual, residual_max; /* the sum, and the largest */
};

/* Adds a token that stands for `bytes` bytes of the text. */
void score_tally_add(struct score_tally *t, const struct score_token *token, bool unknown,
                     int64_t bytes);
/* Adds what `more` has summed. */
void score_tally_merge(struct score_tally *t, const struct score_tally *more);

/* Perplexity a token, and of the tokens that are not <unk>. NaN without any. */
double score_ppl(const struct score_tally *t);
double score_ppl_known(const struct score_tally *t);
/* NaN where a token is <unk>, whose bytes no loss pays for, and without bytes. */
double score_bits_per_byte(const struct score_tally *t);
/* The loss of the tokens that are not <unk> for each byte of theirs. NaN without any. */
double score_bits_per_byte_known(const struct score_tally *t);

#endif
