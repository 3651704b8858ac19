/* From the log-probabilities of the next token to a token. */
#ifndef DEQ_GENERATE_SAMPLING_H
#define DEQ_GENERATE_SAMPLING_H

#include "base/status.h"
#include <stdint.h>

struct sampling {
    double
        temperature;  /* 0: always the most probable token; else log-probabilities divided by it */
    int64_t top_k;    /* > 0: only the k most probable tokens */
    double top_p;     /* < 1: of these only the fewest whose probabilities reach top_p together */
    int64_t excluded; /* this token is never taken, unless it is the only one; -1: none */
};

struct sampler {
    struct sampling how;
    int64_t vocab;
    double *prob;  /* owns [vocab] */
    int32_t *heap; /* owns [vocab] */
};

/* For `vocab` >= 1 tokens. temperature >= 0, top_k >= 0, top_p in (0, 1]. */
enum status sampler_create(struct sampler *s, const struct sampling *how, int64_t vocab,
                           struct error *err);
void sampler_free(struct sampler *s);

/* The token that `u` in [0, 1) picks from logp[vocab]; the same for the same arguments. Of equally
 * probable tokens those of lower ids come first. STATUS_CHECK if one is no log-probability. */
enum status sampler_pick(struct sampler *s, const double *logp, double u, int32_t *token,
                         struct error *err);

#endif
