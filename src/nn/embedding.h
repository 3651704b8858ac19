/* Adaptive embedding, e = scale * P_i table_i[x - end_i] (Baevski & Auli 2019). */
#ifndef DEQ_NN_EMBEDDING_H
#define DEQ_NN_EMBEDDING_H

#include "nn/clusters.h"
#include "nn/weight.h"

struct embedding {
    struct clusters clusters;
    int64_t d_model;
    int64_t div_val;
    double scale; /* sqrt(D) in transformers */
    /* With div_val 1 there is one table [V,E] and at most one projection, in entry 0. Otherwise
     * each cluster has one. A projection with data NULL is the identity. borrows. */
    struct weight table[CLUSTERS_MAX]; /* [n_i,E_i] */
    struct weight proj[CLUSTERS_MAX];  /* [D,E_i] */
    /* Rows of a table [capacity, max E_i] and what their projection makes of them
     * [capacity, D], or their gradients, in a workspace. */
    struct tensor rows, mapped, drows, dmapped;
};

/* Declares scratch for batches of up to `capacity` tokens. All other fields must be set. `train`
 * says whether embedding_vjp will be called. */
void embedding_declare(struct embedding *e, struct workspace *ws, int64_t capacity, bool train);

/* out[n,D] for the n tokens in `index` (sorted with embedding_index_clusters). */
void embedding_eval(const struct embedding *e, struct backend *be,
                    const struct cluster_index *index, const struct tensor *out);
/* Accumulates the gradients of tables and projections, given dout [n,D]. */
void embedding_vjp(const struct embedding *e, struct backend *be, const struct cluster_index *index,
                   const struct tensor *dout);

/* The clusters by which tokens must be sorted for this embedding. With one table there is one
 * cluster. */
struct clusters embedding_index_clusters(const struct embedding *e);

#endif
