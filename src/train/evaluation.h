/* Perplexity of a model over a split, and whether its predictions depend on later tokens. */
#ifndef DEQ_TRAIN_EVALUATION_H
#define DEQ_TRAIN_EVALUATION_H

#include "data/stream.h"
#include "deq/model.h"
#include "dist/dist.h"

struct evaluation_options {
    int64_t layers;   /* > 0: plain applications instead of a solve (pre-training phase) */
    int64_t max_iter; /* > 0: exactly so many evaluations of f (or at most, with a stop rule) */
    bool fixed;       /* with max_iter: no stop rule */
    int64_t segments; /* > 0: only the first so many segments */
    int64_t spectrum_segments; /* have their spectral radius estimated, spread likewise; the model
                                  is then one with vjp */
    int64_t leak_segments;     /* so many segments, spread over the split, are tested for leaks */
    struct dist *dist; /* NULL, or ranks that evaluate equal shares of the streams together; they do
                          not estimate spectral radii */
};

struct evaluation_result {
    int64_t tokens;    /* scored */
    double nll;        /* mean, in nats per token */
    double ppl;        /* exp(nll) */
    double nll_recall; /* of a task's records: mean over the positions it is about; NaN in a text */
    double recalled;   /* share of these whose target was more probable than all else together */
    double ppl_word; /* per word (stream_words); <eos> is none, but its loss counts. NaN in a task's
                        records, and where the shards do not know how many words there are */
    double bits_per_byte; /* of the text as it was before it was tokenised; NaN in records */
    double nfe_mean;
    int64_t nfe_max;            /* evaluations of f a position took */
    double nfe_paid;            /* positions evaluated, for each: at least nfe_mean */
    double flops;               /* floating-point operations a position, softmax included */
    double rel_mean, rel_max;   /* residuals of the returned iterates */
    double leak_max, leak_mean; /* change of log-probabilities, nats; NaN if not tested */
    int64_t leak_positions;     /* number of log-probabilities compared */
    /* spectral radius of J at the equilibrium, over sequences of segments; NaN if not estimated */
    double radius_mean, radius_max; /* from the growth of |v J^n| (spectrum.h) */
    double rayleigh_mean;           /* as published */
    int64_t radius_sequences;
    double seconds, tokens_per_s; /* without these tests */
};

/* Called now and then with the tokens scored so far; returns false to stop early. */
typedef bool (*evaluation_progress_fn)(void *ctx, int64_t tokens, double nll_so_far);

/* All ranks of options->dist, which get the same result. Evaluates from the start of the stream,
 * whose batch and length are the model's plan. The model must be refreshed. Memory is reset before
 * and left as it is after. STATUS_STOPPED if `progress` said so. */
enum status evaluation_run(struct model *m, struct stream *stream,
                           const struct evaluation_options *options,
                           struct evaluation_result *result, evaluation_progress_fn progress,
                           void *ctx, struct error *err);

/* A model for evaluation beside, or without, a training: batch, length and memory of `config.eval`.
 * `shared` as for model_create; `vjp`: its spectral radius may be asked for. */
enum status evaluation_model(struct model **out, struct backend *be, const struct config *config,
                             struct params *shared, bool vjp, struct error *err);

/* STATUS_DEVICE if such a model of its own (config resolved, vocab_size known), at the precision
 * that the backend has, does not fit into the device, with the largest eval.batch that would;
 * STATUS_OK on backends without memory of their own. */
enum status evaluation_check_memory(const struct backend *be, const struct config *config, bool vjp,
                                    struct error *err);

#endif
