/* Adaptive softmax and its negative log-likelihood (Grave et al. 2017). With one cluster it is an
 * ordinary softmax.
 *
 *   logit_i(q) = A_i (Q_i^T q) + b_i ;  head = cluster 0 followed by one row per further cluster,
 *   cluster i >= 1 standing at column head_size - i.
 *
 * Logits exist only for a chunk of rows at a time. Loss and gradient are computed in one pass.
 * Where products take low-precision factors (ops.h), each table is rounded once for a loss and not
 * once for a chunk, and so is the gradient of a chunk's logits for the two products that take it.
 */
#ifndef DEQ_NN_ADAPTIVE_SOFTMAX_H
#define DEQ_NN_ADAPTIVE_SOFTMAX_H

#include "nn/clusters.h"
#include "nn/weight.h"

struct adaptive_softmax {
    struct clusters clusters;
    int64_t d_model;
    /* All are borrowed. table[i] is A_i [n_i,E_i], proj[i] is Q_i [D,E_i] or without data the
     * identity, and bias[i] is [n_i]. n further clusters have cluster rows [n,E_0] and bias [n]. */
    struct weight table[CLUSTERS_MAX], proj[CLUSTERS_MAX], bias[CLUSTERS_MAX];
    struct weight cluster_rows, cluster_bias;
    int64_t chunk_numbers; /* logits held at once, at most (one row at least) */
    /* In a workspace. */
    struct tensor logits;                /* [chunk_numbers] */
    struct tensor head_bias, head_dbias; /* [head size] */
    struct tensor hidden, dhidden;       /* [capacity, D] gathered rows of a tail cluster */
    struct tensor low, dlow;             /* [capacity, max E_i] projected rows */
    struct tensor target;                /* I32 [capacity] head targets */
    struct tensor rounded;               /* low-precision [chunk_numbers], or no data */
    int32_t *host_target;                /* owns: [capacity] */
};

/* Declares scratch for up to `capacity` rows, for calls while `life` lasts. Fields above `logits`
 * must be set. `train` says whether gradients will be wanted. STATUS_NOMEM. */
enum status adaptive_softmax_create(struct adaptive_softmax *s, struct workspace *ws,
                                    int64_t capacity, struct lifetime life, bool train,
                                    struct error *err);
void adaptive_softmax_free(struct adaptive_softmax *s);

/* The loss of n rows, n <= capacity. */
struct softmax_loss {
    struct tensor q;                   /* [n,D] */
    const int32_t *targets;            /* borrows [n], on the host */
    const struct cluster_index *index; /* borrows, and has sorted them by s->clusters */
    struct tensor nll;                 /* [n] <- -log p(target | q) */
    struct tensor dq; /* [n,D] <- scale * d(sum nll)/dq, without data if gradients are not wanted */
    double scale;
};

/* Computes nll and, if dq is wanted, dq. Weight gradients are then accumulated. */
void adaptive_softmax_nll(const struct adaptive_softmax *s, struct backend *be,
                          const struct softmax_loss *loss);

/* Host logp[n*V] <- log p(every token | q), n <= capacity rows, for sampling and tests. The bits of
 * a row do not depend on the others. log_sum[n], unless NULL, gets the log of the sum of the head's
 * exponentials: logp + log_sum are the logits of the head's words. Synchronises once a cluster and
 * row. STATUS_NOMEM. */
enum status adaptive_softmax_logp(const struct adaptive_softmax *s, struct backend *be,
                                  const struct tensor *q, double *logp, double *log_sum,
                                  struct error *err);

#endif
