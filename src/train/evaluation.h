/* Perplexity of a model over a split, and whether its predictions depend on later tokens. */
#ifndef DEQ_TRAIN_EVALUATION_H
#define DEQ_TRAIN_EVALUATION_H

#include "data/stream.h"
#include "deq/model.h"
#include "dist/dist.h"

struct evaluation_options {
    int64_t layers;   /* > 0: plain applications of f in place of a solve, as in pre-training */
    int64_t max_iter; /* > 0: evaluations of f at most */
    bool fixed;       /* solves have no stop rule and always use max_iter */
    int64_t segments; /* > 0: only the first so many segments */
    /* Segments, spread evenly over the split, whose spectral radius is estimated. Needs a model
     * that was created with `vjp`, and one rank. */
    int64_t spectrum_segments;
    int64_t leak_segments; /* segments, spread likewise, that are tested for leaks */
    struct dist *dist; /* borrows ranks that evaluate equal shares of the streams; NULL means one */
    /* Called after each segment with the tokens scored so far and their mean loss in nats. Returns
     * false to stop. May be NULL. */
    bool (*progress)(void *ctx, int64_t tokens, double nll);
    void *ctx; /* borrows, for `progress` */
};

struct evaluation_result {
    int64_t tokens;    /* scored */
    double nll;        /* mean, in nats per token */
    double ppl;        /* exp(nll) */
    double nll_recall; /* mean over the positions that a task asks for, NaN for a text */
    double recalled;   /* fraction of these whose target had a probability above 1/2 */
    /* Per word, as stream_words counts them. <eos> is no word, but its loss counts. NaN for records
     * of a task, and if the shards do not know their number of words. */
    double ppl_word;
    double bits_per_byte; /* of the text before it was tokenized, NaN for records */
    double nfe_mean;      /* evaluations of f that a position took */
    int64_t nfe_max;
    double nfe_paid;            /* evaluations of f made for each position, at least nfe_mean */
    double flops;               /* floating-point operations per position, softmax included */
    double rel_mean, rel_max;   /* residuals of the returned iterates */
    double leak_max, leak_mean; /* change of log-probabilities in nats, NaN if not tested */
    int64_t leak_positions;     /* log-probabilities compared */
    /* Spectral radius of J at the equilibrium, over sequences of segments. NaN if not estimated. */
    double radius_mean, radius_max; /* from the growth of |v J^n|, see deq/spectrum.h */
    double rayleigh_mean;           /* by the published method */
    int64_t radius_sequences;
    double seconds, tokens_per_s; /* without the tests for leaks and spectral radii */
};

/* Collective over options->dist, and every rank gets the same result. Evaluates from the start of
 * the stream, whose batch and length must be those of the model's plan. The model must be
 * refreshed. Its memory is reset before, and afterwards remembers the last segment. STATUS_STOPPED
 * if `progress` returned false. STATUS_CONFIG if the limits do not fit the solver, or if an
 * explicit network is asked for spectral radii. STATUS_DATA and STATUS_IO of the stream.
 * STATUS_NOMEM, STATUS_DEVICE. */
enum status evaluation_run(struct model *m, struct stream *stream,
                           const struct evaluation_options *options,
                           struct evaluation_result *result, struct error *err);

/* Makes a model for evaluation with batch, length and memory of `config.eval`. `shared` is as for
 * model_create. With `vjp` its spectral radius may be estimated. STATUS_NOMEM, STATUS_DEVICE,
 * STATUS_CONFIG. */
enum status evaluation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, bool vjp, struct error *err);

/* Checks before anything is allocated that a model with its own parameters fits into the device, at
 * the precision that the backend has. The configuration must be resolved and vocab_size known.
 * STATUS_DEVICE if it does not fit, with the largest eval.batch that would. STATUS_NOMEM,
 * STATUS_CONFIG. Always STATUS_OK on backends that use the host's memory. */
enum status evaluation_check_memory(const struct backend *be, const struct config *config, bool vjp,
                                    struct error *err);

#endif
