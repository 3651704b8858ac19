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
/* What to declare memory for. */
struct vocabulary_plan {
    int64_t capacity; /* tokens of a batch */
    bool train;
    enum phase last_loss; /* the last phase in which a loss is computed */
};

/* Binds declared and committed parameters, which are borrowed, and declares buffers. STATUS_NOMEM.
 */
enum status vocabulary_layers_create(struct vocabulary_layers *v, const struct params *params,
                                     const struct config_model *model, struct workspace *ws,
                                     const struct vocabulary_plan *plan, struct error *err);
void vocabulary_layers_free(struct vocabulary_layers *v);

#endif
