/* Text from a model, token by token.
 *
 * A token costs the solve of one position. The states of earlier positions are known and stand in
 * the cell's memory as keys and values. This is exact, because f is causal and the equilibrium of a
 * position does not depend on later ones.
 *
 * A position attends to as many keys as the last position of an evaluated segment does, which is
 * eval.mem_len + eval.tgt_len, itself included. The model has not seen longer distances, so that
 * the oldest keys are dropped.
 *
 *   generation_model, parameters, model_refresh ; generator_create ; generator_feed (the prompt) ;
 *   { generator_draw ; generator_feed (that token) } ; generator_free ; model_free */
#ifndef DEQ_GENERATE_GENERATION_H
#define DEQ_GENERATE_GENERATION_H

#include "deq/model.h"
#include "generate/sampling.h"

/* The relative residual at which solves stop if the configuration says `fixed`, which is made for
 * training. Measured by deq eval --decode on the King James Bible (tests/research.md). The perplexity is
 * within 0.2 % of the converged one, with half the evaluations that 1e-3 takes. */
#define GENERATION_TOL 3e-2

struct generator {
    struct model *m; /* borrows, of batch 1 */
    struct sampler sampler;
    struct rng_key key;
    int64_t window;    /* keys of a position at most, itself included */
    int64_t positions; /* fed so far */
    double evals;      /* evaluations of f for all of them */
    double *logp;      /* owns [V] of the next token, valid after the first generator_feed */
};

/* Makes a model of one stream with segments of up to eval.tgt_len. `shared` is as for model_create.
 * STATUS_NOMEM, STATUS_DEVICE, STATUS_CONFIG. */
enum status generation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, struct error *err);

/* Checks before anything is allocated that such a model, with its own parameters, fits into the
 * device. STATUS_DEVICE if it does not. STATUS_NOMEM, STATUS_CONFIG. Always STATUS_OK on backends
 * that use the host's memory. */
enum status generation_check_memory(const struct backend *be, const struct config *config,
                                    struct error *err);

/* Makes a generator over a refreshed model of generation_model, and empties the model's memory. The
 * same seed gives the same text on the same device. STATUS_NOMEM. STATUS_CONFIG if eval.max_iter or
 * the tolerance do not fit the solver. */
enum status generator_create(struct generator *g, struct model *m, const struct sampling *how,
                             uint64_t seed, struct error *err);
void generator_free(struct generator *g);

/* Appends tokens[count], count >= 1, to the text. Solves for them in segments and computes the
 * log-probabilities of the token that follows. STATUS_DEVICE, STATUS_NOMEM. */
enum status generator_feed(struct generator *g, const int32_t *tokens, int64_t count,
                           struct error *err);

/* Draws the next token from g->logp. Depends on the seed and on the number of tokens fed.
 * STATUS_CHECK if g->logp holds a number that is no log-probability. */
enum status generator_draw(struct generator *g, int32_t *token, struct error *err);

#endif
