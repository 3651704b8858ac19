/* Texts from a model, token by token.
 *
 * A token costs the solve of one position. The states of earlier positions are known and stand in
 * the cell's memory as keys and values. This is exact, because f is causal and the equilibrium of a
 * position does not depend on later ones.
 *
 * A position attends to as many keys as the last position of an evaluated segment does, which is
 * eval.mem_len + eval.tgt_len, itself included. The model has not seen longer distances, so that
 * the oldest keys are dropped.
 *
 * Several texts that begin with the same tokens may be made together. A model of one stream reads
 * the tokens they share, and a model of as many streams goes on from there. No text sees another.
 * On the processor in fp32 each is bit for bit the one that would be made alone. On a GPU products
 * of other sizes may round otherwise.
 *
 *   generation_model, parameters, model_refresh ; generation_batch_model for several texts ;
 *   generator_create ; generator_feed (the prompt) ; { generator_draw ; generator_step } ;
 *   generator_free ; model_free */
#ifndef DEQ_GENERATE_GENERATION_H
#define DEQ_GENERATE_GENERATION_H

#include "deq/model.h"
#include "generate/sampling.h"

/* The relative residual at which solves stop if the configuration says `fixed`, which is made for
 * training. Measured by deq eval --decode on the King James Bible (tests/research.md). The
 * perplexity is within 0.2 % of the converged one, with half the evaluations that 1e-3 takes. */
#define GENERATION_TOL 3e-2

/* Texts that are made together at most. Up to so many rows, products on the processor do not let
 * one row see how many there are (backend/cpu/gemm.c). */
enum { GENERATION_STREAMS = 8 };

struct generator_plan {
    struct model *model; /* borrows, refreshed, of generation_model */
    struct model *many;  /* borrows, refreshed, of generation_batch_model, NULL for one text */
    struct sampling how;
    uint64_t seed;
    int64_t first; /* number of the first text, from 0. The texts of a seed differ by it alone. */
};

/* What belongs to one text. */
struct generator_text {
    struct rng_key key;
    int32_t *recent; /* owns [2 * repeat_last] its last tokens, or NULL */
    int64_t recent_count;
};

struct generator {
    struct generator_plan plan;
    struct model *m; /* the one that was fed last */
    struct sampler sampler;
    int64_t streams, window; /* texts, and keys of a position at most, itself included */
    int64_t positions;       /* tokens of each text so far */
    int64_t solved;          /* positions solved for */
    double evals;            /* evaluations of f for all of them */
    double *logp;            /* owns [streams,V] of the next token, valid after generator_feed */
    double *log_sum;         /* owns [streams], see struct sampler_input */
    struct generator_text text[GENERATION_STREAMS];
};

/* Makes a model of one stream with segments of up to eval.tgt_len. `shared` is as for model_create.
 * STATUS_NOMEM, STATUS_DEVICE, STATUS_CONFIG. */
enum status generation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, struct error *err);
/* Makes a model of `streams` streams, 2..GENERATION_STREAMS, with segments of one token. Fails as
 * generation_model. */
enum status generation_batch_model(struct model **out, struct backend *be,
                                   const struct config *config, struct params *shared,
                                   int64_t streams, struct error *err);

/* Checks before anything is allocated that the models for `streams` texts, with their own
 * parameters, fit into the device. STATUS_DEVICE if they do not. STATUS_NOMEM, STATUS_CONFIG.
 * Always STATUS_OK on backends that use the host's memory. */
enum status generation_check_memory(const struct backend *be, const struct config *config,
                                    int64_t streams, struct error *err);

/* Makes a generator and empties the models' memories. The same seed gives the same texts on the
 * same device. STATUS_NOMEM. STATUS_CONFIG if eval.max_iter or the tolerance do not fit the solver.
 */
enum status generator_create(struct generator *g, const struct generator_plan *plan,
                             struct error *err);
void generator_free(struct generator *g);

/* Appends tokens[count], count >= 1, to the only text, or to all while none has a token of its own.
 * Solves for them in segments and computes the log-probabilities of the token that follows.
 * STATUS_DEVICE, STATUS_NOMEM. */
enum status generator_feed(struct generator *g, const int32_t *tokens, int64_t count,
                           struct error *err);
/* Appends tokens[i] to text i. Fails as generator_feed. */
enum status generator_step(struct generator *g, const int32_t *tokens, struct error *err);
/* Empties the memory, so that the text begins anew. Later draws go on in the random numbers. */
void generator_forget(struct generator *g);

/* Draws the next token of every text from g->logp. It depends on the seed, the number of the text
 * and the number of its tokens. STATUS_CHECK if g->logp holds a number that is no log-probability.
 */
enum status generator_draw(struct generator *g, int32_t *tokens, struct error *err);

#endif
