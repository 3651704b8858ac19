/* Choosing a token from the log-probabilities of all.
 *
 * The filters are those of llama.cpp, in the order in which it applies them: the penalty on
 * repetition, top-k, top-p, min-p, temperature. Each filter sees the probabilities that the ones
 * before it left, and the temperature reweighs what all of them left. */
#ifndef DEQ_GENERATE_SAMPLING_H
#define DEQ_GENERATE_SAMPLING_H

#include "base/status.h"
#include <stdbool.h>
#include <stdint.h>

struct sampling {
    double temperature; /* divides the logits of what is left; 0 takes the most probable token */
    int64_t top_k;      /* > 0 keeps only the k most probable tokens */
    double top_p;       /* < 1 keeps the fewest of these whose probabilities reach top_p together */
    double min_p; /* > 0 keeps only tokens with this share of the likeliest one's probability */
    /* Divides the logits of tokens that stand in the text just before, where they are positive, and
     * multiplies the others (Keskar et al. 2019). 1 does nothing. */
    double repeat_penalty;
    int64_t repeat_last; /* tokens just before that count */
    int64_t excluded;    /* a token that is taken only if there is no other, or -1 */
};

/* Draws from the model's own distribution. */
#define SAMPLING_PLAIN \
    ((struct sampling){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .excluded = -1})

struct sampler {
    struct sampling how;
    int64_t vocab;
    double *score; /* owns [vocab], log-probabilities under the penalty */
    double *prob;  /* owns [vocab] */
    int32_t *heap; /* owns [vocab] */
    bool *seen;    /* owns [vocab], all false between calls */
};

/* What a choice depends on. */
struct sampler_input {
    const double *logp;    /* [vocab] */
    double log_sum;        /* logp + log_sum are the logits, which only the penalty needs */
    const int32_t *recent; /* [recent_count] tokens just before, for the penalty */
    int64_t recent_count;
    double u; /* in [0, 1) */
};

/* Makes a sampler for `vocab` >= 1 tokens, with temperature >= 0, top_k >= 0, top_p in (0, 1],
 * min_p in [0, 1] and repeat_penalty > 0. STATUS_NOMEM. */
enum status sampler_create(struct sampler *s, const struct sampling *how, int64_t vocab,
                           struct error *err);
void sampler_free(struct sampler *s);

/* Picks a token. The result depends on the arguments only. Of equally probable tokens those with
 * lower ids come first. STATUS_CHECK if a number is no log-probability. */
enum status sampler_pick(struct sampler *s, const struct sampler_input *in, int32_t *token,
                         struct error *err);

#endif
