/* The two ends of the language model that depend on the vocabulary, adaptive embedding and adaptive
 * softmax, with their parameters and how the two share them.
 *
 * With tie_weights the softmax's tables are the embedding's. With tie_projs[i] the softmax's
 * projection of cluster i is the embedding's. It is one parameter with the sum of both gradients,
 * or with `compat` two that share their storage, as published. */
#ifndef DEQ_DEQ_VOCABULARY_LAYERS_H
#define DEQ_DEQ_VOCABULARY_LAYERS_H

#include "config/config.h"
#include "nn/adaptive_softmax.h"
#include "nn/embedding.h"
#include "nn/params.h"

struct vocabulary_layers {
    struct embedding embedding;
    struct adaptive_softmax softmax;
    struct cluster_index input, target; /* a batch's tokens, sorted for either */
};

/* Declares the parameters of both. STATUS_NOMEM. */
enum status vocabulary_layers_declare(struct params *params, const struct config_model *model,
                                      struct error *err);
/* Binds declared and committed parameters, which are borrowed, and plans for up to `capacity`
 * tokens a batch. `scratch` as for adaptive_softmax_create. STATUS_NOMEM, STATUS_DEVICE. */
enum status vocabulary_layers_create(struct vocabulary_layers *v, const struct params *params,
                                     const struct config_model *model, int64_t capacity,
                                     const struct tensor *scratch, struct error *err);
void vocabulary_layers_free(struct vocabulary_layers *v, struct backend *be);

#endif
