/* Choosing a token from the log-probabilities of all. */
#ifndef DEQ_GENERATE_SAMPLING_H
#define DEQ_GENERATE_SAMPLING_H

#include "base/status.h"
#include <stdint.h>

struct sampling {
    double temperature; /* divides the log-probabilities; 0 takes the most probable token */
    int64_t top_k;      /* > 0 keeps only the k most probable tokens */
    double top_p;       /* < 1 keeps the fewest of these whose probabilities reach top_p together */
    int64_t excluded;   /* a token that is taken only if there is no other, or -1 */
};

struct sampler {
    struct sampling how;
    int64_t vocab;
    double *prob;  /* owns [vocab] */
    int32_t *heap; /* owns [vocab] */
};

/* Makes a sampler for `vocab` >= 1 tokens, with temperature >= 0, top_k >= 0 and top_p in (0, 1].
 * STATUS_NOMEM. */
enum status sampler_create(struct sampler *s, const struct sampling *how, int64_t vocab,
                           struct error *err);
void sampler_free(struct sampler *s);

/* Picks a token from logp[vocab] by `u` in [0, 1). The result depends on the arguments only. Of
 * equally probable tokens those with lower ids come first. STATUS_CHECK if a number is no
 * log-probability. */
enum status sampler_pick(struct sampler *s, const double *logp, double u, int32_t *token,
                         struct error *err);

#endif
