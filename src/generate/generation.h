/* Text from a model, token by token.
 *
 * A token costs one position: the states of earlier positions are known and stand in the cell's
 * memory as keys and values, so only the new one is solved for. That is exact, not an
 * approximation: f is causal, so the equilibrium of a position does not depend on later ones.
 *
 * A position attends to as many keys as the last one of an evaluated segment does, itself included:
 * eval.mem_len + eval.tgt_len. The model has seen no longer distances; the oldest keys are dropped.
 *
 * Life: generation_model, parameters, model_refresh ; generator_create ; generator_feed (prompt) ;
 * { generator_draw ; generator_feed (that token) } ; generator_free ; model_free. */
#ifndef DEQ_GENERATE_GENERATION_H
#define DEQ_GENERATE_GENERATION_H

#include "deq/model.h"
#include "generate/sampling.h"

/* Where solves stop if the configuration says `fixed`, which is made for training: relative
 * residual. Measured by deq eval --decode on the King James Bible (README): the perplexity is then
 * within 0.2 % of the converged one, at half the evaluations that 1e-3 takes. */
#define GENERATION_TOL 3e-2

struct generator {
    struct model *m; /* borrows, batch 1 */
    struct sampler sampler;
    struct rng_key key;
    int64_t window;    /* keys of a position at most, itself included */
    int64_t positions; /* fed so far */
    double evals;      /* evaluations of f they took, summed */
    double *logp;      /* owns [V] of the next token, valid once something was fed */
};

/* A model for generation: one stream, segments of up to eval.tgt_len. `shared` as for
 * model_create. */
enum status generation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, struct error *err);

/* STATUS_DEVICE if such a model of its own does not fit into the device; STATUS_OK on backends
 * without memory of their own. */
enum status generation_check_memory(const struct backend *be, const struct config *config,
                                    struct error *err);

/* A generator over a refreshed model of generation_model; the model's memory is emptied. The same
 * seed gives the same text on the same device. */
enum status generator_create(struct generator *g, struct model *m, const struct sampling *how,
                             uint64_t seed, struct error *err);
void generator_free(struct generator *g);

/* Appends tokens[count], count >= 1, to the text: solves for them in segments and computes the
 * log-probabilities of the token after the last. */
enum status generator_feed(struct generator *g, const int32_t *tokens, int64_t count,
                           struct error *err);

/* Draws the next token from g->logp; a function of the seed and of the number of tokens fed. */
enum status generator_draw(struct generator *g, int32_t *token, struct error *err);

#endif
