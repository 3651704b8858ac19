/* Frequency clusters of the adaptive embedding and softmax (Grave et al. 2017, Baevski & Auli
 * 2019), and the sorting of one batch's tokens into them.
 *
 * Cluster i holds tokens [end[i], end[i+1]). Without cutoffs there is one cluster. */
#ifndef DEQ_NN_CLUSTERS_H
#define DEQ_NN_CLUSTERS_H

#include "backend/workspace.h"

enum { CLUSTERS_MAX = 17 };

struct clusters {
    int count;                     /* n + 1 for n cutoffs */
    int64_t end[CLUSTERS_MAX + 1]; /* 0, c_1, ..., c_n, V */
    int64_t width[CLUSTERS_MAX];   /* E / div_val^i */
};

/* The tokens of one batch by cluster. Cluster i has entries [start[i], start[i+1]) of `pos`
 * (position in the batch) and `local` (id inside the cluster), in order of position. */
struct cluster_index {
    int64_t start[CLUSTERS_MAX + 1];
    struct tensor pos, local;       /* I32 [capacity], in a workspace */
    int32_t *host_pos, *host_local; /* owns */
    int64_t capacity;
};

/* cutoffs[n] ascending and below vocab. */
void clusters_init(struct clusters *c, const int64_t *cutoffs, int n, int64_t vocab, int64_t width,
                   int64_t div_val);
int clusters_find(const struct clusters *c, int64_t token);

/* Declares the lists of up to `capacity` tokens, which live as long as `life`, and allocates their
 * copies on the host. STATUS_NOMEM. */
enum status cluster_index_create(struct cluster_index *ix, struct workspace *ws, int64_t capacity,
                                 struct lifetime life, struct error *err);
void cluster_index_free(struct cluster_index *ix);
/* Sorts n <= capacity host tokens and uploads the lists. */
void cluster_index_set(struct cluster_index *ix, struct backend *be, const struct clusters *c,
                       const int32_t *tokens, int64_t n);

/* The list of one cluster as I32 views. */
static inline int64_t cluster_size(const struct cluster_index *ix, int i)
{
    return ix->start[i + 1] - ix->start[i];
}

static inline struct tensor cluster_pos(const struct cluster_index *ix, int i)
{
    return tensor_slice(&ix->pos, ix->start[i], cluster_size(ix, i));
}

static inline struct tensor cluster_local(const struct cluster_index *ix, int i)
{
    return tensor_slice(&ix->local, ix->start[i], cluster_size(ix, i));
}

#endif
