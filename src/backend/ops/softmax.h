/* Softmax over classes: the cross entropy of a loss, and log-probabilities. */
#ifndef DEQ_BACKEND_OPS_SOFTMAX_H
#define DEQ_BACKEND_OPS_SOFTMAX_H

#include "backend/tensor.h"
#include <stdbool.h>

/* log_softmax  logits[n,C] = log_softmax(logits + bias) in place. bias may be NULL, or have no
 *              data, and is then left out. */
#define SOFTMAX_OPS(OP)                                     \
    OP(softmax_xent, (be, p), const struct softmax_xent *p) \
    OP(log_softmax, (be, logits, bias), const struct tensor *logits, const struct tensor *bias)

/* Cross entropy of n rows over C classes. The bias is added to the logits first.
 *   nll[pos[i]] += lse_i - logit_i[target_i]
 * With `gradient`, the logits become (softmax - onehot) * scale in place. Without it, their content
 * afterwards is unspecified. Targets are in [0, C). */
struct softmax_xent {
    struct tensor logits; /* [n,C] in place */
    struct tensor bias;   /* [C] or NULL */
    struct tensor target; /* I32 [n] */
    struct tensor pos;    /* I32 [n], or NULL for position i */
    struct tensor nll;    /* [N] accumulated */
    bool gradient;
    double scale;
};

#endif
